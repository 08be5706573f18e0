"""Lines that know the law: exact by enumeration, and never better than what knows more."""

from itertools import pairwise, product
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from law_cases import law, one, regimes_stream
from run_cases import config_of, quiet, table_of
from tiny import LABELS
from tiny import stream as interests_of

from cdc_flower.core.errors import UserError
from cdc_flower.core.seeds import hashed_integers, torch_generator
from cdc_flower.core.stream import TruthAccessError, TruthReader
from cdc_flower.models import GRU4Rec
from cdc_flower.study import run as runs
from cdc_flower.study.references import references_of
from cdc_flower.tasks.recommendation.laws.jumps import phases_of
from cdc_flower.tasks.recommendation.laws.known import Moments
from cdc_flower.tasks.recommendation.laws.law import ContextLaw
from cdc_flower.tasks.recommendation.laws.streams import law_stream
from cdc_flower.tasks.recommendation.references import Known, ceiling
from cdc_flower.tasks.recommendation.references.frames import reference_frames
from cdc_flower.tasks.recommendation.stream import EventStream, Ranking
from cdc_flower.training.cloud import Cloud

pytestmark = pytest.mark.slow  # plays whole runs

KNOBS: list[dict[str, Any]] = [
    {"period": 2},
    {"period": 3, "shift": "gradual"},
    {"period": 3, "shift": "blended"},
    {"period": 2, "phase": "shared"},
    {"period": 2, "unseen_from": 1, "num_unseen": 2},
    {"num_contexts": 1},
]
SMALL: dict[str, dict[str, Any]] = {
    "regimes": {"num_topics": 3, "items_per_topic": 2},
    "cohorts": {"items": 6, "place_size": 2},
}


def no_cloud() -> Cloud:
    raise AssertionError("no line asks for the cloud here")


def small(name: str, knobs: dict[str, Any]) -> ContextLaw:
    brief = {"events_per_segment": 2, "history_segments": 2, "num_contexts": 3}
    which: ContextLaw = law(name, 1, **{"unseen_from": None, **SMALL[name], **brief, **knobs})
    return which


def enumerated(which: ContextLaw, place: int, past: list[int], items: list[int]) -> list[float]:
    """The chance of each item after a window: every phase and every chain of contexts, summed."""
    options = which.options
    segments = [event // 2 - 2 for event in range(place - len(past), place + 1)]
    is_late = [options.unseen_from is not None and s >= options.unseen_from for s in segments]
    seen, every = options.num_contexts, options.num_all_contexts
    pool = range(seen, every) if is_late[-1] else range(seen)
    chances, total = np.zeros(len(items)), 0.0
    for phase in phases_of(options).tolist():
        links, shares = zip(
            *(plain_link(which, segment + phase) for segment in segments), strict=True
        )
        chains = [
            chain
            for chain in product(pool, repeat=links[-1] + 2 - links[0])
            if len(pool) == 1 or all(a != b for a, b in pairwise(chain))
        ]
        for chain in chains:
            made = [
                {chain[link - links[0]]: 1 - share, chain[link + 1 - links[0]]: share}
                if share
                else {chain[link - links[0]]: 1.0}
                for link, share in zip(links, shares, strict=True)
            ]
            likely = 1 / len(chains)
            for event, item in enumerate(past):
                if is_late[event] == is_late[-1]:
                    last = past[event - 1] if event else 0
                    likely *= chance_of(which, made[event], last, [item])[0]
            total += likely
            chances += likely * chance_of(which, made[-1], past[-1], items)
    found: list[float] = (chances / total).tolist()
    return found


def plain_link(which: ContextLaw, passed: int) -> tuple[int, float]:
    """The link of the chain so many segments after the phase, and the share of the next one."""
    options = which.options
    link, spot = divmod(passed, options.period)
    if options.shift == "blended":
        return link, spot / options.period
    if options.shift == "gradual":
        hold = max(1, options.period // 2)
        return link, max(spot - hold + 1, 0) / (options.period - hold + 1)
    return link, 0.0


def chance_of(
    which: ContextLaw, shares: dict[int, float], last: int, items: list[int]
) -> np.ndarray:
    weights = np.zeros((1, which.options.num_all_contexts))
    for context, share in shares.items():
        weights[0, context] += share
    asked = np.array([items], np.int32)
    found: np.ndarray = which.chances(np.zeros(1, np.int64), weights, np.array([last]), asked)[0]
    return found


@pytest.mark.parametrize("knobs", KNOBS)
@pytest.mark.parametrize("name", SMALL)
def test_a_window_is_read_as_all_phases_and_chains_of_contexts_say(
    name: str, knobs: dict[str, Any]
) -> None:
    which = small(name, knobs)
    data = law_stream(which, 4, 3, Ranking(3, 5, False))
    items = list(range(1, 7))
    for segment in range(3):
        batch = data.segment(np.arange(4), segment)
        at = data.moments(batch, segment, 3)
        asked = np.broadcast_to(np.array(items, np.int32), (len(at.slots), 6))
        found = which.forecast(at, asked)
        for row, past in enumerate(at.past.tolist()):
            wanted = enumerated(which, int(at.places[row]), past, items)
            assert found[row].tolist() == pytest.approx(wanted, rel=1e-4)


def test_a_window_of_a_device_with_little_past_is_read_as_far_as_it_goes() -> None:
    which = small("regimes", {"num_contexts": 2})
    brief, padded = (
        Moments(np.zeros(1, np.int64), 0, np.zeros(1, np.int64), np.array([4]), past)
        for past in (np.array([[3, 5]], np.int32), np.array([[3, 5, 0, 0]], np.int32))
    )
    items = np.arange(1, 7, dtype=np.int32)[None]
    assert which.forecast(brief, items) == pytest.approx(which.forecast(padded, items))


def ndcg(data: EventStream, *names: str) -> dict[str, float]:
    table = pd.concat(list(reference_frames(names, Known(data, no_cloud), LABELS)))
    rows = table[table["metric"] == "ndcg@10"].groupby("strategy", observed=True)
    sums = rows[["value_sum", "value_count"]].sum()
    return (sums["value_sum"] / sums["value_count"]).to_dict()


def test_who_knows_more_ranks_better() -> None:
    found = ndcg(regimes_stream(60), "popularity", "window", "oracle")
    longer = ndcg(regimes_stream(60, history_length=10), "window")
    assert found["oracle"] > longer["window"] > found["window"] + 0.05
    assert found["window"] > found["popularity"] + 0.1


def test_with_one_context_a_window_says_all_that_can_be_known() -> None:
    data = regimes_stream(20, num_contexts=1)
    found = ndcg(data, "window", "oracle")
    assert found["window"] == pytest.approx(found["oracle"])


def test_contexts_of_ones_own_are_told_from_a_window_by_draws_of_what_they_may_be() -> None:
    found = ndcg(regimes_stream(30, history_length=10, contexts="own"), "window", "oracle")
    assert found["oracle"] > found["window"] > 0.11


def test_shifting_interests_know_their_law() -> None:
    data = interests_of()
    found = ndcg(data, "popularity", "window", "oracle")
    assert found["oracle"] > found["window"] > found["popularity"]


@pytest.mark.parametrize("num_devices", [300])
def test_the_chances_of_shifting_interests_are_those_of_the_items_that_came(
    num_devices: int,
) -> None:
    data = interests_of(num_devices)
    reader = TruthReader()
    known = data.law(reader)
    assert known is not None
    found, expected = [], []
    for segment in range(1, 6):
        batch = data.segment(np.arange(num_devices), segment)
        positive, _, _ = batch.truth.read(reader)
        at = data.moments(batch, segment, known.memory)
        every = np.broadcast_to(np.arange(1, 61, dtype=np.int32), (len(positive), 60))
        chances = known.expected(at, every)
        assert chances.sum(axis=1) == pytest.approx(np.ones(len(positive)))
        rows = np.arange(len(positive))
        found.append(chances[rows, batch.candidates[rows, positive] - 1])
        expected.append((chances**2).sum(axis=1))
        # what may not return has no chance
        recent = np.take_along_axis(chances, at.past.astype(np.int64) - 1, axis=1)
        assert (recent[at.past > 0] == 0).all()
    given, wanted = np.concatenate(found), np.concatenate(expected).mean()
    assert given.mean() == pytest.approx(wanted, abs=4 * given.std() / np.sqrt(len(given)))


def test_the_law_is_hidden_from_all_but_readers_of_truth() -> None:
    with pytest.raises(TruthAccessError, match="the law is for metrics only, and str is none"):
        regimes_stream(3).law("a device")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["references=[auto]"], ["popularity", "markov", "oracle", "window"]),
        (
            ["references=[ceiling,auto,oracle]"],
            ["ceiling", "popularity", "markov", "window", "oracle"],
        ),
        (["references=[]"], []),
        (["data=ml_1m", "data.path=x", "references=[auto]"], ["popularity", "markov"]),
    ],
)
def test_auto_stands_for_the_default_lines_that_task_and_data_offer(
    overrides: list[str], wanted: list[str]
) -> None:
    assert references_of(config_of(*overrides, small=())) == wanted


def test_auto_is_what_another_task_has() -> None:
    video = ["task=video_qa", "data=moving_digits", "model=video_tiny", "references=[auto]"]
    assert references_of(config_of(*video, small=())) == ["oracle"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["data=ml_1m", "data.path=x", "references=[oracle]"],
            "references: oracle needs data whose law is known, such as cohorts, moving_digits, "
            "regimes, shifting_interests; got ml_1m",
        ),
        (["references=[auto,auto]"], "references must be names of their own, got 'auto' twice"),
        (["references=[orcale]"], "unknown reference 'orcale'; did you mean 'oracle'"),
    ],
)
def test_a_named_line_that_is_not_offered_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        references_of(config_of(*overrides, small=()))


def test_the_ceiling_needs_contexts_that_devices_share() -> None:
    known = Known(regimes_stream(3, contexts="own"), no_cloud)
    with pytest.raises(UserError, match="ceiling needs data whose contexts are shared"):
        ceiling.shared_law(known)


def test_layers_fitted_to_a_context_rank_its_events_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceiling, "NUM_STEPS", 150)
    unseen = {"unseen_from": 1, "num_unseen": 1}
    which = law(num_contexts=2, num_topics=4, items_per_topic=2, follow=1, **unseen)
    data = law_stream(which, 20, 2, Ranking(2, 4, False))
    model = GRU4Rec(8, 16, 2)
    parameters = model.init(torch_generator(0, "model"))
    parameters["embedding"] *= 10  # as far apart as after training
    before = {name: value.clone() for name, value in parameters.items()}
    cloud = Cloud(model, parameters, data.historical(), data.historical(), 0)
    score = ceiling.ceiling(Known(data, lambda: cloud))
    gains: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for segment in range(2):
        batch = data.segment(np.arange(20), segment)
        positive, context, _ = batch.truth.read(TruthReader())
        ids = torch.from_numpy(batch.history).long(), torch.from_numpy(batch.candidates).long()
        found, base = score(batch, segment), model.score(parameters, *ids).numpy()
        rows = np.arange(len(positive))
        gain = (found - base)[rows, positive] - (found - base).mean(axis=1)
        for row, each in enumerate(gain.tolist()):
            gains[int(context[batch.row[row]])].append(each)
    assert all(len(of_context) > 20 for of_context in gains.values())
    assert all(np.mean(of_context) > 0.1 for of_context in gains.values())
    assert all((value == before[name]).all() for name, value in parameters.items())


def test_a_run_has_the_ceiling_without_any_strategy_that_trains(tmp_path: Any) -> None:
    overrides = (
        *("data=regimes", "data.history_segments=2", "fleet.num_devices=8", "num_segments=2"),
        *("num_negatives=19", "cloud.epochs=1", "report=false", "strategies=[static]"),
        *("model.history_length=2", "references=[auto,ceiling]", f"out={tmp_path}/run"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ceiling, "NUM_STEPS", 2)
        table = table_of(runs.run(config_of(*overrides, small=()), console=quiet()))
    assert table["strategy"].unique().tolist() == [
        *("static", "popularity", "markov", "oracle", "window", "ceiling")
    ]
    counted = table.groupby(["strategy", "metric"], observed=True)["value_count"].sum().unstack()
    assert (counted == counted.loc["static"]).all(axis=None)


def test_phases_are_drawn_as_often_as_the_window_expects_them() -> None:
    options = law(period=4).options
    drawn = [1 + one(hashed_integers(0, "jump-phase", device, high=3)) for device in range(900)]
    assert np.bincount(drawn, minlength=4)[1:] / 900 == pytest.approx(np.full(3, 1 / 3), abs=0.06)
    assert phases_of(options).tolist() == [1, 2, 3]
