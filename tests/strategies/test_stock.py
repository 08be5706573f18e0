"""Flower's own strategies play, and make the models that Flower's ``start`` makes of them."""

import copy
import pickle
import pkgutil
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAdam, FedAvg
from stock_cases import (
    CASES,
    LOCAL,
    arrays_after,
    as_flower_builds,
    behind_links,
    every_case,
    stock,
)
from tiny import LABELS, cloud, fleet, inline, strategy, stream, table
from video_tiny import video_cloud, video_inline, video_stream, video_task

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import option, options_of
from cdc_flower.core.registry import Entry
from cdc_flower.simulations.fleet import Fleet, Network, Speeds
from cdc_flower.simulations.grids.codecs import WithCodecs
from cdc_flower.simulations.protocol.encoding import Codecs
from cdc_flower.strategies.base import CloudStrategy
from cdc_flower.strategies.registry import Method, build_class, strategies
from cdc_flower.strategies.stock import (
    FederatedOnDevices,
    on_devices,
    put_on_devices,
    quick_collections,
)
from cdc_flower.strategies.stock_checks import REFUSED
from cdc_flower.study.arms import method_of, strategies_of
from cdc_flower.study.play import play

PAGE = Path(__file__).parents[2] / "docs" / "stock_strategies.md"


def test_every_strategy_of_flowers_is_played_or_refused() -> None:
    known = set(flower.__all__) - {"Result", "Strategy"}
    assert known == set(CASES) | set(REFUSED)
    assert not set(CASES) & set(REFUSED)


@every_case
def test_it_makes_the_model_that_flowers_own_strategy_makes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The order of nodes is that of sums, and decides between equal distances.
    monkeypatch.setattr("random.sample", lambda nodes, count: sorted(nodes)[:count])
    built = stock(name)
    _, grid = behind_links(built)
    with quick_collections():
        theirs = as_flower_builds(name).start(grid, built.initial_arrays(), 3)
    mine = arrays_after(built)
    moved = 0.0
    for key, array in theirs.arrays.items():
        np.testing.assert_allclose(mine[key], array.numpy(), rtol=1e-6, atol=1e-7, err_msg=key)
        moved = max(moved, float(np.abs(mine[key] - built.initial_arrays()[key].numpy()).max()))
    assert moved > 1e-3


@pytest.mark.parametrize(
    "name", ["FedAvg", "Krum", "DifferentialPrivacyServerSideAdaptiveClipping"]
)
def test_samples_and_noise_are_drawn_by_the_runs_seed(name: str) -> None:
    more: dict[str, Any] = {"fraction_train": 0.5}
    if "strategy" in CASES[name]:
        inside = {**CASES[name]["strategy"], **more}
        more = {"strategy": inside, "noise_multiplier": 0.1, "num_sampled_clients": 2}
        more["clipped_count_stddev"] = 6.0
    random.seed(1)
    np.random.seed(1)
    one = arrays_after(stock(name, **more))
    draw = random.random(), np.random.random()
    random.seed(2)
    again = arrays_after(stock(name, **more))
    other = arrays_after(stock(name, seed=5, **more))
    for key in one:
        np.testing.assert_array_equal(one[key], again[key])
    assert any((one[key] != other[key]).any() for key in one)
    random.seed(1)
    np.random.seed(1)
    assert draw == (random.random(), np.random.random()), "what else draws goes on as before"


def test_rounds_sample_other_devices_and_every_device_is_evaluated() -> None:
    built = stock("FedAvg", fraction_train=0.5)
    around, grid = behind_links(built)
    built.start(grid, built.initial_arrays(), 5)
    trained = [set(batch.node_ids) for batch in around.sent if batch.message_type == "train"]
    evaluated = [set(batch.node_ids) for batch in around.sent if batch.message_type == "evaluate"]
    assert {len(nodes) for nodes in trained} == {2}
    assert len(set(map(frozenset, trained))) > 1
    assert all(nodes == {2, 3, 4, 5} for nodes in evaluated)


def test_every_device_has_a_row_in_every_segment() -> None:
    rows = table("fedadam", built=stock("FedAdam", fraction_train=0.5))
    assert (rows.groupby("segment", observed=True).device_id.nunique() == 4).all()
    assert rows.segment.nunique() == 6


def test_it_is_scored_and_waited_for_as_our_fedavg_of_all_devices() -> None:
    network = Network("uneven", 2e3, 2e3, 0.1, spread=1.0)
    links = Fleet.build(4, network, speeds=Speeds(), seed=0)
    ours = strategy("fedavg", layers="head", num_train_devices=4, **LOCAL)
    one, other = (
        table("fedavg", links=links, built=ours),
        table("fedavg", links=links, built=stock("FedAvg")),
    )
    for column in ("value_sum", "value_count", "num_examples", "num_labels", "device_id"):
        np.testing.assert_allclose(one[column], other[column], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(one.latency_s, other.latency_s, rtol=0.1)
    assert one.latency_s.max() > 1.0


def test_float64_is_counted_as_sent_and_rounded_on_devices() -> None:
    built = stock("FedAdam")
    around, grid = behind_links(built)
    built.start(grid, built.initial_arrays(), 2)
    first, _, second, _ = around.sent
    num_parameters = sum(array.numpy().size for array in built.initial_arrays().values())
    round_key = 8  # of the configuration beside the model
    assert (first.payload_bytes() - round_key == 4 * num_parameters).all()
    assert (second.payload_bytes() - round_key == 8 * num_parameters).all()
    for replies, batch in zip(around.replies, around.sent, strict=True):
        for array in (array for reply in replies for array in reply.content.array_records.values()):
            if batch.message_type == "train":
                assert {each.dtype for each in array.values()} == {"float32"}


def test_it_plays_through_codecs() -> None:
    for codecs in (("delta", "int8", "zstd"), ("float16",), ("top_k",)):
        frames: list[pd.DataFrame] = []
        play(
            stock("FedAdam"),
            inline(),
            fleet(),
            stream().segment_starts_s,
            labels={**LABELS, "strategy": "fedadam"},
            collect=frames.append,
            chain=[WithCodecs(Codecs(codecs))],
        )
        assert len(frames) == 6


def test_options_are_those_of_the_class_and_of_local_training() -> None:
    options = options_of(on_devices(FedAdam))
    assert {"eta", "beta_1", "fraction_train", "min_available_nodes"} <= set(options)
    assert {"steps", "rate", "layers", "optimizer", "max_examples", "num_negatives"} <= set(options)
    assert options["eta"].default == 0.1 and options["steps"].rule.least == 0
    assert on_devices(FedAdam) is on_devices(FedAdam)
    assert on_devices(CloudStrategy) is CloudStrategy


def test_the_page_says_it_as_it_is() -> None:
    text = PAGE.read_text(encoding="utf-8")
    given = dict(re.findall(r"\+strategy\.fedadam\.(\w+)=(\S+)", text))
    kind = pkgutil.resolve_name(given.pop("_target_"))
    built = build_class(kind, {key: float(value) for key, value in given.items()}, "strategy.x")
    assert isinstance(built, FedAdam) and built.eta == 0.01
    rows = [line.partition("|")[2].partition("|")[0] for line in text.splitlines()]
    named = {name for row in rows for name in re.findall(r"[A-Z]\w+|…\w+", row)}
    short = {f"DifferentialPrivacy{where}SideFixedClipping" for where in ("Server", "Client")}
    assert named == {name for name in {*CASES, *REFUSED} if "Adaptive" not in name} | short | {
        "…AdaptiveClipping"
    }


@dataclass(eq=False, repr=False)
class Nudged(FederatedOnDevices, FedAvg):
    """The same as a dataclass of options, one of which is Flower's."""

    nudge: float = option(0.5, least=0, doc="of nothing")
    fraction_train: float = option(0.5, least=0, most=1, doc="of devices")
    steps: int = option(3, least=0, doc="of devices")


def test_a_class_of_ones_own_plays_with_its_arguments_and_all_others() -> None:
    page: dict[str, Any] = {}
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(code, page)
    assert {"most", "eta", "steps"} <= set(options_of(page["MyFedAdam"]))
    given = {"most": 0.01, "beta_1": 0.5, **LOCAL}
    built: Any = build_class(page["MyFedAdam"], given, "strategy.mine")
    assert (built.eta, built.beta_1, built.how.steps) == (0.01, 0.5, 2)
    built.prepare(cloud())
    assert len(table("mine", built=built))
    nudged: Any = build_class(Nudged, {"nudge": 0.25}, "strategy.nudged")
    assert (nudged.nudge, nudged.fraction_train, nudged.how.steps) == (0.25, 0.5, 3)
    assert set(options_of(Nudged)) == {"nudge", "fraction_train", "steps"}
    with pytest.raises(UserError, match=r"strategy.nudged.nudge must be a number|nudge must be"):
        build_class(Nudged, {"nudge": -1}, "strategy.nudged")


@dataclass(eq=False, repr=False)
class Halved(FedAvg):
    """A dataclass that knows nothing of devices."""

    share: float = 1.0

    def __post_init__(self) -> None:
        FedAvg.__init__(self, fraction_train=self.share / 2)


def test_a_registered_class_of_flowers_is_configured_like_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "static" in strategies  # all are found now
    monkeypatch.setitem(strategies._entries, "adam", Entry("adam", FedAdam, Method()))  # type: ignore[arg-type]
    nodes = {"adam": {"eta": 0.01}, "short": {"method": "adam", "steps": 1}}
    built: Any = strategies_of({"strategies": ["adam", "short"], "strategy": nodes})
    assert (built["short"].eta, built["short"].how.steps) == (0.01, 1)
    assert built["adam"].how.steps == 5
    assert {"eta", "steps"} <= set(options_of(method_of(nodes, "short")))


def test_a_dataclass_without_the_mix_in_plays_too() -> None:
    built: Any = build_class(Halved, {"share": 0.5, "steps": 3}, "strategy.halved")
    assert (built.fraction_train, built.share, built.how.steps) == (0.25, 0.5, 3)


def test_a_name_for_two_things_is_refused() -> None:
    class Slow(FedAvg):
        def __init__(self, rate: float = 1.0) -> None:
            super().__init__()
            self.rate = rate

    with pytest.raises(UserError, match="Slow must not have an argument rate"):
        on_devices(Slow)


def test_an_object_plays_as_well_and_is_not_changed() -> None:
    theirs = FedAdam(eta=0.01)
    built: Any = put_on_devices(theirs, **LOCAL, layers="head")
    assert type(theirs) is FedAdam and isinstance(built, FederatedOnDevices)
    built.prepare(cloud())
    one, other = arrays_after(built), arrays_after(stock("FedAdam"))
    for key in one:
        np.testing.assert_array_equal(one[key], other[key])
    with pytest.raises(UserError, match="fraction_evaluate of FedAvg"):
        put_on_devices(FedAvg(fraction_evaluate=0.1))
    noisy = flower.DifferentialPrivacyServerSideFixedClipping(theirs, 0.0, 1.0, 4)
    assert put_on_devices(noisy).strategy is not theirs  # type: ignore[attr-defined]
    ours = CloudStrategy()
    assert type(put_on_devices(ours)) is CloudStrategy


def test_layers_say_what_is_sent() -> None:
    head, whole = stock("FedAvg"), stock("FedAvg", layers="all")
    assert set(head.initial_arrays()) == set(head.cloud.model.adaptive)
    assert set(whole.initial_arrays()) == set(whole.deployment())


def test_it_is_copied_and_pickled() -> None:
    built = stock("FedAdam")
    for twin in (copy.deepcopy(built), pickle.loads(pickle.dumps(built))):
        assert type(twin) is type(built) and twin.eta == built.eta and twin is not built


def test_it_plays_on_video() -> None:
    videos = video_stream()
    built = stock("FedYogi")
    built.prepare(video_cloud(videos))
    frames: list[pd.DataFrame] = []
    play(
        built,
        video_inline(videos),
        fleet(videos.num_devices),
        videos.segment_starts_s,
        labels={**LABELS, "strategy": "fedyogi"},
        collect=frames.append,
        task=video_task(videos),
    )
    assert len(frames) == videos.num_segments
    assert all(frame.device_id.nunique() == videos.num_devices for frame in frames)
