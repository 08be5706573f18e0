"""A device reports and trains on what was before its segment, and the truth is for its readers."""

import copy
import pickle

import numpy as np
import pytest
from device_cases import EVERYONE, NUM_DEVICES, STREAM, app_of, deployed, instruction, to_devices

from cdc_flower.core.stream import Truth, TruthAccessError
from cdc_flower.tasks.recommendation.metrics import RankingMetrics
from cdc_flower.wire import records


def test_a_report_is_the_items_before_the_segment_and_nothing_of_its_future() -> None:
    ask, other = to_devices(records.TRAIN_REPORT, EVERYONE, 2), copy.copy(STREAM)
    other.items = STREAM.items.copy()
    for row in EVERYONE:
        future = slice(STREAM.bounds[row, 2], STREAM.offsets[row + 1])
        other.items[future] = STREAM.num_items + 1 - STREAM.items[future]
    reports = []
    for stream in (STREAM, other):
        app = app_of(stream=stream)
        reports.append(app.handle(ask, deployed(app))[0].array(records.REPORT, records.HISTORY))
    np.testing.assert_array_equal(*reports)
    assert not np.array_equal(
        STREAM.recent(EVERYONE, 3), other.recent(EVERYONE, 3)
    )  # the future did change
    assert reports[0].shape == (NUM_DEVICES, 10) and reports[0].dtype == np.int32
    last = [STREAM.items[STREAM.bounds[row, 2] - 10 : STREAM.bounds[row, 2]] for row in EVERYONE]
    np.testing.assert_array_equal(reports[0], np.stack(last))


@pytest.mark.parametrize("kind", ["train in place head", "train a head"])
def test_training_does_not_look_at_the_segment_that_begins(kind: str) -> None:
    other = copy.copy(STREAM)
    other.items = STREAM.items.copy()
    for row in EVERYONE:
        future = slice(STREAM.bounds[row, 1], STREAM.offsets[row + 1])
        other.items[future] = STREAM.num_items + 1 - STREAM.items[future]
    results = []
    for stream in (STREAM, other):
        app = app_of(stream=stream)
        replies, states = app.handle(instruction(app, kind), deployed(app))
        trained = states.pool if states.num_sets > 1 else replies.arrays[records.ARRAYS]
        results.append({name: np.asarray(trained[name]) for name in app.model.adaptive})
    assert all(np.array_equal(results[0][name], results[1][name]) for name in results[0])


def test_the_truth_is_only_for_its_readers() -> None:
    truth = STREAM.segment(EVERYONE, 0).truth
    for attempt in (
        lambda: truth.positive,  # type: ignore[attr-defined]
        lambda: truth.context_id,  # type: ignore[attr-defined]
        lambda: truth.__dict__,
        lambda: truth.read(app_of()),  # type: ignore[arg-type]
        lambda: truth.read(object()),  # type: ignore[arg-type]
        lambda: pickle.loads(pickle.dumps(truth)),
        lambda: STREAM.labelled(object(), EVERYONE, 0, 4, 4),  # type: ignore[arg-type]
    ):
        with pytest.raises(TruthAccessError):
            attempt()
    assert isinstance(truth, Truth) and len(truth.read(RankingMetrics())) == 3
