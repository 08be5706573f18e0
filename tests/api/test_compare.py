"""A comparison from Python is that of the command line, and takes objects in place of names."""

import logging
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from api_cases import SMALL, Nudge, WideGRU, frame, keep_compositions, small
from flwr.serverapp.strategy import FedAdam, FedMedian
from run_cases import config_of, quiet

import cdc_flower as cdc
from cdc_flower.simulations.requests.policies.every import Every
from cdc_flower.strategies.static import Static
from cdc_flower.study.run import run as run_config
from cdc_flower.tasks.data import StreamShape
from cdc_flower.tasks.data.shifting_interests import InterestsOptions

pytestmark = pytest.mark.slow  # plays whole runs

OPENED: list[str] = []
_watching = [False]


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching[0] and event == "open" and isinstance(arguments[0], str):
        mode, flags = arguments[1], arguments[2]
        if any(letter in (mode or "") for letter in "wax+") or flags & (os.O_WRONLY | os.O_RDWR):
            OPENED.append(arguments[0])
    if _watching[0] and event in ("os.mkdir", "os.rename", "os.symlink"):
        OPENED.append(str(arguments[0]))


sys.addaudithook(_audit)  # for good, but it watches only while it is told to


@contextmanager
def watched() -> Iterator[list[str]]:
    """Lists the files that are opened to be written, and the folders that are made."""
    OPENED.clear()
    _watching[0] = True
    try:
        yield OPENED
    finally:
        _watching[0] = False


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    keep_compositions(monkeypatch)
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_nothing_is_written_without_out(empty_folder: Path) -> None:
    empty_folder.chmod(0o555)
    with watched() as opened:
        found = small(["static", "duet"], config={"strategy.duet.epochs": 1})
        assert found.summary["bytes_up_per_device"].max() > 0 and found._repr_html_()
    empty_folder.chmod(0o755)

    caches = ("__pycache__", "torchinductor")  # of Python and PyTorch, elsewhere
    assert [path for path in opened if not any(name in path for name in caches)] == []
    assert not list(empty_folder.iterdir())
    assert found.strategies == ["static", "duet"]


def test_it_gives_the_table_of_the_command_line_and_with_out_its_folder(tmp_path: Path) -> None:
    keys = {**SMALL, "report": False, "strategy.fast.method": "duet", "strategy.fast.epochs": 1}
    arms = ["static", "fast"]
    found = cdc.compare(arms, devices=6, segments=2, seed=3, network="3g", config=keys)
    overrides = [f"{'+' if key.startswith('strategy') else ''}{key}={keys[key]}" for key in keys]
    told = [
        *overrides,
        "references=[]",
        "network=3g",
        "seed=3",
        "fleet.num_devices=6",
        "num_segments=2",
    ]
    config = config_of("strategies=[static,fast]", *told, f"out={tmp_path / 'cli'}", small=())
    folder = run_config(config, console=quiet())

    loaded = cdc.load(folder)
    for name in ("results", "costs"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(loaded, name))
    assert found.config["command"].startswith("cdc-flower network=3g data=shifting")

    written = cdc.compare(
        {"static": "static", "fast": "duet"},
        **{"devices": 6, "segments": 2, "seed": 3, "network": "3g"},
        config={**SMALL, "report": False, "strategy.fast.epochs": 1},
        out=tmp_path / "api",
    )
    names = {path.name for path in (tmp_path / "cli").iterdir()}
    assert {path.name for path in (tmp_path / "api").iterdir()} == names
    assert {"results.parquet", "config.yaml", "run.log", "summary.csv", "links.yaml"} <= names
    pd.testing.assert_frame_equal(written.results, found.results)


def test_a_strategy_of_ones_own_is_called_as_its_class_and_starts_afresh_each_time() -> None:
    nudge = Nudge(rate=1.0)
    first, again = (small(["static", nudge]) for _ in range(2))
    by_class = small(["static", Nudge], config={"strategy.nudge.rate": 1.0})
    neutral = small({"static": "static", "still": Nudge(rate=0.0)})

    assert first.strategies == ["static", "nudge"]
    assert nudge.rounds == 0 and not hasattr(nudge, "cloud")
    for other in (again, by_class):
        pd.testing.assert_series_equal(first.results["value"], other.results["value"])
    assert not same_values(first, "static", "nudge")
    assert same_values(neutral, "static", "still")


def same_values(run: cdc.Run, one: str, other: str) -> bool:
    """Tells whether two strategies have the same values of all metrics, nothing else considered."""
    rows = run.results
    first, second = (rows.loc[rows["strategy"] == name, "value"] for name in (one, other))
    return np.array_equal(first, second, equal_nan=True)


def test_the_configuration_says_what_an_object_is_and_run_id_counts_it() -> None:
    runs = [small(Nudge(rate=rate)) for rate in (0.5, 0.25)]
    nodes = [run.config["strategy"]["nudge"] for run in runs]  # type: ignore[index]

    assert nodes[0] == {"rate": 0.5, "name": "nudge", "_target_": "api_cases.Nudge"}
    assert nodes[1]["rate"] == 0.25
    assert runs[0].config["command"] == ""
    assert runs[0].results["run_id"][0] != runs[1].results["run_id"][0]


def test_a_model_is_a_class_that_is_made_for_the_data_or_an_object() -> None:
    by_class = small(model=WideGRU, config={"model.width": 4})
    by_object = small(model=WideGRU(60, width=4))

    pd.testing.assert_series_equal(by_class.results["value"], by_object.results["value"])
    assert by_class.config["model"]["history_length"] == 6  # type: ignore[index]
    assert by_class.config["model"]["name"] == "wide_gru"  # type: ignore[index]


class Pool(torch.nn.Module):
    adaptive = ("head",)

    def __init__(self, num_items: int, width: int = 4) -> None:
        super().__init__()
        self.items = torch.nn.Embedding(num_items + 1, width)
        self.head = torch.nn.Linear(width, width)

    def forward(self, history: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        wanted = self.head(self.items(history).mean(1))
        return (self.items(candidates) @ wanted.unsqueeze(-1)).squeeze(-1)


def test_a_model_is_a_plain_module_or_a_class_of_them() -> None:
    by_class = small(model=Pool, config={"model.width": 3})
    by_object = small(model=Pool(60, width=3))

    assert by_class.config["model"]["width"] == 3  # type: ignore[index]
    assert by_object.config["model"]["name"] == "pool"  # type: ignore[index]
    nodes = [small(model=Pool(60)).config["model"] for _ in range(2)]
    assert nodes[0] != nodes[1]  # other weights are another run


def test_a_strategy_is_one_of_flowers_as_it_stands() -> None:
    found = small({"adam": FedAdam(eta=0.1), "median": FedMedian}, config={"cloud.epochs": 1})

    assert found.costs.groupby("strategy", observed=True)["bytes_up"].sum().min() > 0


def test_links_are_a_kind_of_link_or_recorded_rates_of_both_directions() -> None:
    kind = cdc.Network("thin", rate_up_bps=8e3, rate_down_bps=8e3, rtt_s=0.0)
    slow, fast = (cdc.Trace([0, 1, 2], [rate] * 3) for rate in (8e3, 8e6))
    keys = {"strategy.duet.epochs": 1, "network.rtt_s": 0.0}
    own = {"strategy.duet.epochs": 1}
    found = {
        "kind": small("duet", network=kind, config=own),
        "both": small("duet", network=slow, config=keys),
        "pair": small("duet", network=(slow, fast), config=keys),
    }
    latency = {name: run.costs["latency_s"].median() for name, run in found.items()}

    assert latency["both"] == pytest.approx(latency["kind"], rel=1e-6)
    assert 0.1 < latency["pair"] < 0.5 * latency["kind"]
    assert found["kind"].config["network"]["name"] == "thin"  # type: ignore[index]


def test_a_policy_is_a_class_or_an_object() -> None:
    for policy in (Every(n=2), Every):
        found = small("duet", policy=policy, config={"strategy.duet.epochs": 1})
        reports = found.costs.groupby("segment")["num_reports"].sum()
        assert reports.tolist() == [6, 0]
        assert found.config["policy"]["name"] == "every"  # type: ignore[index]


def test_data_are_a_frame_or_a_stream() -> None:
    table = small(data=frame(), own={"data.historical_fraction": 0.5})
    assert table.comparison.results.cells["device_id"].nunique() == 6
    shape = StreamShape(num_segments=3, seed=0, num_devices=5, num_negatives=9)
    stream = InterestsOptions(num_items=60, history_events=20).stream(shape)
    own = cdc.compare("static", data=stream, config={"cloud.epochs": 1})
    named = cdc.compare("static", devices=5, segments=3, config={**SMALL, "num_negatives": 9})

    assert own.config["num_segments"] == 3
    pd.testing.assert_series_equal(own.results["value"], named.results["value"])


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"strategies": "statik"}, "strategies: unknown strategy 'statik'; did you mean 'static'?"),
    ({"strategies": []}, "strategies must be at least one"),
    ({"strategies": 3}, "strategies must be names, classes or objects, got 3"),
    ({"strategies": ["static", Static()]}, "names of their own, got static twice"),
    ({"strategies": [Nudge(), Nudge()]}, "names of their own, got nudge twice"),
    ({"strategies": {"duet": Nudge()}}, "duet is the name of another strategy"),
    ({"strategies": {"a/b": Nudge()}}, "a name must be 1 to 64 letters"),
    ({"strategies": object()}, "strategies must be names, classes or objects"),
    ({"config": {"strategy.nudge.rate": 1}, "strategies": Nudge()}, "set in the object that is"),
    ({"config": {"strategy.nudge.rat": 1}, "strategies": Nudge}, "'rat'; did you mean 'rate'?"),
    ({"config": {"strategy.nudge.rate": -1}, "strategies": Nudge}, "strategy.nudge.rate must be"),
    ({"config": {"seed": 1}}, "config: seed must be given once, got it as the argument seed too"),
    (
        {"config": {"num_segments": 1}},
        "num_segments must be given once, got it as the argument seg",
    ),
    ({"config": {"cloud.epochs": "x"}}, "cloud.epochs must be a whole number >= 0, got x"),
    ({"config": {3: 3}}, "config: a key must be names joined by dots, got 3"),
    ({"network": 3}, "network must be a name, a cdc_flower.Network, a cdc_flower.Trace, a pair"),
    ({"network": cdc.Network("x"), "config": {"network.rtt_s": 1}}, "network.rtt_s must be set in"),
    ({"model": int}, "model must be a name, or a cdc_flower.DeviceModel, a torch.nn.Module"),
    ({"model": torch.nn.Linear}, "model.in_features must be given"),
    ({"model": WideGRU(50)}, "model.num_items must be 60, as the data have, got 50"),
    ({"model": WideGRU, "config": {"model.depth": 2}}, "unknown key 'depth'"),
    ({"model": WideGRU, "config": {"model.width": 0}}, "model: width must be >= 1, got 0"),
    ({"policy": 3}, "policy must be a name, or a cdc_flower.Policy"),
    ({"data": [1, 2]}, "data must be a name, a DataFrame with user, item and time"),
    ({"task": "video_qa", "data": frame()}, "data must give clips with task=video_qa"),
    ({"devices": 0}, "fleet.num_devices must be"),
    ({"devices": "4"}, "fleet.num_devices must be a whole number >= 1 or null, got '4'"),
    ({"seed": None}, "seed must be a whole number >= 0, got null"),
    ({"strategies": ["static", None]}, "must be names, classes or objects of strategies, got None"),
    (
        {"strategies": {"static": "static", "v1.5": "duet"}, "config": {"strategy.v1.5.epoch": 1}},
        "strategy.v1.5: unknown key 'epoch'; did you mean 'epochs'?",
    ),
    ({"baseline": "statik"}, "baseline must be one of static, got 'statik'"),
]


@pytest.mark.parametrize(("given", "text"), MISTAKES, ids=[text[:40] for _, text in MISTAKES])
def test_a_mistake_is_one_sentence_before_anything_is_trained(
    given: dict[str, Any], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdc_flower.study.run.train_cloud", None)
    with pytest.raises(cdc.UserError) as told:
        small(given.pop("strategies", "static"), **given)
    assert text in str(told.value) and "\n" not in str(told.value)


def test_a_stream_of_another_shape_is_refused() -> None:
    shape = StreamShape(num_segments=3, seed=0, num_devices=5, num_negatives=9, history_length=7)
    stream = InterestsOptions(num_items=60, history_events=20).stream(shape)
    for given, text in (
        ({"segments": 2}, "segments must be 3, as the stream has it, got 2"),
        ({"devices": 4}, "devices must be 5, as the stream has it, got 4"),
        ({}, "model.history_length must be 7, as the stream has it, got 10"),
    ):
        with pytest.raises(cdc.UserError, match=text):
            cdc.compare("static", data=stream, **given)


def test_threads_and_loggers_are_left_as_they_were(capfd: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("flwr")
    before = (logger.level, logger.propagate, list(logger.handlers))
    torch.set_num_threads(2)
    try:
        small()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert (logger.level, logger.propagate, list(logger.handlers)) == before
    assert capfd.readouterr() == ("", "")


def test_an_object_that_cannot_be_copied_is_refused() -> None:
    nudge = Nudge()
    nudge.rows = (number for number in range(3))  # type: ignore[attr-defined]
    with pytest.raises(
        cdc.UserError, match=r"strategy\.nudge must be an object that can be copied"
    ):
        small(nudge)


def test_numbers_of_numpy_are_numbers() -> None:
    found = cdc.compare(
        "static",
        devices=np.int64(4),  # type: ignore[arg-type]
        segments=np.int32(2),  # type: ignore[arg-type]
        config={**SMALL, "cloud.rate": np.float32(0.5)},
    )
    assert found.config["cloud"]["rate"] == 0.5  # type: ignore[index]


def test_an_arm_may_have_any_name_that_a_file_may_have() -> None:
    run = small({"static": "static", "v1.5": "fine_tuning", "1e3": "static"})
    assert run.strategies == ["static", "v1.5", "1e3"]
    more = {"strategy.v1.5.steps": 2}
    assert small({"v1.5": "fine_tuning"}, config=more).config["strategy"]["v1.5"]["steps"] == 2


class Listing(cdc.CloudStrategy):
    """Changes a list that it was given."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def deployment(self) -> dict[str, np.ndarray]:
        self.names.append("more")
        return super().deployment()


def test_values_of_a_configuration_stay_as_they_were() -> None:
    names = {"one": ["a"]}
    given = {"strategy.listing.names": names["one"]}
    for _ in range(2):
        small(Listing, config=given)
    assert names == {"one": ["a"]}


def test_comparisons_in_two_threads_wait_for_one_another(
    capfd: pytest.CaptureFixture[str],
) -> None:
    seeds = (0, 1)
    alone = [small("fedavg", seed=seed).results for seed in seeds]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda seed: small("fedavg", seed=seed).results, seeds))
    for one, other in zip(alone, together, strict=True):
        pd.testing.assert_frame_equal(one, other)
    assert capfd.readouterr() == ("", "")


class Shapeless(cdc.Policy):
    """Gives what no device could be told by."""

    given: Any = True

    def decide(self, device_ids: np.ndarray, segment: int) -> Any:
        return self.given


@pytest.mark.parametrize("given", [[1], [True], np.arange(2), np.ones(12)])
def test_a_policy_that_gives_no_truth_value_for_each_device_is_refused(given: Any) -> None:
    policy = Shapeless()
    policy.given = given
    with pytest.raises(cdc.UserError, match=r"^policy: Shapeless.decide must give a truth value"):
        small("duet", policy=policy)
