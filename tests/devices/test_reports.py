"""Reports of devices: items or a feature, now or some events ago, and the prototype held."""

from typing import Any

import numpy as np
import pytest
import torch
from device_cases import (
    EDITS,
    EVERYONE,
    NUM_DEVICES,
    STREAM,
    app_of,
    deployed,
    heads,
    model_arrays,
    to_devices,
)
from flwr.app import Context
from flwr.common.serde import recorddict_to_proto

from cdc_flower.core.seeds import torch_generator
from cdc_flower.devices.app import DeviceApp
from cdc_flower.devices.state import DeviceStates
from cdc_flower.models import device_model
from cdc_flower.models.sequence_feature import feature_flops, init_feature, sequence_feature
from cdc_flower.strategies.persona.decoder import HELD, INDEX, PROTOTYPE, VERSION
from cdc_flower.tasks.recommendation.task import RECOMMENDATION
from cdc_flower.training.scoring import Arrays, tensors
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

SEGMENT = 2


def with_feature(app: DeviceApp, width: int = 6, **settings: Any) -> DeviceStates:
    """States after the deployment of a model with the layers of a feature."""
    feature = init_feature(torch_generator(2, "test"), app.model.width, width)
    model = {**model_arrays(app), **{name: value.numpy() for name, value in feature.items()}}
    batch = to_devices(
        records.DEPLOY,
        EVERYONE,
        shared={records.MODEL: model},
        config={records.REPORT: records.FEATURE, **settings},
    )
    return app.handle(batch, DeviceStates(EVERYONE))[1]


def report(app: DeviceApp, states: DeviceStates, segment: int = SEGMENT) -> MessageBatch:
    replies, after = app.handle(to_devices(records.TRAIN_REPORT, EVERYONE, segment), states)
    assert after is states
    return replies


def test_a_report_with_a_lag_is_what_it_was_so_many_events_before() -> None:
    app = app_of()
    now, before, none = (
        report(app, deployed(app, **settings)).array(records.REPORT, records.HISTORY)
        for settings in ({}, {"lag": 2}, {"lag": 0})
    )
    last = [
        STREAM.items[STREAM.bounds[row, SEGMENT] - 12 : STREAM.bounds[row, SEGMENT] - 2]
        for row in EVERYONE
    ]
    np.testing.assert_array_equal(before, np.stack(last))
    np.testing.assert_array_equal(now, none)


@pytest.mark.parametrize("name", ["gru4rec", "sasrec", "din"])
@pytest.mark.parametrize("lag", [0, 3, 1000])  # the last is from when a device had one event
def test_a_feature_is_made_of_the_states_of_the_items_that_would_have_been_reported(
    name: str, lag: int
) -> None:
    app = app_of(name)
    states = with_feature(app, lag=lag)
    items = torch.from_numpy(STREAM.recent(EVERYONE, SEGMENT, lag)).long()
    parameters = tensors(states.static)
    expected = sequence_feature(
        parameters, app.model.item_states(parameters, items), (items != 0).sum(-1)
    )
    replies = report(app, states)
    assert list(replies.arrays[records.REPORT]) == [records.FEATURE]  # no item goes up
    feature = replies.array(records.REPORT, records.FEATURE)
    assert feature.dtype == np.float32 and feature.shape == (NUM_DEVICES, 6)
    np.testing.assert_allclose(feature, expected.numpy(), rtol=1e-5, atol=1e-6)
    assert len(np.unique(feature, axis=0)) == NUM_DEVICES


def test_the_work_of_a_feature_is_told() -> None:
    app = app_of()
    work = report(app, with_feature(app)).configs[records.WORK]
    assert (
        work[records.FLOPS].tolist() == [feature_flops(8, 6, STREAM.history_length)] * NUM_DEVICES
    )
    assert work[records.NUM_LABELS].tolist() == [0] * NUM_DEVICES
    assert list(report(app, deployed(app)).configs[records.WORK]) == [records.NUM_TOLD]


def test_a_single_message_reports_what_a_batch_does() -> None:
    app = app_of()
    states = with_feature(app, prototype=1, lag=1, **EDITS)
    batch, replies = to_devices(records.TRAIN_REPORT, EVERYONE, SEGMENT), report(app, states)
    for row in EVERYONE:
        state = states.select(np.array([row])).to_record()
        reply = app(batch[row], Context(1, int(row) + 2, {"partition-id": int(row)}, state, {}))
        told = MessageBatch.from_messages([reply])
        for name, value in replies.arrays[records.REPORT].items():
            np.testing.assert_allclose(
                told.array(records.REPORT, name)[0], value[row], rtol=1e-5, atol=1e-6
            )


def test_nothing_but_what_may_go_up_goes_up() -> None:
    app = app_of()
    replies = report(app, with_feature(app, prototype=0, **EDITS))
    assert set(replies.record_names()) <= records.UPLINK
    assert list(replies.arrays[records.REPORT]) == [records.FEATURE, HELD]


def test_without_the_settings_a_report_is_the_history_alone() -> None:
    app = app_of()
    plain = report(app, deployed(app))
    assert plain.record_names() == [records.REPORT, records.WORK]
    assert list(plain.arrays[records.REPORT]) == [records.HISTORY]
    chosen = report(app, deployed(app, report=records.HISTORY))
    np.testing.assert_array_equal(
        *(each.array(records.REPORT, records.HISTORY) for each in (plain, chosen))
    )


def test_a_report_tells_the_prototype_that_the_device_holds() -> None:
    app = app_of()
    states, none = deployed(app, prototype=3, **EDITS), deployed(app, prototype=-1, **EDITS)
    assert report(app, states).array(records.REPORT, HELD).tolist() == [[3, 0]] * NUM_DEVICES
    held = report(app, none).array(records.REPORT, HELD)
    assert held.tolist() == [[-1, 0]] * NUM_DEVICES and held.dtype == np.int32
    version = {INDEX: EVERYONE, VERSION: 2 * EVERYONE}
    sent = to_devices(records.EVALUATE, EVERYONE, 1, arrays={PROTOTYPE: heads(app, NUM_DEVICES)})
    _, after = app.handle(sent.with_records(configs={VERSION: version}), none)
    held = report(app, after).array(records.REPORT, HELD)
    assert held.tolist() == [[row, 2 * row] for row in EVERYONE]


@pytest.mark.parametrize(
    ("settings", "payload_bytes", "wire_bytes"),
    [
        ({}, 10 * 4, 430),
        ({"report": "feature"}, 32 * 4, 520),
        ({"prototype": 0, **EDITS}, 10 * 4 + 8, 606),
        ({"report": "feature", "prototype": 0, **EDITS}, 32 * 4 + 8, 696),
    ],
)
def test_bytes_of_each_report(
    settings: dict[str, Any], payload_bytes: int, wire_bytes: int
) -> None:
    app = DeviceApp(device_model("gru4rec", STREAM.num_items), STREAM, RECOMMENDATION)
    states = with_feature(app, 32, **{records.REPORT: records.HISTORY, **settings})
    sent = report(app, states).without(records.INSTRUMENTS)
    assert sent.payload_bytes().tolist() == [payload_bytes] * NUM_DEVICES
    assert sent.wire_bytes().tolist() == [wire_bytes] * NUM_DEVICES
    assert recorddict_to_proto(sent[0].content).ByteSize() == sent.content_bytes()[0]


def test_devices_score_and_train_the_same_with_the_layers_of_a_feature_beside_the_model() -> None:
    app = app_of()
    plain, beside = deployed(app), with_feature(app)
    for ask in (
        to_devices(
            records.EVALUATE, EVERYONE, 1, arrays={records.PARAMETERS: heads(app, NUM_DEVICES)}
        ),
        to_devices(records.TRAIN_LOCAL, EVERYONE, 1, config={"layers": "all"}),
        to_devices(records.TRAIN_LOCAL, EVERYONE, 1, config={"layers": "head"}),
    ):
        scores, after = zip(*(app.handle(ask, states) for states in (plain, beside)), strict=True)
        for name, record in scores[0].metrics.items():
            for key, value in record.items():
                np.testing.assert_array_equal(value, scores[1].metrics[name][key])
        ends: list[Arrays] = []
        for states in after:
            index = np.where(states.pending < 0, states.in_use, states.pending)
            ends.append(
                {name: states.widen(plain.static).pool[name][index] for name in plain.static}
            )
        for name in plain.static:
            np.testing.assert_array_equal(ends[0][name], ends[1][name])


def test_a_report_that_is_not_known_or_has_no_layers_is_refused() -> None:
    app, fresh = app_of(), DeviceStates(EVERYONE)
    model = {records.MODEL: model_arrays(app)}
    for report_of, match in (
        ("gradient", "report must be history or feature, got 'gradient'"),
        (
            "feature",
            "query.deploy must carry every layer, "
            "got none for feature.input.weight, .*, feature.1.bias",
        ),
    ):
        with pytest.raises(ValueError, match=match):
            app.handle(
                to_devices(records.DEPLOY, EVERYONE, shared=model, config={"report": report_of}),
                fresh,
            )
