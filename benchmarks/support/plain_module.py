"""Measures a plain ``nn.Module`` as device model against the built-in model of the same network.

Both do the same work with the same numbers of parameters: a round of ``workload.py`` on the inline
grid, gradient steps on the adaptive layers of many devices, and steps on all layers in the cloud
and on devices.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.support import workload
from benchmarks.support.measure import interleaved, own_cpu_s
from cdc_flower.core.stream import LabelledBatch
from cdc_flower.devices.app import DeviceApp
from cdc_flower.models import device_model
from cdc_flower.models.base import DeviceModel
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.tasks.recommendation.task import RECOMMENDATION
from cdc_flower.training.fit import LocalTraining, train_on_devices

NUM_DEVICES = 256
#: Labelled examples of a device, and candidates of each.
NUM_EXAMPLES, NUM_CANDIDATES = 32, 5
#: Devices that train all their layers, which takes far longer.
NUM_WHOLE = 32


class PlainGRU4Rec(nn.Module):
    """GRU4Rec as one writes it in PyTorch."""

    adaptive = ("head",)

    def __init__(self, num_items: int, width: int = 32) -> None:
        super().__init__()
        d = width
        self.embedding = nn.Embedding(num_items + 1, d)
        self.target = nn.Sequential(nn.Linear(d, d), nn.Tanh(), nn.Linear(d, d))
        self.sequence = nn.Linear(d, d)
        self.gru = nn.GRU(d, d, batch_first=True)
        self.head = nn.Sequential(nn.Linear(d, d), nn.Tanh(), nn.Linear(d, d))

    def forward(self, history: Tensor, candidates: Tensor) -> Tensor:
        """Computes logits ``[B, C]``."""
        states, _ = self.gru(torch.tanh(self.sequence(self.embedding(history))))
        last = ((history != 0).sum(-1) - 1).clamp(min=0)
        y = self.head(states[torch.arange(len(history)), last])
        return (self.target(self.embedding(candidates)) @ y.unsqueeze(-1)).squeeze(-1)


def module_ratios(repeats: int) -> dict[str, float]:
    """Measures CPU seconds of the plain module over those of the built-in model, by work."""
    models = {
        "built_in": device_model("gru4rec", workload.NUM_ITEMS),
        "module": DeviceModel.from_module(PlainGRU4Rec, workload.NUM_ITEMS),
    }
    ratios = {}
    for name, work in (
        ("round", _round),
        ("head_steps", lambda model: _steps(model, "head", NUM_DEVICES)),
        ("all_steps", lambda model: _steps(model, "all", NUM_WHOLE)),
        ("cloud_steps", _cloud),
    ):
        pieces = {key: work(model) for key, model in models.items()}
        seconds = interleaved(pieces, own_cpu_s, repeats)
        ratios[name] = seconds["module"] / seconds["built_in"]
        print(
            f"{name.replace('_', ' ')}: nn.Module {1e3 * seconds['module']:,.1f}, "
            f"built-in {1e3 * seconds['built_in']:,.1f} CPU ms"
        )
    return ratios


def _round(model: DeviceModel) -> Callable[[], object]:
    """Makes rounds of 1,000 devices that get a head each and score 8 sequences."""
    stream = workload.FixedStream(workload.NUM_DEVICES)
    app = DeviceApp(model, stream, RECOMMENDATION)
    grid = InlineGrid(app, range(workload.NUM_DEVICES))
    node_ids = np.array(grid.get_node_ids())
    own = workload.heads(app, workload.NUM_DEVICES)
    grid.send_and_receive(workload.deploy(app, node_ids))
    return lambda: [grid.send_and_receive(workload.evaluate(own, node_ids)) for _ in range(3)]


def _steps(model: DeviceModel, layers: str, num_devices: int) -> Callable[[], object]:
    """Makes five steps of Adam on devices, each on examples of its own."""
    rng = np.random.default_rng(0)
    total = num_devices * NUM_EXAMPLES
    examples = LabelledBatch(
        np.full(num_devices, NUM_EXAMPLES),
        np.repeat(np.arange(num_devices), NUM_EXAMPLES),
        np.tile(np.arange(NUM_EXAMPLES), num_devices),
        rng.integers(1, workload.NUM_ITEMS + 1, (total, workload.LENGTH), dtype=np.int32),
        rng.integers(1, workload.NUM_ITEMS + 1, (total, NUM_CANDIDATES), dtype=np.int32),
    )
    static = {key: value.numpy() for key, value in model.init(torch.Generator()).items()}
    names = list(model.adaptive) if layers == "head" else list(static)

    def start(rows: np.ndarray) -> dict[str, np.ndarray]:
        return {name: np.repeat(static[name][None], len(rows), 0) for name in names}

    return lambda: train_on_devices(model, static, start, examples, LocalTraining(layers))


def _cloud(model: DeviceModel) -> Callable[[], object]:
    """Makes twenty gradients of the base model, on 512 examples each."""
    rng = np.random.default_rng(0)
    history, candidates = (
        torch.from_numpy(rng.integers(1, workload.NUM_ITEMS + 1, (512, size)))
        for size in (workload.LENGTH, NUM_CANDIDATES)
    )
    leaves = {name: value.requires_grad_() for name, value in model.init(torch.Generator()).items()}

    def work() -> None:
        for _ in range(20):
            logits = model.score(model.tabulate(leaves), history, candidates)
            model.loss(logits).mean().backward()

    return work
