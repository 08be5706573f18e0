"""The outermost grid takes every instrument record out of replies."""

import numpy as np
import pytest

from cdc_flower.simulations.grids.strategy import plain_batch
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


def reply(*names: str) -> MessageBatch:
    """A reply of two nodes with a report, and numbers in further records."""
    return MessageBatch(
        records.EVALUATE,
        np.array([2, 3]),
        {records.REPORT: {"told": np.ones((2, 1), np.float32)}},
        metrics={name: {records.NUM_EXAMPLES: np.array([4, 5])} for name in names},
    )


@pytest.mark.parametrize("name", sorted(records.INSTRUMENTS))
def test_no_instrument_is_left_in_a_reply_and_what_the_device_told_is(name: str) -> None:
    plain = plain_batch(reply(name))
    assert records.INSTRUMENTS.isdisjoint(plain.record_names())
    assert plain.array(records.REPORT, "told").tolist() == [[1.0], [1.0]]


def test_the_number_of_examples_of_the_scores_joins_the_metrics() -> None:
    metrics = plain_batch(reply(records.SCORES)).metrics
    assert np.asarray(metrics[records.METRICS][records.NUM_EXAMPLES]).tolist() == [4, 5]


def test_a_reply_without_instruments_is_passed_as_it_is() -> None:
    batch = reply(records.METRICS)
    assert plain_batch(batch) is batch
