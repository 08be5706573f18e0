"""Reference lines: chances worked out by hand, and rows beside those of strategies."""

import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from run_cases import config_of, quiet, table_of
from tiny import LABELS, stream

from cdc_flower.core.stream import SegmentBatch, TruthReader
from cdc_flower.study import run as runs
from cdc_flower.tasks.recommendation.history import HistoricalData
from cdc_flower.tasks.recommendation.references import Known, frames
from cdc_flower.tasks.recommendation.references.counts import PRIOR_EVENTS, Counts
from cdc_flower.tasks.recommendation.references.frames import reference_frames
from cdc_flower.tasks.recommendation.references.markov import chances_after
from cdc_flower.tasks.recommendation.references.popularity import popularity
from cdc_flower.tasks.recommendation.stream import EventStream
from cdc_flower.training.cloud import Cloud

A = PRIOR_EVENTS
ITEMS = np.array([1, 2, 1, 2, 2, 3], dtype=np.int32)


def no_cloud() -> Cloud:
    raise AssertionError("no line asks for the cloud here")


def known(data: EventStream) -> Known:
    return Known(data, no_cloud)


def counts() -> Counts:
    # devices [1, 2, 1, 2], [], [2, 3]: items 1, 2 and 3 occur 2, 3 and 1 times; 1 → 2 twice, 2 → 1
    # and 2 → 3 once
    return Counts.of(HistoricalData(np.arange(3), np.array([0, 4, 4, 6]), ITEMS, 3, 5))


def segment_of(history: list[list[int]], candidates: list[list[int]]) -> SegmentBatch:
    count = len(history)
    nothing = np.zeros(count, np.int64)
    return SegmentBatch(
        np.arange(count),
        np.ones(count, np.int64),
        np.arange(count),
        nothing,
        np.array(history, np.int32),
        np.array(candidates, np.int32),
        np.zeros(count),
        None,  # type: ignore[arg-type]  # a reference line never looks
    )


def test_popularity_is_the_share_of_events_with_one_more_for_each_item() -> None:
    events = HistoricalData(np.arange(1), np.array([0, 6]), ITEMS, 3, 5)
    past = SimpleNamespace(num_items=3, historical=lambda: events)
    line = popularity(Known(past, no_cloud))  # type: ignore[arg-type]
    found = line(segment_of([[1, 0]], [[1, 2, 3]]), 0)
    # the logit is right for one true item among 4 of the 3 items
    assert (np.exp(found) * 4 / 3).tolist() == [pytest.approx([3 / 9, 4 / 9, 2 / 9])]


def test_markov_weighs_what_followed_each_of_the_last_three_items() -> None:
    share = np.array([3 / 9, 4 / 9, 2 / 9])
    after_1 = (np.array([0, 2, 0]) + A * share) / (
        2 + A
    )  # the pair over the end of a device does not count
    after_2 = (np.array([1, 0, 1]) + A * share) / (2 + A)
    history = [[1, 0, 0, 0], [1, 2, 0, 0], [3, 1, 1, 2], [0, 0, 0, 0]]
    found = chances_after(counts(), segment_of(history, [[1, 2, 3]] * 4))
    wanted = [
        after_1,
        (after_2 + after_1 / 2) / 1.5,
        (after_2 + after_1 / 2 + after_1 / 3) / (1 + 1 / 2 + 1 / 3),
        share,
    ]
    np.testing.assert_allclose(found, wanted)
    assert found.sum(axis=1) == pytest.approx(np.ones(4))


def test_a_short_history_and_an_empty_past_leave_popularity() -> None:
    short = chances_after(counts(), segment_of([[2]], [[1, 2, 3]]))
    assert short.sum() == pytest.approx(1)
    empty = Counts.of(
        HistoricalData(np.arange(2), np.zeros(3, np.int64), np.zeros(0, np.int32), 3, 5)
    )
    assert chances_after(empty, segment_of([[2, 1]], [[1, 2, 3]])).tolist() == [
        pytest.approx([1 / 3] * 3)
    ]


def test_reference_rows_cost_nothing_and_count_every_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "DEVICES_PER_CHUNK", 3)
    data = stream()
    names, labels = ["markov", "popularity"], {**LABELS}
    parts = list(reference_frames(names, known(data), labels))
    table = pd.concat(parts)
    assert [frame["strategy"].iloc[0] for frame in parts] == ["markov"] * 6 + ["popularity"] * 6
    for column in ("bytes_up", "bytes_down", "num_labels", "compute_cloud_s", "compute_device_s"):
        assert (table[column] == 0).all()
    assert table["latency_s"].isna().all() and table["staleness_s"].isna().all()
    events = sum(data.num_events(np.arange(4), k).sum() for k in range(6))
    hits = table[(table["metric"] == "hr@10") & (table["strategy"] == "markov")]
    assert hits["value_count"].sum() == events


def test_a_reference_ranks_as_a_loop_over_events_does() -> None:
    data, device_ids = stream(), np.arange(4)
    segment = data.segment(np.arange(4), 2)
    line = popularity(known(data))
    positive, _, _ = segment.truth.read(TruthReader())
    past = data.historical()
    times = [int((past.items == item).sum()) + 1 for item in range(data.num_items + 1)]
    log_loss = []
    for row, (candidates, true) in enumerate(zip(segment.candidates, positive, strict=True)):
        assert (
            line(segment, 2)[row].argsort().tolist()
            == np.argsort([times[i] for i in candidates]).tolist()
        )
        logits = [
            math.log(times[i] / (sum(times) - times[0]) * data.num_items / 4) for i in candidates
        ]
        others = [logit for column, logit in enumerate(logits) if column != true][:4]
        losses = [
            math.log1p(math.exp(-logits[true])),
            *(math.log1p(math.exp(logit)) for logit in others),
        ]
        log_loss.append(sum(losses) / 5)
    frame = list(reference_frames(["popularity"], known(data), LABELS))[2]
    rows = frame[frame["metric"] == "log_loss"]
    assert rows["device_id"].tolist() == device_ids.tolist()
    assert rows["value_sum"].sum() == pytest.approx(sum(log_loss), rel=1e-5)


def test_a_run_has_the_references_beside_its_strategies(tmp_path: Path) -> None:
    overrides = ["references=[popularity,markov]", "strategies=[static]", f"out={tmp_path}/run"]
    table = table_of(runs.run(config_of(*overrides), console=quiet()))
    assert table["strategy"].unique().tolist() == ["static", "popularity", "markov"]
    counted = table.groupby(["strategy", "metric"], observed=True)["value_count"].sum().unstack()
    assert (counted == counted.loc["static"]).all(axis=None)


def test_devices_that_play_the_task_do_not_load_pandas() -> None:
    code = (
        "import sys, cdc_flower.devices.app, cdc_flower.tasks.recommendation.task;"
        "print([name for name in ('pandas', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
