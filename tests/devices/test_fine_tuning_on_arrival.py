"""A shared model on its arrival: held once, or made each device's own by steps of fine-tuning."""

import numpy as np
import pytest
from device_cases import (
    EVERYONE,
    NUM_DEVICES,
    SEGMENT_S,
    app_of,
    by_hand,
    deployed,
    heads,
    model_arrays,
    to_devices,
    used,
)

from cdc_flower.devices.state import DeviceStates
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


def test_a_shared_model_is_held_once() -> None:
    app = app_of()
    batch = to_devices(records.EVALUATE, EVERYONE, 1, shared={records.ARRAYS: model_arrays(app, 4)})
    _, after = app.handle(batch, deployed(app))
    assert after.num_sets == 1 and set(after.pool) == set(after.static)


def fine_tuned(
    steps: int, arrival_s: float, flops_per_s: float
) -> tuple[MessageBatch, DeviceStates]:
    """A new global model and what devices with that many steps make of it, in segment 1."""
    app = app_of()
    states = deployed(app, **{records.FINE_TUNING_STEPS: steps, "rate": 0.1})
    clock = {
        records.ARRIVAL_S: np.full(NUM_DEVICES, arrival_s),
        records.FLOPS_PER_S: np.full(NUM_DEVICES, flops_per_s),
    }
    head = {name: value[0] for name, value in heads(app, 1).items()}
    return app.handle(
        to_devices(records.EVALUATE, EVERYONE, 1, clock=clock, shared={records.ARRAYS: head}),
        states,
    )


def test_without_fine_tuning_steps_every_device_has_the_global_model_and_no_work() -> None:
    replies, after = fine_tuned(0, -np.inf, 1e3)
    assert records.WORK not in replies.record_names() and after.num_sets == 1


def test_with_fine_tuning_steps_every_device_makes_its_own_of_the_global_model() -> None:
    replies, after = fine_tuned(3, -np.inf, 1e3)
    work, app = replies.configs[records.WORK], app_of()
    assert work[records.NUM_LABELS].min() > 0
    assert work[records.FLOPS].tolist() == pytest.approx(
        work[records.NUM_LABELS] * (app.model.flops(5) + 8 * app.model.head_flops(5))
    )
    assert after.num_sets == NUM_DEVICES
    assert len(np.unique(after.pool["head.0.weight"][after.in_use], axis=0)) == NUM_DEVICES
    plain = {name: value[0] for name, value in heads(app, 1).items()}
    sent = {
        records.ARRAYS: {name: value[None].repeat(NUM_DEVICES, 0) for name, value in plain.items()}
    }
    trained, _ = app.handle(
        to_devices(records.TRAIN, EVERYONE, 1, config={"steps": 3, "rate": 0.1}, arrays=sent),
        deployed(app),
    )
    for row in EVERYONE:
        np.testing.assert_allclose(
            used(after, "head.0.weight", row),
            trained.array(records.ARRAYS, "head.0.weight")[row],
            atol=1e-6,
        )


def test_a_fine_tuned_model_is_used_when_the_work_on_it_is_done() -> None:
    flops = fine_tuned(3, -np.inf, 1e3)[0].configs[records.WORK][records.FLOPS]
    begin_s, half_s = SEGMENT_S, SEGMENT_S / 2
    app = app_of()
    states = deployed(app)
    replies, after = fine_tuned(3, begin_s, float(flops.max()) / half_s)
    new = {name: after.pool[name][after.in_use] for name in app.model.adaptive}
    _, expected = by_hand(app, states, new, begin_s + flops / (flops.max() / half_s), 1)
    np.testing.assert_allclose(
        replies.metrics[records.SCORES]["value-sum"], expected.value_sum, rtol=1e-4, atol=1e-4
    )
    late, _ = fine_tuned(3, begin_s, 1.0)  # a phone that is not done in this segment
    _, expected = by_hand(app, states, new, np.full(NUM_DEVICES, np.inf), 1)
    np.testing.assert_allclose(
        late.metrics[records.SCORES]["value-sum"], expected.value_sum, rtol=1e-4, atol=1e-4
    )


def test_nothing_new_is_not_fine_tuned() -> None:
    app = app_of()
    states = deployed(app, **{records.FINE_TUNING_STEPS: 3})
    replies, after = app.handle(to_devices(records.EVALUATE, EVERYONE, 1), states)
    assert records.WORK not in replies.record_names() and after.num_sets == 1
