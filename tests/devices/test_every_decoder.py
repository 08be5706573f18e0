"""What holds for every decoder that is registered."""

import copy
from typing import Any

import numpy as np
import pytest
from decoder_cases import by_rows, messages, with_sides
from device_cases import EVERYONE, NUM_DEVICES, app_of, to_devices, used
from flwr.app import Context

from cdc_flower.core.errors import UserError
from cdc_flower.devices.app import DeviceApp
from cdc_flower.devices.decoders.deployment import decoders_of, paths_of
from cdc_flower.devices.decoders.receive import receive
from cdc_flower.devices.decoders.registry import DECODERS
from cdc_flower.devices.state import DeviceStates
from cdc_flower.strategies.registry import strategies
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

pytestmark = pytest.mark.slow  # plays whole runs

assert len(strategies)  # finding them registers their decoders
CASES = [(name, kind) for name, kinds in messages(app_of()).items() for kind in kinds]
every_decoder = pytest.mark.parametrize(("decoder", "kind"), CASES)


def everything(states: DeviceStates) -> list[Any]:
    """The whole model that each device uses, and its slots with what they point at."""
    slots = [
        [
            {k: [states.pool[name][i].tolist() for i in v] for k, v in slot.index.items()}
            for name in states.pool
        ]
        + [{k: v.tolist() for k, v in slot.rows.items()}]
        for _, slot in sorted(states.slots.items())
    ]
    models = [
        {name: used(states, name, row).tolist() for name in states.static}
        for row in range(len(states))
    ]
    return [models, slots]


def rows_of(states: DeviceStates, rows: Any) -> list[Any]:
    return everything(states.select(np.asarray(rows)))


def busy(app: DeviceApp, layers: str = "head") -> DeviceStates:
    """States in which every device uses parameters of its own."""
    states = with_sides(app, 3, prototype=0)
    ask = to_devices(records.TRAIN_LOCAL, EVERYONE, 0, config={"layers": layers})
    _, states = app.handle(ask, states)
    return app.handle(to_devices(records.EVALUATE, EVERYONE, 0), states)[1]


def test_each_has_messages_here() -> None:
    assert set(messages(app_of())) == set(DECODERS)


@pytest.mark.parametrize("name", DECODERS)
def test_it_is_found_by_its_import_path_in_any_process(name: str) -> None:
    shared = {decoder.name for decoder in decoders_of({})}
    if name not in shared:
        found = decoders_of({records.DECODERS: paths_of([DECODERS[name]])})
        assert [type(decoder) for decoder in found][len(shared) :] == [DECODERS[name]]


@every_decoder
@pytest.mark.parametrize("name", ["gru4rec", "sasrec", "din"])
@pytest.mark.parametrize("layers", ["head", "all"])
def test_a_batch_of_n_equals_n_batches_of_one(
    name: str, layers: str, decoder: str, kind: str
) -> None:
    app = app_of(name)
    states, batch = busy(app, layers), messages(app)[decoder][kind]
    replies, after = app.handle(batch, states)
    for row in EVERYONE:
        own = states.select(np.array([row])).to_record()
        context = Context(1, int(row) + 2, {"partition-id": int(row)}, own, {})
        reply = MessageBatch.from_messages([app(batch[row], context)])
        for sign in ("positive", "negative"):
            np.testing.assert_allclose(
                replies.array(records.POINTS, sign)[row],
                reply.array(records.POINTS, sign)[0],
                rtol=1e-4,
                atol=1e-4,
            )
        state = DeviceStates.from_record(np.array([row]), context.state)
        assert everything(state) == rows_of(after, [row])


@every_decoder
def test_a_lost_message_changes_nothing_on_its_device(decoder: str, kind: str) -> None:
    app = app_of()
    states, batch = busy(app), messages(app)[decoder][kind]
    got, missed = np.array([0, 2, 3, 5]), np.array([1, 4, 6])
    _, part = app.handle(batch.select(got), states.select(got))
    after = states.update(got, part)
    assert rows_of(after, missed) == rows_of(states, missed)
    assert rows_of(after, got) == everything(part)
    _, again = app.handle(batch, after)  # the next one comes through to all
    assert everything(again) == everything(app.handle(batch, states)[1])


@every_decoder
def test_states_and_messages_stay_as_they_were(decoder: str, kind: str) -> None:
    app = app_of()
    states, batch = busy(app), messages(app)[decoder][kind]
    parts: list[Any] = [states.static, states.pool, *batch.arrays.values(), *batch.shared.values()]
    parts += [part for slot in states.slots.values() for part in (slot.index, slot.rows)]
    for value in (states.in_use, states.pending, *(v for part in parts for v in part.values())):
        value.setflags(write=False)
    before = copy.deepcopy(everything(states))
    receive(batch, states, app.model.adaptive)
    app.handle(batch, states)
    assert everything(states) == before


@every_decoder
def test_an_empty_batch_is_answered_with_no_replies(decoder: str, kind: str) -> None:
    app, nobody = app_of(), np.empty(0, np.int64)
    states = with_sides(app, 3, prototype=0).select(nobody)
    replies, after = app.handle(messages(app)[decoder][kind].select(nobody), states)
    assert len(replies) == len(after) == 0


@every_decoder
def test_arrays_of_another_shape_are_refused_in_one_sentence(decoder: str, kind: str) -> None:
    app = app_of()
    states, batch = with_sides(app, 3, prototype=0), messages(app)[decoder][kind]
    for group in ("arrays", "shared"):
        for record, arrays in getattr(batch, group).items():
            for name, value in arrays.items():
                wider = np.concatenate([value, value[..., :1]], -1)
                wrong = {**getattr(batch, group), record: {**arrays, name: wider}}
                with pytest.raises((ValueError, UserError), match=r"^[^\n]* must [^\n]* got ") as e:
                    app.handle(batch.with_records(**{group: wrong}), states)
                assert record in str(e.value) or name.rpartition(".")[0] in str(e.value)


@every_decoder
def test_arrays_that_the_model_does_not_have_are_refused(decoder: str, kind: str) -> None:
    app = app_of()
    states, batch = with_sides(app, 3, prototype=0), messages(app)[decoder][kind]
    for record, arrays in batch.arrays.items():
        wrong = {**batch.arrays, record: {**arrays, "tail": np.ones((NUM_DEVICES, 1), np.float32)}}
        with pytest.raises(ValueError, match=r"^[^\n]* must [^\n]*, got [^\n]*tail"):
            app.handle(batch.with_records(arrays=wrong), states)


@every_decoder
def test_a_device_without_the_decoder_refuses_its_records(decoder: str, kind: str) -> None:
    app = app_of()
    batch, states = messages(app)[decoder][kind], with_sides(app, 3)
    if decoder in {each.name for each in decoders_of({})} or not (batch.arrays or batch.shared):
        return  # every device has it; or nothing came but configs
    without = DeviceStates(EVERYONE).deployed(states.static, tuple(app.model.adaptive), {})
    with pytest.raises(
        UserError, match=r"evaluate: a payload record must be .* got '\w+'; a strat"
    ):
        app.handle(batch, without)


def test_held_parameters_follow_the_pool_wherever_they_move() -> None:
    app = app_of()
    states = busy(app)
    new = by_rows(messages(app)["edit"]["prototype"].arrays["prototype"], EVERYONE)
    _, after = app.handle(messages(app)["edit"]["prototype"], states)
    _, moved = app.handle(messages(app)["full"]["own"], after)
    assert moved.num_sets == 2 + NUM_DEVICES
    held = moved.slots["edit"].index["held"]
    for name, value in new.items():
        np.testing.assert_array_equal(moved.pool[name][held], value)
