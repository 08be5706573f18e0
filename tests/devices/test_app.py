"""The device app: a batch is the same as one message at a time.

Parameters are used from when they arrive.
"""

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
    instruction,
    model_arrays,
    to_devices,
    used,
)
from flwr.app import Context, RecordDict

from cdc_flower.core.errors import UserError
from cdc_flower.devices import predicting
from cdc_flower.devices.app import segment_of
from cdc_flower.devices.state import DeviceStates
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


def context_of(device_id: int) -> Context:
    return Context(1, device_id + 2, {"partition-id": device_id}, RecordDict(), {})


KINDS = (
    "deploy",
    "report",
    "train in place head",
    "train in place all",
    "train a head",
    "train a model",
    "evaluate own parameters",
    "evaluate a shared model",
    "evaluate nothing",
)


def assert_close(ours: MessageBatch, row: int, theirs: MessageBatch) -> None:
    """A row of a batch of replies, against a batch of one reply."""
    assert set(ours.record_names()) == set(theirs.record_names())
    for name in theirs.array_names():
        for key in {**theirs.arrays.get(name, {}), **theirs.shared.get(name, {})}:
            mine, other = ours.array(name, key)[row], theirs.array(name, key)[0]
            assert mine.dtype == other.dtype
            np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-5)
    for group in ("metrics", "configs"):
        for name, record in getattr(theirs, group).items():
            for key, value in record.items():
                np.testing.assert_allclose(
                    getattr(ours, group)[name][key][row], np.ravel(value), rtol=1e-5, atol=1e-5
                )


def assert_same_state(ours: DeviceStates, row: int, theirs: DeviceStates) -> None:
    assert ours.settings == theirs.settings
    for name in ours.static:
        np.testing.assert_allclose(
            used(ours, name, row), used(theirs, name, 0), rtol=1e-5, atol=1e-5
        )
        assert (ours.pending[row] < 0) == (theirs.pending[0] < 0)
        if ours.pending[row] >= 0:
            mine, other = used(ours, name, row, True), used(theirs, name, 0, True)
            np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["gru4rec", "sasrec", "din"])
def test_a_batch_of_n_equals_n_batches_of_one(name: str, kind: str) -> None:
    app = app_of(name)
    before = deployed(app, **{records.FINE_TUNING_STEPS: 2, "optimizer": "sgd", "rate": 0.1})
    copied = {key: value.copy() for key, value in before.pool.items()}
    batch = instruction(app, kind)
    replies, after = app.handle(batch, before)
    assert len(replies) == len(after) == NUM_DEVICES and replies.is_reply
    assert replies.node_ids.tolist() == batch.node_ids.tolist()
    for row in EVERYONE:
        reply, state = app.handle(batch.select([row]), before.select(np.array([row])))
        assert_close(replies, int(row), reply)
        assert_same_state(after, int(row), state)
    assert all(
        np.array_equal(before.pool[key], copied[key]) for key in copied
    )  # the old states are untouched


@pytest.mark.parametrize("kind", KINDS[:6])
def test_an_empty_batch_is_answered_with_no_replies(kind: str) -> None:
    app = app_of()
    nobody = np.empty(0, np.int64)
    replies, after = app.handle(instruction(app, kind).select(nobody), deployed(app).select(nobody))
    assert len(replies) == len(after) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_what_may_go_up_goes_up(kind: str) -> None:
    app = app_of()
    replies, _ = app.handle(instruction(app, kind), deployed(app))
    assert set(replies.record_names()) <= records.UPLINK
    payload = set(replies.record_names()) - records.INSTRUMENTS
    assert payload == {
        "report": {records.REPORT},
        "train a head": {records.ARRAYS, records.METRICS},
        "train a model": {records.ARRAYS, records.METRICS},
    }.get(kind, set())


@pytest.mark.parametrize(
    "when", ["always there", "spread over the segment", "after the end", "at an event"]
)
def test_events_before_the_arrival_are_scored_with_the_old_and_later_ones_with_the_new_parameters(
    when: str,
) -> None:
    app, segment = app_of(), 1
    states, new = deployed(app), heads(app, NUM_DEVICES)
    arrival_s = {
        "always there": np.full(NUM_DEVICES, -np.inf),
        "spread over the segment": SEGMENT_S * (1 + EVERYONE / NUM_DEVICES),
        "after the end": np.full(NUM_DEVICES, 2 * SEGMENT_S),
        "at an event": np.array(
            [app.stream.segment(EVERYONE[[k]], segment).times_s[2] for k in EVERYONE]
        ),
    }[when]
    batch = to_devices(
        records.EVALUATE,
        EVERYONE,
        segment,
        clock={records.ARRIVAL_S: arrival_s},
        arrays={records.PARAMETERS: new},
    )
    replies, after = app.handle(batch, states)
    data, expected = by_hand(app, states, new, arrival_s, segment)
    scores = replies.metrics[records.SCORES]
    np.testing.assert_allclose(scores["value-sum"], expected.value_sum, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(scores["value-count"], expected.value_count)
    assert scores[records.NUM_EXAMPLES].tolist() == data.num_events.tolist()
    assert scores[records.DEVICE_ID].tolist() == EVERYONE.tolist()
    assert (~np.isnan(replies.array(records.POINTS, "positive"))).sum() == len(data.row)
    for row in EVERYONE:  # from the next segment on, everyone has the new ones
        np.testing.assert_array_equal(used(after, "head.0.weight", row), new["head.0.weight"][row])
    assert after.num_sets == NUM_DEVICES


def test_devices_are_played_in_chunks_without_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_of()
    states, batch = deployed(app), instruction(app, "evaluate own parameters")
    whole, _ = app.handle(batch, states)
    monkeypatch.setattr(predicting, "DEVICES_PER_CHUNK", 3)
    cut, _ = app.handle(batch, states)
    for row in EVERYONE:
        assert_close(whole, row, cut.select([row]))


def test_one_flower_message_with_its_context_gives_the_same_and_keeps_its_state() -> None:
    app, row = app_of(), 4
    states, context = DeviceStates(EVERYONE), context_of(row)
    for kind in (
        "deploy",
        "report",
        "train in place head",
        "evaluate nothing",
        "train a model",
        "evaluate nothing",
    ):
        batch = instruction(app, kind)
        replies, states = app.handle(batch, states)
        reply = app(batch[row], context)
        assert reply.metadata.dst_node_id == batch[row].metadata.src_node_id
        assert_close(replies, row, MessageBatch.from_messages([reply]))
        assert_same_state(states, row, DeviceStates.from_record(np.array([row]), context.state))


def test_a_report_leaves_the_state_of_flower_alone() -> None:
    context = context_of(0)
    app = app_of()
    before = context.state
    app(instruction(app, "report")[0], context)
    assert context.state is before and not context.state


def test_what_does_not_fit_is_refused() -> None:
    app = app_of()
    states, fresh = deployed(app), DeviceStates(EVERYONE)
    with pytest.raises(
        ValueError, match=r"message_type must be one of query.deploy, .*evaluate, got 'query.odd'"
    ):
        app.handle(to_devices("query.odd", EVERYONE), states)
    with pytest.raises(
        ValueError, match="a batch must have one message a device, got 2 for 7 devices"
    ):
        app.handle(to_devices(records.EVALUATE, [0, 1]), states)
    with pytest.raises(UserError, match="train must carry the record arrays, got none"):
        app.handle(to_devices(records.TRAIN, EVERYONE), states)
    for message_type in (records.TRAIN, records.TRAIN_LOCAL, records.EVALUATE):
        with pytest.raises(
            ValueError, match=rf"{message_type} must follow query.deploy, got none on device 0"
        ):
            app.handle(to_devices(message_type, EVERYONE), fresh)
    with pytest.raises(
        ValueError, match=r"query.deploy must carry every layer, got none for head.1.bias"
    ):
        model = {name: value for name, value in model_arrays(app).items() if name != "head.1.bias"}
        app.handle(to_devices(records.DEPLOY, EVERYONE, shared={records.MODEL: model}), fresh)
    with pytest.raises(
        ValueError, match="a batch must deploy one model, got several values of embedding"
    ):
        models = [model_arrays(app, seed) for seed in EVERYONE]
        stacked = {name: np.stack([model[name] for model in models]) for name in models[0]}
        app.handle(to_devices(records.DEPLOY, EVERYONE, arrays={records.MODEL: stacked}), fresh)


def test_the_segment_is_the_clocks_or_the_round_of_a_stock_strategy() -> None:
    batch = to_devices(records.EVALUATE, [0], 3, config={records.SERVER_ROUND: 9})
    assert segment_of(batch) == 3
    assert segment_of(batch.without({records.CLOCK})) == 8
    with pytest.raises(
        ValueError, match="evaluate must carry segment or server-round, got neither"
    ):
        segment_of(batch.without({records.CLOCK, records.CONFIG}))
