"""What cloud fine-tuning on recommendation pays: each label that goes up counts, and so do its
bytes.
"""

import numpy as np
import pytest
from tiny import NUM_DEVICES, NUM_SEGMENTS, Around, app, fleet, inline, strategy, table

from cdc_flower.simulations.deployment import deploy
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


@pytest.mark.parametrize("max_examples", [1, 5])
def test_labels_that_go_up_are_paid_for_one_by_one(max_examples: int) -> None:
    grid, built = inline(), strategy("cloud_fine_tuning", max_examples=max_examples)
    deploy(grid, built)
    ask = MessageBatch(
        records.TRAIN_UPLOAD,
        np.arange(2, 2 + NUM_DEVICES),
        configs={records.CLOCK: {records.SEGMENT: 1}},
    )
    ((reply, _),) = MessageBatch.group(grid.send_and_receive(ask))
    assert (
        reply.array(records.LABELLED, records.NUM_EXAMPLES).tolist() == [max_examples] * NUM_DEVICES
    )
    labels = np.broadcast_to(reply.configs[records.WORK][records.NUM_LABELS], NUM_DEVICES)
    assert labels.tolist() == [max_examples] * NUM_DEVICES


def test_the_table_says_the_labels_and_bytes_of_every_device_in_every_segment() -> None:
    rows = table("cloud_fine_tuning", Around(inline()), fleet())
    once = rows.drop_duplicates(["device_id", "segment"])
    assert len(once) == NUM_DEVICES * NUM_SEGMENTS
    assert once.num_labels.tolist() == [8] * len(once)  # `max_examples`; every device has seen more
    # An example is ten items before it, the true one and four others, in four bytes each; and the
    # number of examples.
    assert app().stream.history_length == 10
    assert once.payload_bytes_up.tolist() == [8 * (10 + 1 + 4) * 4 + 4] * len(once)
    assert (once.bytes_up > once.payload_bytes_up).all()


def test_without_steps_no_label_is_paid_for() -> None:
    rows = table("cloud_fine_tuning", built=strategy("cloud_fine_tuning", steps=0))
    assert not rows[["num_labels", "bytes_up", "bytes_down"]].any(axis=None)
