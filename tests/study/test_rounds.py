"""Rounds go as Flower's, and a run that stops, is saved and goes on gives the same rows."""

import contextlib
import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp.strategy import FedAdam, FedAvgM
from round_cases import (
    ADWIN,
    LIMITED,
    ON_DRIFT,
    UNCERTAINTY,
    VideoWorld,
    World,
    assert_goes_on,
    gone_on,
    saved_after,
)
from tiny import SETTINGS, Around, cloud, inline, strategy

from cdc_flower.core.errors import UserError
from cdc_flower.core.packing import packed
from cdc_flower.core.saveable import Arrays, restore_nested
from cdc_flower.simulations.deployment import deploy
from cdc_flower.simulations.grids.flower import FlowerGrid
from cdc_flower.simulations.grids.strategy import StrategyGrid
from cdc_flower.simulations.protocol.encoding import Codecs
from cdc_flower.strategies.fedavg.strategy import FedAvg
from cdc_flower.strategies.stock import FederatedOnDevices
from cdc_flower.study.rounds import RoundLoop
from cdc_flower.study.session import Session

pytestmark = pytest.mark.slow  # plays whole runs

every_strategy = pytest.mark.parametrize("name", SETTINGS)


@every_strategy
def test_a_run_that_stops_and_goes_on_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    assert_goes_on(World(name), 2, 4, folder=tmp_path)


def test_links_and_codecs_are_in_use_when_runs_are_saved(tmp_path: Path) -> None:
    saved = assert_goes_on(World("duet"), 3, folder=tmp_path)
    assert saved["links/in_flight/num_payloads"] > 0
    assert not saved["links/rounds/done_s"].size  # their rows are written
    assert saved["links/queues/up/outbox/ticket"].max() >= 0
    assert len(saved["links/queues/waiting/ticket"])
    assert len(saved["links/queues/down/cell/leaves"])
    assert np.ptp(saved["codecs/memory/versions/held"])


@pytest.mark.parametrize(
    "policy", [ON_DRIFT, ADWIN, UNCERTAINTY, LIMITED], ids=["ph", "adwin", "doubt", "limit"]
)
def test_policies_go_on_with_what_they_remember(policy: dict[str, Any], tmp_path: Path) -> None:
    if policy["name"] == "on_drift":
        pytest.importorskip("river")
    world = World("persona", policy, bps=400.0)
    saved = assert_goes_on(world, 3, folder=tmp_path)
    assert saved["requests/spent_bytes"].any() or policy is ADWIN  # which needs more events
    kept = {"on_drift": "policy/sensor/device_ids", "uncertainty": "policy/doubt/device_ids"}
    assert len(saved[f"requests/{kept.get(policy['name'], 'spent_bytes')}"])


@pytest.mark.parametrize("part", ["rounds", "strategy", "devices", "links", "codecs", "requests"])
def test_no_part_can_be_left_as_it_begins(part: str, tmp_path: Path) -> None:
    pytest.importorskip("river")
    world = World("persona", LIMITED if part == "requests" else ON_DRIFT, bps=200.0)
    _, (saved,) = saved_after(world, 3, folder=tmp_path)
    frames = []

    def go_on(session: Session) -> None:
        keeps = {name: each for name, each in session.parts().items() if name != part}
        restore_nested(keeps, saved)
        session.run()

    with contextlib.suppress(ValueError):  # a device may find that a version is not there
        frames.append(world.play(go_on))
    whole = gone_on(world, tmp_path / "3.safetensors", saved)
    assert not frames or not frames[0].equals(whole)


def test_reports_with_a_deadline_go_on(tmp_path: Path) -> None:
    assert_goes_on(World("fedavg", bps=2000.0, deadline_s=20.0), 3, folder=tmp_path)


@pytest.mark.parametrize(
    ("name", "policy"),
    [("cdc_mmpg", ON_DRIFT), ("cdc_mmpg", {**UNCERTAINTY, "rate": 0.3}), ("persona", None)],
    ids=["drift", "doubt", "persona"],
)
def test_on_video_too(name: str, policy: dict[str, Any] | None, tmp_path: Path) -> None:
    if policy is ON_DRIFT:
        pytest.importorskip("river")
    assert_goes_on(VideoWorld(name, policy), 2, folder=tmp_path)


def test_without_links_or_codecs_it_goes_on_as_well(tmp_path: Path) -> None:
    world = World("persona", bps=math.inf, loss=0.0, cell_up_bps=None, cell_down_bps=None)
    world.codecs = Codecs()
    saved = assert_goes_on(world, 3, folder=tmp_path)
    assert not any(name.startswith("codecs") for name in saved)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    saved: Arrays = {}
    World("duet").play(lambda session: (session.run(until=1), saved.update(session.to_arrays())))
    name = "links/ages/in_use_s"

    def refused(arrays: Arrays, text: str, other: str = "duet") -> None:
        with pytest.raises(UserError, match=text):
            World(other).play(lambda session: session.from_arrays(arrays))

    refused({k: v for k, v in saved.items() if k != name}, f"must hold {name}")
    refused({**saved, name: saved[name][:-1]}, rf"{name} .* float64 \[4\], got float64 \[3\]")
    refused({**saved, name: saved[name].astype(np.float32)}, f"{name} .* got float32")
    refused({**saved, "format": np.array(2)}, "format 1, got 2")
    refused({k: v for k, v in saved.items() if not k.startswith("codecs")}, "must have the parts")
    ids = "devices/shard.0/device_ids"
    refused({**saved, ids: saved[ids] + 1}, "same devices, got device 1")
    bank = {f"strategy/state/{key}": value for key, value in strategy("persona").state().items()}
    refused({**saved, **bank}, "a saved strategy must be")


def test_a_grid_that_cannot_be_saved_is_named() -> None:
    built, grid = strategy("static"), FlowerGrid(inline())  # whose devices may be anywhere
    deploy(grid, built)
    session = Session(built, StrategyGrid(grid), 2)
    with pytest.raises(UserError, match=r"all its parts .* got FlowerGrid"):
        session.to_arrays()


class Adam(FederatedOnDevices, FedAdam):
    """Flower's FedAdam, on our devices."""


class Momentum(FederatedOnDevices, FedAvgM):
    """Flower's FedAvgM, on our devices."""


def stock(kind: type) -> Any:
    """A strategy of Flower's with an optimizer in the cloud."""
    more = {"server_momentum": 0.9} if kind is Momentum else {}
    built = kind(steps=2, rate=0.05, max_examples=8, **more)
    built.prepare(cloud())
    return built


class StockWorld(World):
    def built(self) -> Any:
        return stock(Adam if self.name == "adam" else Momentum)


def without_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower samples with Python's global generator: here it takes nodes in their order."""
    monkeypatch.setattr("random.sample", lambda nodes, count: sorted(nodes)[:count])


@pytest.mark.parametrize("name", ["adam", "momentum"])
def test_flowers_optimizers_go_on(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_draws(monkeypatch)
    world = StockWorld(name, bps=math.inf, loss=0.0, cell_up_bps=None, cell_down_bps=None)
    world.codecs = Codecs()
    saved = assert_goes_on(world, 3, folder=tmp_path)
    kept = "m_t" if name == "adam" else "momentum_vector"
    assert len([key for key in saved if key.startswith(f"strategy/{kept}/")]) > 1


@pytest.mark.parametrize("name", ["fedavg", "persona", "adam"])
def test_rounds_go_as_flowers_start(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without_draws(monkeypatch)
    results, sent = [], []
    given = {"train_config": ConfigRecord({"rate": 0.01})}
    given |= {"evaluate_config": ConfigRecord({"server-round": 0})}
    evaluated: list[tuple[int, int]] = []

    def evaluate_fn(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        evaluated.append((server_round, len(arrays)))
        return MetricRecord({"r": server_round}) if server_round != 1 else None

    for ours in (False, True):
        built = stock(Adam) if name == "adam" else strategy(name)
        grid = Around(inline())
        deploy(grid, built)
        grid.sent.clear()
        wrapped, initial = StrategyGrid(grid), built.initial_arrays()
        if ours:
            loop = RoundLoop(built, wrapped, initial, evaluate_fn=evaluate_fn, **given)
            results.append(loop.run(3))
        else:
            results.append(built.start(wrapped, initial, 3, evaluate_fn=evaluate_fn, **given))
        sent.append([(batch.message_type, len(batch), batch.configs) for batch in grid.sent])
    theirs, mine = results
    assert repr(theirs) == repr(mine)
    assert mine.evaluate_metrics_serverapp.keys() == {0, 2, 3}
    assert evaluated[:4] == evaluated[4:]
    assert sent[0] == sent[1]
    for key, array in theirs.arrays.items():
        np.testing.assert_array_equal(array.numpy(), mine.arrays[key].numpy())


def test_a_hook_is_called_after_each_round_and_may_save(tmp_path: Path) -> None:
    rounds: list[tuple[int, int]] = []

    def after(session: Session) -> None:
        session.save(tmp_path / f"{session.done}.safetensors")
        rounds.append((session.done, session.loop.first_round))

    World("static").play(lambda session: session.run(after_round=after))
    assert rounds == [(k, k + 1) for k in range(1, 7)]
    assert len([*tmp_path.iterdir()]) == 6


def changed(built: Any, before: dict[str, Any]) -> set[str]:
    """Attributes that are not what they were, or were not there."""
    return {
        name
        for name, value in vars(built).items()
        if name not in before or shown(value) != before[name]
    }


def shown(value: Any) -> Any:
    """A value in a form that is equal if the value is, down to every array in it."""
    if isinstance(value, dict):
        return {key: shown(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [shown(part) for part in value]
    try:
        return {key: part.tobytes() for key, part in packed(value).items()}
    except TypeError:
        pass
    if hasattr(value, "state_dict"):
        return shown(dict(value.state_dict()))
    if hasattr(value, "get_state"):
        return value.get_state().numpy().tobytes()
    own = getattr(value, "__dict__", None)
    is_ours = type(value).__module__.startswith("cdc_flower.strategies")
    return shown(own) if own is not None and is_ours else id(value)


@pytest.mark.parametrize(
    ("name", "is_video"),
    [*((name, False) for name in SETTINGS), ("cdc_mmpg", True), ("adam", False)],
)
def test_whatever_rounds_change_in_a_strategy_is_saved_or_passes(
    name: str, is_video: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_draws(monkeypatch)
    world = VideoWorld(name) if is_video else StockWorld(name) if name == "adam" else World(name)
    first, other = world.built(), world.built()
    for built in (first, other):
        deploy(world.grid(), built)
    before = {key: shown(value) for key, value in vars(first).items()}
    RoundLoop(first, grid_after(world, first), first.initial_arrays()).run(2)
    wrote = changed(first, before)
    other.initial_arrays()
    other.from_arrays(first.to_arrays())
    missing = {
        key
        for key in wrote - set(type(first).passing)
        if key not in vars(other) or shown(vars(other)[key]) != shown(vars(first)[key])
    }
    assert not missing
    learns = {"persona": "bank", "cloud_fine_tuning": "_layers", "adam": "m_t"}
    assert learns.get(name, "") in {*wrote, ""}  # the comparison sees what is known to change


def grid_after(world: World, built: Any) -> StrategyGrid:
    """A grid on which the strategy is deployed."""
    grid = world.grid()
    deploy(grid, built)
    return StrategyGrid(grid)


class Forgetful(FedAvg):
    """Changes an attribute in each round, and saves it nowhere."""

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        self.last = server_round
        return super().aggregate_train(server_round, replies)


def test_the_comparison_sees_an_attribute_that_is_not_saved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built = strategy("fedavg")
    built.__class__ = Forgetful
    monkeypatch.setattr(World, "built", lambda self: copy.deepcopy(built))
    with pytest.raises(AssertionError, match="last"):
        test_whatever_rounds_change_in_a_strategy_is_saved_or_passes("fedavg", False, monkeypatch)
