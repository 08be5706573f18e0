"""The device app: a batch is the same as one message at a time.

Parameters are used from when they arrive.
"""

import copy
import pickle
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
    instruction,
    model_arrays,
    to_devices,
    used,
)
from flwr.app import Context, RecordDict

from cdc_flower.core.errors import UserError
from cdc_flower.core.stream import Truth, TruthAccessError
from cdc_flower.devices import predicting
from cdc_flower.devices.app import DeviceApp, LabelBudget, segment_of
from cdc_flower.devices.decoders.receive import receive
from cdc_flower.devices.state import DeviceStates
from cdc_flower.tasks.recommendation.metrics import RankingMetrics
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
