"""What a device trains itself: used once the work is done, bounded, and of its own layers alone."""

from typing import Any

import numpy as np
import pytest
from device_cases import (
    EVERYONE,
    NUM_DEVICES,
    SEGMENT_S,
    STREAM,
    app_of,
    by_hand,
    deployed,
    heads,
    to_devices,
    used,
)

from cdc_flower.devices.app import DeviceApp, LabelBudget
from cdc_flower.devices.decoders.receive import receive
from cdc_flower.devices.state import DeviceStates
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


def train_in_place(
    app: DeviceApp, states: DeviceStates, segment: int, **config: Any
) -> tuple[MessageBatch, DeviceStates]:
    return app.handle(
        to_devices(records.TRAIN_LOCAL, states.device_ids, segment, config=config), states
    )


def test_what_a_device_trains_itself_is_used_once_the_work_is_done() -> None:
    app = app_of()
    states = deployed(app)
    _, training = train_in_place(app, states, 1)
    assert (training.pending >= 0).all() and training.in_use.tolist() == states.in_use.tolist()
    made = np.stack([used(training, "head.0.weight", row, True) for row in EVERYONE])
    arrival_s = np.where(
        EVERYONE < 3, SEGMENT_S * 1.5, SEGMENT_S * 2.5
    )  # three are done in segment 1
    evaluate = to_devices(records.EVALUATE, EVERYONE, 1, clock={records.ARRIVAL_S: arrival_s})
    replies, after = app.handle(evaluate, training)
    new = {
        name: np.stack([used(training, name, row, True) for row in EVERYONE])
        for name in app.model.adaptive
    }
    _, expected = by_hand(app, states, new, arrival_s, 1)
    np.testing.assert_allclose(
        replies.metrics[records.SCORES]["value-sum"], expected.value_sum, rtol=1e-4, atol=1e-4
    )
    assert (after.pending >= 0).tolist() == [False] * 3 + [True] * 4
    for row in EVERYONE:
        expected_now = made[row] if row < 3 else used(states, "head.0.weight", row)
        np.testing.assert_array_equal(used(after, "head.0.weight", row), expected_now)

    # In segment 2 the idle ones train again; the busy ones go on with what they began, at no
    # further cost.
    work, again = train_in_place(app, after, 2)
    assert (work.configs[records.WORK][records.NUM_LABELS] > 0).tolist() == [True] * 3 + [False] * 4
    assert (work.configs[records.WORK][records.FLOPS] > 0).tolist() == [True] * 3 + [False] * 4
    clock = {records.ARRIVAL_S: np.full(NUM_DEVICES, 2.5 * SEGMENT_S)}
    _, done = app.handle(to_devices(records.EVALUATE, EVERYONE, 2, clock=clock), again)
    assert (done.pending < 0).all()
    for row in range(3, NUM_DEVICES):
        np.testing.assert_array_equal(used(done, "head.0.weight", row), made[row])


def test_devices_that_are_all_busy_do_nothing() -> None:
    app = app_of()
    _, busy = train_in_place(app, deployed(app), 1)
    work, after = train_in_place(app, busy, 2)
    assert after is busy and not work.configs[records.WORK][records.NUM_LABELS].any()


def test_parameters_that_come_late_take_the_place_of_those_that_a_device_still_makes() -> None:
    app = app_of()
    _, busy = train_in_place(app, deployed(app), 1)
    clock, new = {records.ARRIVAL_S: np.full(NUM_DEVICES, 9 * SEGMENT_S)}, heads(app, NUM_DEVICES)
    batch = to_devices(records.EVALUATE, EVERYONE, 1, clock=clock, arrays={records.PARAMETERS: new})
    _, after = app.handle(batch, busy)
    assert (after.pending < 0).all()
    np.testing.assert_array_equal(used(after, "head.0.weight", 2), new["head.0.weight"][2])


@pytest.mark.parametrize("layers", ["head", "all"])
def test_training_in_place_without_steps_changes_nothing_and_costs_no_label(layers: str) -> None:
    app = app_of()
    states = deployed(app)
    replies, after = train_in_place(app, states, 1, steps=0, layers=layers)
    assert after is states
    assert not replies.configs[records.WORK][records.NUM_LABELS].any()
    assert not replies.configs[records.WORK][records.FLOPS].any()


def test_labels_are_counted_and_bounded() -> None:
    app = app_of()
    replies, _ = train_in_place(app, deployed(app), 1, **{"max-examples": 4})
    labels = replies.configs[records.WORK][records.NUM_LABELS]
    examples = STREAM.labelled(LabelBudget(), EVERYONE, 1, 4, 1)
    assert labels.tolist() == examples.num_examples.tolist() == [4] * NUM_DEVICES


def test_received_layers_leave_a_devices_other_layers_alone() -> None:
    app = app_of()
    _, training = train_in_place(app, deployed(app), 1, layers="all")
    _, own = app.handle(to_devices(records.EVALUATE, EVERYONE, 1), training)
    new = heads(app, 1)
    for batch in (
        to_devices(
            records.EVALUATE,
            EVERYONE,
            2,
            shared={records.PARAMETERS: {k: v[0] for k, v in new.items()}},
        ),
        to_devices(
            records.EVALUATE,
            EVERYONE,
            2,
            arrays={records.PARAMETERS: {k: v.repeat(NUM_DEVICES, 0) for k, v in new.items()}},
        ),
    ):
        states, received, newest = receive(batch, own, app.model.adaptive)
        states, _ = states.add(received)
        for row in EVERYONE:
            np.testing.assert_array_equal(
                states.pool["head.0.weight"][newest[row]], new["head.0.weight"][0]
            )
            np.testing.assert_array_equal(
                states.pool["embedding"][newest[row]], used(own, "embedding", row)
            )
