"""States of devices, against a naive model in which every device has arrays of its own."""

from dataclasses import replace

import numpy as np
import pytest
from device_cases import EDITS
from flwr.app import RecordDict
from hypothesis import given
from hypothesis import strategies as st

from cdc_flower.devices.decoders.deployment import deploy
from cdc_flower.devices.slots import Slot
from cdc_flower.devices.state import DeviceStates
from cdc_flower.strategies.persona.decoder import HELD, PROTOTYPE, VERSION, EditDecoder
from cdc_flower.training.scoring import Arrays

ADAPTIVE = ("head",)


def model_of(value: float) -> Arrays:
    """A deployed model of two static arrays and an adaptive one."""
    shapes = {"embedding": (3, 2), "body": (2,), "head": (2, 2)}
    return {
        name: np.full(shape, value + k, np.float32)
        for k, (name, shape) in enumerate(shapes.items())
    }


def deployed(num_devices: int, value: float = 0.0, **settings: int) -> DeviceStates:
    states = DeviceStates(np.arange(num_devices) + 10)
    return deploy(states, model_of(value), ADAPTIVE, {"steps": 3, **EDITS, **settings})


def slot_of(states: DeviceStates) -> Slot:
    """The slot of edits; before a deployment one in which nobody holds anything."""
    none = Slot({HELD: np.full(len(states), -1)}, {VERSION: np.zeros((len(states), 2), np.int32)})
    return states.slots.get(EditDecoder.name, none)


def told(states: DeviceStates) -> list:
    """Index and version of the prototype that each device says it holds."""
    decoder = EditDecoder()
    return decoder.tells(states.with_slots({decoder.name: slot_of(states)}))[HELD].tolist()


def holding(states: DeviceStates, index: np.ndarray, version: np.ndarray) -> DeviceStates:
    """The states with another prototype held."""
    return states.with_slots({EditDecoder.name: Slot({HELD: index}, {VERSION: version})})


def own(states: DeviceStates, index: np.ndarray) -> list[dict[str, list] | None]:
    """The whole model behind each index."""
    return [
        None
        if k < 0
        else {
            name: (states.pool[name][k] if name in states.pool else states.static[name]).tolist()
            for name in states.static
        }
        for k in index
    ]


def everything(states: DeviceStates) -> tuple[list, ...]:
    """What each device uses, has pending and holds, and which prototype that is."""
    held = slot_of(states).index[HELD]
    return (
        *(own(states, index) for index in (states.in_use, states.pending, held)),
        told(states),
    )


class Naive:
    """The same operations on one dictionary a device."""

    def __init__(self, num_devices: int) -> None:
        self.in_use: list = [None] * num_devices
        self.pending: list = [None] * num_devices
        self.held: list = [None] * num_devices
        self.version: list = [[-1, 0]] * num_devices

    def everything(self) -> tuple[list, ...]:
        return self.in_use, self.pending, self.held, self.version


@given(st.integers(1, 5), st.data())
def test_random_operations_keep_what_each_device_uses(
    num_devices: int, data: st.DataObject
) -> None:
    states, naive = DeviceStates(np.arange(num_devices)), Naive(num_devices)
    subsets = st.lists(
        st.integers(0, num_devices - 1), min_size=1, max_size=num_devices, unique=True
    )
    steps = st.lists(
        st.sampled_from(["deploy", "deploy", "add", "wait", "hold", "done", "record", "reorder"]),
        max_size=8,
    )
    for step, operation in enumerate(["deploy", *data.draw(steps)]):
        rows = np.array(data.draw(subsets))
        if operation == "deploy" or any(naive.in_use[row] is None for row in rows):
            prototype = data.draw(st.integers(-1, 2))
            settings = {PROTOTYPE: prototype, **EDITS}
            part = deploy(states.select(rows), model_of(100 * step), ADAPTIVE, settings)
            for row in rows:
                naive.in_use[row] = {
                    name: value.tolist() for name, value in model_of(100 * step).items()
                }
                naive.pending[row] = None
                naive.held[row] = naive.in_use[row] if prototype >= 0 else None
                naive.version[row] = [prototype, 0]
        elif operation in ("add", "wait", "hold"):
            part = states.select(rows)
            name = data.draw(st.sampled_from(["head", "body"]))
            shape = (len(rows), *part.static[name].shape)
            new = (1000 * step + np.arange(np.prod(shape))).reshape(shape).astype(np.float32)
            kept = {
                key: value[part.in_use]
                for key, value in part.widen((name,)).pool.items()
                if key != name
            }
            part, offset = part.add({**kept, name: new})
            index = offset + np.arange(len(rows))
            if operation == "hold":
                version = np.stack([rows, np.full(len(rows), step)], 1).astype(np.int32)
                part = holding(part, index, version)
            elif data.draw(st.booleans()):
                part = replace(part, **{"in_use" if operation == "add" else "pending": index})
            else:  # the same, from sets that are not in the pool yet
                fitted = {key: value[offset:] for key, value in part.pool.items()}
                part = replace(part, pool={key: value[:offset] for key, value in part.pool.items()})
                part = part.adopt(
                    fitted, *((index, part.pending) if operation == "add" else (part.in_use, index))
                )
            for k, row in enumerate(rows):
                target = {"add": naive.in_use, "wait": naive.pending, "hold": naive.held}[operation]
                target[row] = {**naive.in_use[row], name: new[k].tolist()}
                naive.version[row] = [row, step] if operation == "hold" else naive.version[row]
        elif operation == "done":
            part = states.select(rows)
            in_use = np.where(part.pending < 0, part.in_use, part.pending)
            part = replace(part, in_use=in_use, pending=np.full(len(rows), -1))
            for row in rows:
                naive.in_use[row] = naive.pending[row] or naive.in_use[row]
                naive.pending[row] = None
        elif operation == "record":
            states = DeviceStates.from_record(states.device_ids, states.to_record())
            part, rows = states, np.arange(num_devices)
        else:
            part, rows = states, np.arange(num_devices)
        before = everything(states)
        after = states.update(rows, part)
        assert everything(states) == before  # the old states are untouched
        states = after
        assert everything(states) == naive.everything()
        assert states.device_ids.tolist() == list(range(num_devices))
        assert states.num_sets <= 3 * num_devices
        assert everything(states.compact()) == everything(states)


def test_a_deployment_gives_every_device_the_layers_that_came_with_the_model() -> None:
    states = deployed(3)
    assert states.num_sets == 1 and list(states.pool) == ["head"]
    assert states.in_use.tolist() == [0, 0, 0] and states.pending.tolist() == [-1, -1, -1]
    assert own(states, states.in_use)[2] == {
        name: value.tolist() for name, value in model_of(0.0).items()
    }


@pytest.mark.parametrize(
    ("prototype", "held"), [(2, [0, 0, 0]), (0, [0, 0, 0]), (-1, [-1, -1, -1])]
)
def test_a_deployed_prototype_is_held_in_version_0(prototype: int, held: list[int]) -> None:
    states = deployed(3, prototype=prototype)
    slot = slot_of(states)
    assert slot.index[HELD].tolist() == held and states.num_sets == 1
    assert slot.rows[VERSION].tolist() == [[prototype, 0]] * 3
    assert slot.rows[VERSION].dtype == np.int32
    plain = slot_of(deployed(3))
    assert plain.index[HELD].tolist() == [-1, -1, -1]
    assert plain.rows[VERSION].tolist() == [[-1, 0]] * 3


def test_a_prototype_that_nobody_uses_is_kept_and_one_that_nobody_holds_is_not() -> None:
    states = deployed(3, prototype=0)
    sets = {"head": np.arange(12, dtype=np.float32).reshape(3, 2, 2)}
    moved = states.adopt(sets, np.array([1, 2, 3]), np.full(3, -1))
    assert moved.num_sets == 4 and everything(moved)[2:] == everything(states)[2:]
    np.testing.assert_array_equal(moved.pool["head"][moved.in_use], sets["head"])
    without = holding(moved, np.full(3, -1), slot_of(moved).rows[VERSION]).compact()
    assert without.num_sets == 3
    assert (
        deployed(3).adopt(sets, np.array([1, 2, 3]), np.full(3, -1)).pool["head"] is sets["head"]
    )  # no copy


def test_before_the_deployment_nobody_has_parameters() -> None:
    states = DeviceStates(np.arange(3))
    assert states.in_use.tolist() == [-1, -1, -1] == states.pending.tolist()
    assert states.compact() is states and len(states.select(np.array([1]))) == 1


def test_ten_thousand_devices_that_share_parameters_hold_one_set() -> None:
    few, many = deployed(1), deployed(10_000)
    assert many.num_sets == 1
    assert many.nbytes - few.nbytes == 9_999 * 5 * 8  # a device id, three indices, and a version
    received, offset = many.add({"head": np.ones((1, 2, 2), np.float32)})
    adopted = DeviceStates(
        many.device_ids, many.static, received.pool, np.full(10_000, offset), slots=many.slots
    ).compact()
    assert adopted.nbytes == many.nbytes


def test_all_devices_in_another_order_come_back_to_their_rows() -> None:
    states, offset = deployed(3).add({"head": np.arange(12, dtype=np.float32).reshape(3, 2, 2)})
    rows = np.array([2, 0, 1])
    part = states.select(rows)
    changed = DeviceStates(part.device_ids, part.static, part.pool, offset + np.arange(3))
    updated = states.update(rows, changed)
    assert updated.device_ids.tolist() == [10, 11, 12]
    assert [used["head"][0][0] for used in own(updated, updated.in_use) if used] == [4.0, 8.0, 0.0]


def test_parameters_that_were_not_sent_are_filled_from_the_deployed_model() -> None:
    states, offset = deployed(2).add({"body": np.full((1, 2), 9.0, np.float32)})
    assert own(states, np.array([offset]))[0] == {
        **{k: v.tolist() for k, v in model_of(0.0).items()},
        "body": [9.0, 9.0],
    }


def test_what_is_added_takes_the_dtype_of_the_model() -> None:
    states, _ = deployed(2).add({"head": np.ones((1, 2, 2))})
    assert states.pool["head"].dtype == np.float32


def test_parameters_that_the_model_does_not_have_are_refused() -> None:
    with pytest.raises(
        ValueError, match="parameters must be those of the deployed model, got tail"
    ):
        deployed(2).add({"tail": np.ones((1, 2))})
    with pytest.raises(ValueError, match=r"head must have shape \(2, 2\), got \(2, 3\)"):
        deployed(2).add({"head": np.ones((1, 2, 3))})


def test_records_keep_states_and_settings() -> None:
    states, offset = deployed(2).add({"head": np.ones((1, 2, 2), np.float32)})
    states = DeviceStates(
        states.device_ids,
        states.static,
        states.pool,
        np.array([0, offset]),
        np.array([offset, -1]),
        {"rate": 0.5},
        states.slots,
    )
    back = DeviceStates.from_record(states.device_ids, states.to_record())
    assert everything(back) == everything(states)
    assert back.settings == {"rate": 0.5} and back.pool["head"].dtype == np.float32
    empty = DeviceStates.from_record(np.arange(2), RecordDict())
    assert not empty.static and empty.in_use.tolist() == [-1, -1]
    undeployed = DeviceStates.from_record(np.arange(2), DeviceStates(np.arange(2)).to_record())
    assert not undeployed.static and undeployed.in_use.tolist() == [-1, -1]
