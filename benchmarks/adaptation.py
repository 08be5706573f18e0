"""Measures the cost of one adaptation: generated in the cloud, or learned in an epoch of training.

    python -m benchmarks.adaptation

1,000 devices, width 32, 3,706 items, one thread, random parameters (values do not change the
speed). In CPU microseconds per device:

- *generation*: reports to messages in the cloud (``answer``), and messages to layers on the devices
  (``receive``);
- *fine-tuning*: one epoch over 64 labelled examples with 4 negatives each, batched over the
  devices: a single step over all of them (``head``, ``all``), and eight steps over 8 (``head,
  mini-batches``), as an epoch is understood usually.

How near are the editor and the edited head, on 8 sequences a device (GRU4Rec, SASRec) or their 800
candidates (DIN), to their matrix products alone, without activations, gates or clipping, and to the
same function written by hand? Ours looks up the maps of single items in tables that are made once,
when training ends (``table``: their cost). And in training, what do generated layers cost in chunks
and with the layers of all examples at once (DIN, 1,024 examples of 5 rows)?
"""

import os
from collections.abc import Callable
from functools import partial
from typing import TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.support.bare_products import editor_and_head, training_heads
from benchmarks.support.measure import close, interleaved, own_cpu_s
from cdc_flower.core.seeds import generator, torch_generator
from cdc_flower.core.stream import LabelledBatch
from cdc_flower.devices.decoders.deployment import deploy
from cdc_flower.devices.decoders.receive import receive
from cdc_flower.devices.state import DeviceStates
from cdc_flower.models import device_model
from cdc_flower.models.layers import tanh_
from cdc_flower.strategies.apg import Apg
from cdc_flower.strategies.base import Cloud, deployed_settings
from cdc_flower.strategies.duet import Duet
from cdc_flower.strategies.generation import GenerationStrategy
from cdc_flower.strategies.persona import Persona
from cdc_flower.strategies.persona.prototypes import Bank
from cdc_flower.tasks.recommendation.cut_streams import event_stream
from cdc_flower.tasks.recommendation.events import EventTable
from cdc_flower.training.fit import LocalTraining, train_on_devices
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.identity import ensure_identity

NUM_DEVICES = 1000
NUM_ITEMS = 3706
NUM_EXAMPLES = 64
NUM_NEGATIVES = 4
REPEATS = 5
Kind = TypeVar("Kind", bound=GenerationStrategy)
MODELS = ("gru4rec", "sasrec", "din")
GENERATED: dict[str, tuple[type[GenerationStrategy], dict[str, object]]] = {
    "persona, N = 1": (Persona, {"num_prototypes": 1}),
    "persona, N = 5, static": (Persona, {"num_prototypes": 5, "assignment": "static"}),
    "persona, N = 5, dynamic": (Persona, {"num_prototypes": 5}),
    "duet": (Duet, {}),
    "apg": (Apg, {}),
}


def cloud_of(name: str) -> Cloud:
    """Makes a cloud with random parameters and hardly any history: nothing is trained here."""
    draw = generator(0, "adaptation", "items")
    items = draw.integers(1, NUM_ITEMS + 1, 40 * 12).astype(np.int32)
    items[0] = NUM_ITEMS
    names = [str(item) for item in range(NUM_ITEMS)]
    events = EventTable(
        np.arange(0, 40 * 12 + 1, 12), items, None, names[:40], names, "random items"
    )
    history = event_stream(events, num_segments=1, seed=0).historical()
    model = device_model(name, NUM_ITEMS)
    return Cloud(model, model.init(torch_generator(0, "model")), history, history, seed=0)


def prepared(kind: Callable[..., Kind], settings: dict[str, object], cloud: Cloud) -> Kind:
    """Makes a strategy like a trained one: no decoder is zero and no group is empty.

    Args:
        kind: Class of the strategy.
        settings: Its options.
        cloud: With the base model.
    """
    strategy = kind(epochs=0, **settings)
    strategy.prepare(cloud)
    if isinstance(strategy, Persona):
        draw = torch_generator(0, "decoders")
        strategy.editors = [
            {
                key: value + 0.01 * torch.randn(value.shape, generator=draw)
                if "decoder" in key
                else value
                for key, value in editor.items()
            }
            for editor in strategy.editors
        ]
        strategy.global_editor = strategy.editors[0]
        if strategy.num_prototypes > 1:
            centers = torch.randn(strategy.bank.centers.shape, generator=draw)
            strategy.bank = strategy.trained_bank = Bank.of(strategy.bank.trained, centers)
    return strategy


def generation(strategy: GenerationStrategy) -> Callable[[], None]:
    """Makes the work from the reports of all devices to the layers that they use."""
    model = strategy.cloud.model
    node_ids = np.arange(2, NUM_DEVICES + 2)
    history = (
        generator(0, "adaptation", "reports")
        .integers(1, NUM_ITEMS + 1, (NUM_DEVICES, 10))
        .astype(np.int32)
    )
    reports = MessageBatch(
        records.TRAIN_REPORT,
        node_ids,
        arrays={records.REPORT: {records.HISTORY: history}},
        is_reply=True,
    )
    deployed = {name: np.asarray(value) for name, value in strategy.deployment().items()}
    states = deploy(
        DeviceStates(np.arange(NUM_DEVICES)),
        deployed,
        tuple(model.adaptive),
        deployed_settings(strategy),
    )

    def run() -> None:
        for messages in strategy.answer(reports):
            receive(messages, states.select(np.arange(len(messages))), model.adaptive)

    return run


def rows_of(arrays: Arrays, rows: NDArray[np.int64]) -> Arrays:
    """Takes some rows of every array."""
    return {name: value[rows] for name, value in arrays.items()}


def fine_tuning(cloud: Cloud, layers: str, batch_size: int) -> Callable[[], None]:
    """Makes the work of one epoch on all devices, each with examples of its own.

    Args:
        cloud: With the base model.
        layers: ``head`` or ``all``, those that are trained.
        batch_size: Examples of a device in a step.
    """
    draw = generator(0, "adaptation", "examples")
    total = NUM_DEVICES * NUM_EXAMPLES
    history = draw.integers(1, NUM_ITEMS + 1, (total, 10)).astype(np.int32)
    candidates = draw.integers(1, NUM_ITEMS + 1, (total, 1 + NUM_NEGATIVES)).astype(np.int32)
    row, slot = np.divmod(np.arange(total), NUM_EXAMPLES)
    parts = []
    for first in range(0, NUM_EXAMPLES, batch_size):
        chosen = (slot >= first) & (slot < first + batch_size)
        counts = np.full(NUM_DEVICES, batch_size)
        parts.append(
            LabelledBatch(
                counts, row[chosen], slot[chosen] - first, history[chosen], candidates[chosen]
            )
        )
    static = cloud.arrays()
    how = LocalTraining(layers=layers, steps=1)
    names = list(cloud.model.adaptive) if layers == "head" else list(static)

    def run() -> None:
        trained = {
            name: np.broadcast_to(static[name], (NUM_DEVICES, *static[name].shape))
            for name in names
        }
        for examples in parts:
            trained = train_on_devices(
                cloud.model,
                static,
                partial(rows_of, trained),
                examples,
                how,
            )

    return run


def repeated(kernel: Callable[[], object], times: int = 100) -> Callable[[], None]:
    """Repeats work that takes too little time to be measured once."""

    def run() -> None:
        for _ in range(times):
            kernel()

    return run


def main() -> None:
    """Measures, prints, and closes."""
    ensure_identity()
    torch.set_num_threads(1)
    ratios: dict[str, float] = {}
    for name in MODELS:
        cloud = cloud_of(name)
        work = {
            label: generation(prepared(kind, knobs, cloud))
            for label, (kind, knobs) in GENERATED.items()
        }
        work["fine-tuning, head, one step"] = fine_tuning(cloud, "head", NUM_EXAMPLES)
        work["fine-tuning, head, mini-batches"] = fine_tuning(cloud, "head", 8)
        work["fine-tuning, all, one step"] = fine_tuning(cloud, "all", NUM_EXAMPLES)
        cpu_s = interleaved(work, own_cpu_s, REPEATS)
        generated = cpu_s["persona, N = 1"]
        for label, seconds in cpu_s.items():
            times = f"{seconds / generated:8.1f} times persona, N = 1" if "fine" in label else ""
            print(f"{name:8} {label:34} {seconds / NUM_DEVICES * 1e6:10,.1f} µs a device {times}")
        ratios[f"{name}_all_to_persona"] = cpu_s["fine-tuning, all, one step"] / generated
        ratios[f"{name}_all_to_persona_5_dynamic"] = (
            cpu_s["fine-tuning, all, one step"] / cpu_s["persona, N = 5, dynamic"]
        )
        ratios[f"{name}_head_to_persona"] = cpu_s["fine-tuning, head, one step"] / generated
        ratios[f"{name}_mini_batches_to_persona"] = (
            cpu_s["fine-tuning, head, mini-batches"] / generated
        )
        functions = editor_and_head(prepared(Persona, {"num_prototypes": 1}, cloud), NUM_DEVICES)
        cpu_s = interleaved(functions, own_cpu_s, 3 * REPEATS, min)
        print(
            f"{name:8} {'table':34} {cpu_s['table'] / cpu_s['ours']:10.2f} times editor and edited "
            "head, once"
        )
        for other in ("by hand", "products"):
            ratio = ratios[f"{name}_editor_to_{other.replace(' ', '_')}"] = (
                cpu_s["ours"] / cpu_s[other]
            )
            print(f"{name:8} {'editor and edited head':34} {ratio:10.2f} times {other}")
    x = torch.randn(320_000)
    kernels = {
        "tanh": x.tanh,
        "ours": lambda: tanh_(x.clone()),
        "copy": x.clone,
        "sigmoid": x.sigmoid,
    }
    cpu_s = interleaved(
        {label: repeated(kernel) for label, kernel in kernels.items()}, own_cpu_s, REPEATS
    )
    for label, seconds in (("sigmoid", cpu_s["sigmoid"]), ("ours", cpu_s["ours"] - cpu_s["copy"])):
        ratio = ratios[f"tanh_to_{label}"] = cpu_s["tanh"] / seconds
        print(f"{'':8} {'PyTorch tanh of 320,000 numbers':34} {ratio:10.2f} times {label}")
    heads = training_heads(device_model("din", NUM_ITEMS).head_sizes, 1024, 1 + NUM_NEGATIVES)
    cpu_s = interleaved(heads, own_cpu_s, REPEATS)
    ratios["din_training_to_at_once"] = cpu_s["ours"] / cpu_s["at once"]
    print(
        f"{'din':8} {'training through generated layers':34} "
        f"{ratios['din_training_to_at_once']:10.2f} times at once"
    )
    most = dict.fromkeys([f"{name}_editor_to_products" for name in MODELS], 1.5)
    least = {
        f"{name}_all_to_{persona}": 50.0
        for name in MODELS
        for persona in ("persona", "persona_5_dynamic")
    }
    close("adaptation", ratios, least | most, at_most=most)


if __name__ == "__main__":
    main()
