"""Scores of a task that says nothing of its metrics, and work, by hand."""

import numpy as np
import pytest

from cdc_flower.simulations.quarantine import reasons
from cdc_flower.simulations.quarantine.bounds import Known
from cdc_flower.simulations.quarantine.identity import Judged
from cdc_flower.simulations.quarantine.scores import blame_scores, blame_work
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

NUM = 3
ROWS = np.arange(NUM)


def judged(sums: list[float], **work: object) -> Judged:
    """Replies of three devices with one metric, which nobody knows a bound of."""
    scores = {
        records.NUM_EXAMPLES: np.full(NUM, 4),
        records.DEVICE_ID: ROWS,
        "context-id": np.full(NUM, -1),
        "is-shift": np.zeros(NUM, np.int64),
        "value-sum": np.array(sums)[:, None],
        "value-count": np.full((NUM, 1), 4.0),
    }
    batch = MessageBatch(
        records.EVALUATE,
        ROWS + 2,
        metrics={records.SCORES: scores},
        configs={records.WORK: work} if work else {},
        is_reply=True,
    )
    return Judged(batch, ROWS, ROWS)


@pytest.mark.parametrize(
    ("sums", "wrong"),
    [
        ([1.0, 2.0, -3e9], ["", "", ""]),
        ([1.0, np.nan, 2.0], ["", reasons.SCORES, ""]),
        ([np.inf, 1.0, 2.0], [reasons.SCORES, "", ""]),
        ([np.nan, np.inf, 2.0], ["", "", ""]),  # most have none: so is the metric
    ],
)
def test_a_metric_without_bounds_may_be_any_number_that_most_devices_have(
    sums: list[float], wrong: list[str]
) -> None:
    each = judged(sums)
    assert blame_scores(each, Known(), ROWS, 0) == 0
    assert each.wrong.tolist() == wrong


@pytest.mark.parametrize(
    ("key", "value", "is_wrong"),
    [
        (records.FLOPS, 1e17, False),
        (records.FLOPS, 1e19, True),
        (records.FLOPS, np.array([0.0, np.nan, 1.0]), [False, True, False]),
        (records.NUM_LABELS, 2**31, True),
        (records.NUM_TOLD, np.array([1, -1, 0]), [False, True, False]),
        (records.NUM_TOLD, 2.5, True),
        (records.NUM_TOLD, "many", True),
    ],
)
def test_work_that_no_device_can_do_is_wrong(key: str, value: object, is_wrong: object) -> None:
    each = judged([1.0, 1.0, 1.0], **{key: value})
    blame_work(each)
    expected = np.broadcast_to(np.asarray(is_wrong), NUM).tolist()
    assert [reason == reasons.WORK for reason in each.wrong] == expected


def test_what_is_wrong_first_is_what_is_told() -> None:
    each = judged([1.0, 1.0, 1.0])
    each.blame(np.array([True, False, False]), reasons.SHAPE)
    each.blame(np.array([True, True, False]), reasons.KEY)
    assert each.wrong.tolist() == [reasons.SHAPE, reasons.KEY, ""]
