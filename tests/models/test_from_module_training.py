"""Plain modules in training and in whole runs: as single modules with PyTorch's own optimizers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_cases import NUM_ITEMS, arrays_of, random_ids
from module_cases import Attending, InPlace, OnItems, Outside, PlainGRU4Rec, Pool
from run_cases import config_of, quiet, table_of
from torch import Tensor, nn
from torch.func import functional_call

from cdc_flower.core.errors import UserError
from cdc_flower.core.stream import LabelledBatch
from cdc_flower.models.from_module import from_module
from cdc_flower.models.layers import gru_states
from cdc_flower.models.module import recurrent as recurrent_calls
from cdc_flower.models.module.model import ModuleModel
from cdc_flower.models.registry import model_of, model_options, models
from cdc_flower.strategies.cloud_fine_tuning.strategy import tune
from cdc_flower.strategies.registry import strategies
from cdc_flower.study.check import checked_config
from cdc_flower.study.cloud import train_cloud
from cdc_flower.study.run import run
from cdc_flower.study.setup import prepare
from cdc_flower.training.cloud import no_progress
from cdc_flower.training.fit import LocalTraining, train_on_devices
from cdc_flower.training.scoring import Arrays, tensors

LENGTH = 6
COUNTS = [3, 0, 1, 5, 3]


def examples_of(counts: list[int]) -> LabelledBatch:
    numbers = np.array(counts, np.int64)
    row = np.repeat(np.arange(len(numbers)), numbers)
    slot = np.arange(len(row)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    return LabelledBatch(numbers, row, slot, *random_ids(len(row), history_length=LENGTH))


def starts(model: ModuleModel, layers: str) -> tuple[Arrays, Arrays]:
    """The deployed model, and each device's own start."""
    static, *singles = (
        arrays_of(model.init(torch.Generator().manual_seed(k))) for k in range(1 + len(COUNTS))
    )
    names = model.adaptive if layers == "head" else static
    return static, {key: np.stack([single[key] for single in singles]) for key in names}


def train_alone(
    module: nn.Module, static: Arrays, start: Arrays, how: LocalTraining, device: int
) -> Arrays:
    """One device, with nothing of ours but the examples."""
    examples = examples_of(COUNTS)
    mine = examples.row == device
    ids = [torch.from_numpy(each[mine]).long() for each in (examples.history, examples.candidates)]
    leaves = tensors({key: value[device].copy() for key, value in start.items()})
    for leaf in leaves.values():
        leaf.requires_grad_()
    kind = torch.optim.Adam if how.optimizer == "adam" else torch.optim.SGD
    optimizer = kind(leaves.values(), lr=how.rate)
    labels = torch.zeros(ids[1].shape)
    labels[:, 0] = 1
    for _ in range(how.steps):
        optimizer.zero_grad()
        logits = functional_call(module, {**tensors(static), **leaves}, tuple(ids))
        nn.functional.binary_cross_entropy_with_logits(logits, labels).backward()
        optimizer.step()
    return {key: value.detach().numpy() for key, value in leaves.items()}


@pytest.mark.parametrize("kind", [Pool, PlainGRU4Rec, Attending, Outside, InPlace, OnItems])
@pytest.mark.parametrize("layers", ["head", "all"])
def test_devices_trained_together_equal_each_device_alone(
    kind: type[nn.Module], layers: str
) -> None:
    model = from_module(kind, NUM_ITEMS, history_length=LENGTH)
    static, start = starts(model, layers)
    how = LocalTraining(layers, 4, 0.1, "sgd")
    trained = train_on_devices(
        model,
        static,
        lambda rows: {key: value[rows] for key, value in start.items()},
        examples_of(COUNTS),
        how,
    )
    module = kind(NUM_ITEMS).eval()
    for device, count in enumerate(COUNTS):
        expected = train_alone(module, static, start, how, device) if count else None
        for key, value in trained.items():
            wanted = start[key][device] if expected is None else expected[key]
            np.testing.assert_allclose(value[device], wanted, rtol=1e-3, atol=1e-4)
    assert any(not np.array_equal(trained[key][0], start[key][0]) for key in trained)


def test_the_cloud_trains_on_uploaded_examples_as_devices_do() -> None:
    model = from_module(PlainGRU4Rec, NUM_ITEMS, history_length=LENGTH)
    static, start = starts(model, "head")
    how, examples = LocalTraining(steps=3, rate=0.05), examples_of(COUNTS)
    upload = {"num-examples": examples.num_examples}
    for name, ids in model.to_upload(examples.history, examples.candidates).items():
        upload[name] = np.zeros((len(COUNTS), max(COUNTS), ids.shape[1]), ids.dtype)
        upload[name][examples.row, examples.slot] = ids
    layers = {key: torch.from_numpy(value.copy()) for key, value in start.items()}
    tuned = tune(model, tensors(static), layers, upload, how)
    module = PlainGRU4Rec(NUM_ITEMS).eval()
    for device in (0, 3):
        expected = train_alone(module, static, start, how, device)
        for key, value in tuned.items():
            np.testing.assert_allclose(value[device].numpy(), expected[key], rtol=1e-3, atol=1e-4)
    for key, value in tuned.items():
        np.testing.assert_array_equal(value[1].numpy(), start[key][1])


class Counting(nn.Linear):
    """Counts how often it runs."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        Counting.calls += 1
        return super().forward(x)


class Counted(Pool):
    def __init__(self, num_items: int) -> None:
        super().__init__(num_items)
        self.before = Counting(4, 4)
        self.after = Counting(4, 4)

    def forward(self, history: Tensor, candidates: Tensor) -> Tensor:
        state = self.after(self.head(self.before(self.items(history)).sum(1)))
        return (self.items(candidates) @ state.unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize(("num_items", "making_tables"), [(999, 0), (NUM_ITEMS, 2)])
def test_what_does_not_depend_on_trained_layers_runs_once_for_all_steps(
    num_items: int, making_tables: int
) -> None:
    model = from_module(Counted, num_items, history_length=LENGTH)  # of many no table pays
    static, start = starts(model, "head")
    Counting.calls = 0
    train_on_devices(
        model,
        static,
        lambda rows: {key: value[rows] for key, value in start.items()},
        examples_of(COUNTS),
        LocalTraining(steps=6),
    )
    assert Counting.calls == making_tables + 1 + 6
    assert model.flops(5) - model.head_flops(5) == 2 * LENGTH * 4 * 4


def test_a_gru_with_looked_up_gates_runs_once_for_all_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = []

    def counted(*args: Any) -> Any:
        runs.append(args)
        return gru_states(*args)

    monkeypatch.setattr(recurrent_calls, "gru_states", counted)
    model = from_module(PlainGRU4Rec, NUM_ITEMS, history_length=LENGTH)
    static, start = starts(model, "head")
    train_on_devices(
        model,
        static,
        lambda rows: {key: value[rows] for key, value in start.items()},
        examples_of(COUNTS),
        LocalTraining(steps=6),
    )
    assert len(runs) == 2  # for the tables, and for the examples


def test_what_was_kept_is_not_given_for_other_events_or_other_static_layers() -> None:
    model = from_module(PlainGRU4Rec, NUM_ITEMS, history_length=LENGTH)
    static, start = starts(model, "head")
    shared, leaves = tensors(static), tensors(start)
    for leaf in leaves.values():
        leaf.requires_grad_()
    for change in ("nothing", "events", "a static layer in place"):
        history, candidates = (
            torch.from_numpy(ids).long().view(5, 2, -1)
            for ids in random_ids(10, int(change == "events"), history_length=LENGTH)
        )
        x, _ = model.encode(shared, history, candidates)
        for _ in range(2):
            if change.startswith("a static"):
                shared["gru.weight_ih_l0"].mul_(0.5)
            logits = model.match(model.head({**shared, **leaves}, x), None)
            expected = model.score({**shared, **leaves}, history, candidates)
            torch.testing.assert_close(logits, expected)


class Averaging(Pool):
    """A mean that is no number without an item."""

    def forward(self, history: Tensor, candidates: Tensor) -> Tensor:
        return super().forward(history, candidates) / (history != 0).sum(1, keepdim=True)


@pytest.mark.parametrize("counts", [COUNTS, [2] * 5])
def test_places_without_an_event_spoil_nothing_and_nothing_is_kept_once_training_ends(
    counts: list[int],
) -> None:
    model = from_module(Averaging, NUM_ITEMS, history_length=LENGTH)
    static, start = starts(model, "head")
    trained = train_on_devices(
        model,
        static,
        lambda rows: {key: value[rows] for key, value in start.items()},
        examples_of(counts),
        LocalTraining(steps=2),
    )
    assert all(np.isfinite(value).all() for value in trained.values())
    assert model._memory is not None and not model._memory.kept.calls


@pytest.fixture
def pool_net() -> Any:
    """A module that is registered as a package of one's own would do it."""
    models.register("pool_net")(Pool)
    yield "pool_net"
    del models._entries["pool_net"]


def configured(name: str, *overrides: str) -> dict[str, Any]:
    config = config_of(*overrides)
    config["model"] = {"name": name, **config.pop("own_model", {})}
    return config


def test_options_of_a_module_are_those_of_its_constructor(pool_net: str) -> None:
    assert set(model_options({"name": pool_net})) == {
        "_target_",
        "name",
        "width",
        "adaptive",
        "history_length",
    }
    model = model_of({"name": pool_net, "width": 6, "history_length": 3}, num_items=20)
    assert isinstance(model, ModuleModel) and model.adaptive["head.weight"] == (6, 6)
    assert model.history_length == 3
    with pytest.raises(UserError, match=r"model.width must be a whole number, got wide"):
        model_of({"name": pool_net, "width": "wide"}, num_items=20)
    with pytest.raises(UserError, match="model: unknown key 'depth'"):
        model_of({"name": pool_net, "depth": 2}, num_items=20)


def test_strategies_that_train_play_a_plain_module(pool_net: str, tmp_path: Path) -> None:
    names = ["static", "fine_tuning", "cloud_fine_tuning", "fedavg"]
    config = configured(
        pool_net,
        f"strategies=[{','.join(names)}]",
        "strategy.fine_tuning.rate=0.1",
        "strategy.cloud_fine_tuning.rate=0.1",
        "strategy.fedavg.rate=0.1",
        f"out={tmp_path / 'run'}",
    )
    run(config, console=quiet())
    rows = table_of(tmp_path / "run")
    assert set(rows["strategy"]) == set(names)
    # A share of ordered pairs may be the same by chance; losses are not.
    sums = rows[(rows["metric"] == "log_loss") & (rows["segment"] == 1)].groupby(
        "strategy", observed=True
    )
    loss = sums["value_sum"].sum() / sums["value_count"].sum()
    # Training in the cloud takes the steps that devices take, so the two may agree.
    assert loss.gt(0).all() and loss.drop("cloud_fine_tuning").nunique() == len(names) - 1


def test_strategies_that_generate_layers_are_refused_before_training(
    pool_net: str, tmp_path: Path
) -> None:
    config = configured(pool_net, "strategies=[static,duet]", f"out={tmp_path / 'run'}")
    with pytest.raises(UserError) as refused:
        run(config, console=quiet())
    text = str(refused.value)
    assert text.startswith("strategies: duet generates adaptive layers") and "Pool" in text
    assert "cloud_fine_tuning, fedavg, fine_tuning, static" in text and "\n" not in text
    assert not (tmp_path / "run").exists()


def test_trained_parameters_are_known_by_the_values_that_a_module_starts_with(
    pool_net: str,
) -> None:
    config = checked_config(configured(pool_net, "cloud.epochs=0", "strategies=[static]"))
    stream = prepare(config).stream
    given = [Pool(stream.num_items) for _ in range(2)]
    names = [
        train_cloud(config, stream, from_module(each, stream.num_items), no_progress).identity
        for each in (given[0], given[0], given[1])
    ]
    assert names[0] == names[1] != names[2]


def test_the_page_of_models_is_true(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    assert len(code.splitlines()) <= 30
    names: dict[str, Any] = {"__name__": "page"}
    exec(code, names)
    model = names["model"]
    assert model.ways == {"head": "calls", "all": "whole"}
    # Of 1 event: two layers of the head, and a layer for each of 100 candidates.
    assert f"{2.0 * (2 * 32**2 + 100 * 32**2)} {2.0 * 2 * 32**2}" in capsys.readouterr().out
    playing = {each.name for each in strategies.entries() if not each.value.generates}
    assert all(f"`{name}`" in page for name in [entry.name for entry in strategies.entries()])
    sentence = page.partition("`static`, ")[2].partition(" play such")[0]
    assert {"static", *sentence.replace("`", "").replace(" and", ",").split(", ")} - {""} == playing
