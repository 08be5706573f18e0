"""Saved states come back to the bit, also from files, and what does not fit is refused."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import counting_app, inline, strategy

from cdc_flower.core.errors import UserError
from cdc_flower.core.packing import generator_arrays, packed, restore_generator, unpacked
from cdc_flower.core.saveable import (
    ANY,
    check_plain,
    json_array,
    json_of,
    load_arrays,
    nested,
    part_of,
    prefixed,
    restore_fields,
    save_arrays,
    saved_fields,
    taken,
    text_array,
    text_of,
)
from cdc_flower.devices.state import DeviceStates
from cdc_flower.simulations.deployment import deploy
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.simulations.network.sharing import SharedCapacity, Workers
from cdc_flower.simulations.requests.policies import Devices
from cdc_flower.simulations.requests.policies.on_drift import OnDrift
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.identity import Identity

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(codec="utf-8")),
    st.binary(max_size=8),
)
KEYS = st.one_of(st.integers(), st.text(st.characters(codec="utf-8"), max_size=4))
TREES = st.recursive(
    SCALARS,
    lambda inside: st.one_of(
        st.lists(inside, max_size=3),
        st.lists(inside, max_size=3).map(tuple),
        st.dictionaries(KEYS, inside, max_size=3),
    ),
    max_leaves=8,
)


@settings(max_examples=60)
@given(TREES)
def test_values_of_any_structure_come_back(value: Any) -> None:
    again = unpacked(packed(value))
    assert repr(again) == repr(value)


def test_arrays_tensors_and_records_come_back_with_their_types(tmp_path: Path) -> None:
    value = {
        3: np.arange(6, dtype=np.float16).reshape(2, 3).T,
        "b": [torch.tensor([1.5, float("nan")]), np.float32(0.1), np.array(7, np.uint64)],
        (1, "k"): (np.empty((0, 4), bool), MetricRecord({"x": [1.0, 2.0], "n": 3})),
        "record": ArrayRecord({"z": _flower_array(), "a": _flower_array()}),
        "config": ConfigRecord({"text": "t", "bytes": b"b", "flag": True}),
    }
    save_arrays(tmp_path / "a.safetensors", packed(value))
    again = unpacked(load_arrays(tmp_path / "a.safetensors"))
    assert list(again) == list(value)
    np.testing.assert_array_equal(again[3], value[3])
    assert again[3].dtype == np.float16
    assert isinstance(again["b"][0], torch.Tensor)
    assert again["b"][0].numpy().tobytes() == value["b"][0].numpy().tobytes()
    assert type(again["b"][1]) is np.float32 and again["b"][1] == np.float32(0.1)
    assert again["b"][2].shape == () and again["b"][2].dtype == np.uint64
    assert again[1, "k"][0].shape == (0, 4)
    assert again[1, "k"][1] == value[1, "k"][1]  # type: ignore[index]
    assert again["config"] == value["config"]
    assert list(again["record"]) == ["z", "a"]
    assert again["record"]["z"] == _flower_array()


def _flower_array() -> Any:
    from flwr.app import Array

    return Array(np.ones((2, 2), np.float32))


def test_what_cannot_be_saved_is_refused_and_nothing_is_pickled() -> None:
    with pytest.raises(TypeError, match="got object"):
        packed({"a": [object()]})
    with pytest.raises(TypeError, match="part must be an array of numbers, got object"):
        check_plain({"part": np.array([None])})
    with pytest.raises(TypeError, match="got <U1"):
        check_plain({"part": np.array(["a"])})
    with pytest.raises(UserError, match="must hold 0, got one without it"):
        unpacked({"tree": packed(np.ones(2))["tree"]})


def test_a_file_keeps_the_order_of_names_and_is_replaced_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.safetensors"
    arrays = {"z": np.float64(1)[None], "a": np.array(True), "m/b": np.ones((2, 3)).T}
    save_arrays(path, arrays)
    again = load_arrays(path)
    assert list(again) == ["z", "a", "m/b"]
    for name, value in arrays.items():
        np.testing.assert_array_equal(again[name], value)
        assert (again[name].shape, again[name].dtype) == (value.shape, value.dtype)
    with pytest.raises(TypeError):
        save_arrays(path, {"a": np.array([None])})
    assert list(load_arrays(path)) == ["z", "a", "m/b"]
    assert [file.name for file in path.parent.iterdir()] == ["a.safetensors"]
    path.write_bytes(b"no")
    with pytest.raises(UserError, match="must be a safetensors file"):
        load_arrays(path)


def test_parts_are_nested_and_messages_say_the_whole_name() -> None:
    inner = prefixed("links", prefixed("up", {"free_s": np.zeros(3), "n": np.array(2)}))
    part = part_of(part_of(inner, "links"), "up")
    assert list(part) == ["free_s", "n"]
    assert not part_of(inner, "link")
    with pytest.raises(UserError, match="must hold links/up/size, got one without it"):
        taken(part, "size", np.int64)
    with pytest.raises(UserError, match=r"links/up/free_s .* float64 \[4\], got float64 \[3\]"):
        taken(part, "free_s", np.float64, (4,))
    with pytest.raises(UserError, match=r"links/up/n .* int64 \[any\], got int64 \[\]"):
        taken(part, "n", np.int64, (ANY,))
    with pytest.raises(UserError, match=r"links/up/n .* bool, got int64"):
        taken(part, "n", np.bool_)
    assert taken(part, "free_s", np.float64, (ANY,)) is not part["free_s"]


def test_fields_come_back_as_the_types_that_they_are() -> None:
    class Owner:
        def __init__(self) -> None:
            self._rows, self.count, self.flag, self.time_s = np.zeros(2), 0, False, 0.0

    one, other, names = Owner(), Owner(), ("_rows", "count", "flag", "time_s")
    one._rows, one.count, one.flag, one.time_s = np.array([1.0, 2.0]), 5, True, -np.inf
    saved = saved_fields(one, names)
    one._rows[0] = 9.0
    restore_fields(other, names, saved)
    assert other._rows.tolist() == [1.0, 2.0]
    assert (other.count, other.flag, other.time_s) == (5, True, -np.inf)
    assert [type(getattr(other, name)) for name in names[1:]] == [int, bool, float]


def test_texts_and_json_are_bytes() -> None:
    arrays = {"text": text_array("Ünïcode"), "json": json_array({"a": [0.1, float("inf"), None]})}
    assert arrays["text"].dtype == np.uint8
    assert text_of(arrays, "text") == "Ünïcode"
    assert json_of(arrays, "json") == {"a": [0.1, float("inf"), None]}


@pytest.mark.parametrize(
    ("make", "draw"),
    [
        (lambda: np.random.default_rng(3), lambda draws: draws.normal(size=3).tolist()),
        (lambda: np.random.Generator(np.random.MT19937(3)), lambda draws: draws.random(2).tolist()),
        (lambda: torch.Generator().manual_seed(3), lambda g: torch.rand(3, generator=g).tolist()),
        (lambda: random.Random(3), lambda draws: [draws.gauss(0, 1), draws.random()]),
    ],
    ids=["pcg64", "mt19937", "torch", "python"],
)
def test_generators_go_on_where_they_stopped(make: Any, draw: Any, tmp_path: Path) -> None:
    draws, other = make(), make()
    draw(draws)
    save_arrays(tmp_path / "g.safetensors", generator_arrays(draws))
    restore_generator(other, load_arrays(tmp_path / "g.safetensors"))
    assert draw(other) == draw(draws)
    kind = random.Random() if not isinstance(other, random.Random) else np.random.default_rng()
    with pytest.raises(UserError, match="a saved generator must be of"):
        restore_generator(kind, generator_arrays(draws))


def test_a_batch_comes_back_with_ids_times_and_errors(tmp_path: Path) -> None:
    batch = MessageBatch(
        "evaluate",
        np.array([5, 2**63 + 1, 9], np.uint64),
        arrays={
            "parameters": {
                "w/x": np.arange(12.0).reshape(3, 2, 2)[:, ::-1],
                "empty": np.ones((3, 0)),
            }
        },
        shared={"parameters": {"b": np.float32([1.5])}, "none": {}},
        metrics={"m": {"k": np.array([1, 2, 3]), "list": np.ones((3, 2))}},
        configs={
            "c": {"text": "a", "list": [1, 2], "bytes": b"\x00", "flag": True, "x": 0.1},
            "d": {"each": np.array([1.5, 2.5, 3.5])},
        },
        is_reply=True,
        message_ids=["a", "b", "c"],
        reply_to=["x", "y", "z"],
        group_id="g",
        ttl_s=np.array([1.0, 2.0, 3.0]),
        created_at_s=12.25,
        errors={1: (2, "no battery")},
        cloud=Identity(4, 5, None),
    )
    save_arrays(tmp_path / "b.safetensors", batch.to_arrays())
    again = MessageBatch.from_arrays(load_arrays(tmp_path / "b.safetensors"))
    assert again == batch
    assert [again.record_names(), again.array_names()] == [
        batch.record_names(),
        batch.array_names(),
    ]
    assert {name: list(record) for name, record in again.configs.items()} == {
        "c": ["text", "list", "bytes", "flag", "x"],
        "d": ["each"],
    }
    np.testing.assert_array_equal(again.wire_bytes(), batch.wire_bytes())


def test_device_states_come_back_with_their_slots() -> None:
    grid = inline()
    deploy(grid, strategy("persona", downlink="edit"))
    states: Any = grid.states
    assert states.slots
    again = DeviceStates(states.device_ids).from_arrays(states.to_arrays())
    assert list(again.static) == list(states.static)
    assert again.settings == states.settings
    for name, slot in states.slots.items():
        for part in ("index", "rows"):
            for key, value in getattr(slot, part).items():
                np.testing.assert_array_equal(getattr(again.slots[name], part)[key], value)
    for name in ("in_use", "pending"):
        np.testing.assert_array_equal(getattr(again, name), getattr(states, name))
    with pytest.raises(UserError, match="same devices"):
        DeviceStates(states.device_ids + 1).from_arrays(states.to_arrays())


def test_an_ordinary_flower_app_goes_on_with_its_contexts() -> None:
    first, other = (InlineGrid(counting_app(), np.arange(3)) for _ in range(2))

    def calls(grid: InlineGrid) -> list[int]:
        asked = [
            Message(RecordDict(), dst_node_id=node, message_type="query")
            for node in grid.get_node_ids()
        ]
        contents: list[Any] = [reply.content for reply in grid.send_and_receive(asked)]
        return [int(content["state"]["calls"]) for content in contents]

    calls(first)
    calls(first)
    other.from_arrays(first.to_arrays())
    assert calls(other) == [3, 3, 3]
    with pytest.raises(UserError, match="of 2 devices, got 3"):
        InlineGrid(counting_app(), np.arange(2)).from_arrays(first.to_arrays())


def test_a_grid_with_replies_that_nobody_pulled_is_not_saved() -> None:
    grid = InlineGrid(counting_app(), np.arange(2))
    message = Message(RecordDict(), dst_node_id=2, message_type="query")
    ids = grid.push_messages([message])
    with pytest.raises(RuntimeError, match="must be pulled before"):
        grid.to_arrays()
    grid.pull_messages(ids)
    grid.to_arrays()


@pytest.mark.ray
def test_devices_on_ray_go_on_with_as_many_workers_and_with_another_number() -> None:
    from cdc_flower.simulations.grids.ray import RayGrid

    first = RayGrid(inline().handler, np.arange(4), num_workers=2)
    try:
        built = strategy("duet")
        deploy(first, built)
        saved = first.to_arrays()
        other = RayGrid(inline().handler, np.arange(4), num_workers=2)
        other.from_arrays(saved)
        for name, value in saved.items():
            np.testing.assert_array_equal(other.to_arrays()[name], value)
        alone = inline()
        alone.from_arrays(saved)
        assert alone.to_arrays()["num_shards"] == 1
        other.from_arrays(alone.to_arrays())
        for name, value in saved.items():
            np.testing.assert_array_equal(other.to_arrays()[name], value)
    finally:
        first.close()


def test_a_cell_and_workers_go_on() -> None:
    def played(changes: bool) -> list[list[float]]:
        cell, workers = SharedCapacity(800.0, 0.0), Workers(2, 0.0)
        cell.add(np.arange(3), np.array([0.0, 0.5, 9.0]), np.array([300, 50, 10]))
        left = [cell.run(0.75).times_s.tolist(), workers.serve(np.ones(3), np.ones(3)).tolist()]
        if changes:
            saved = nested({"cell": cell, "workers": workers})
            cell, workers = SharedCapacity(800.0, 0.0), Workers(2, 0.0)
            cell.from_arrays(part_of(saved, "cell"))
            workers.from_arrays(part_of(saved, "workers"))
        cell.add(np.array([7]), np.array([1.0]), np.array([20]))
        return [
            *left,
            cell.run(np.inf).times_s.tolist(),
            workers.serve(np.ones(2), np.ones(2)).tolist(),
        ]

    assert played(True) == played(False)
    with pytest.raises(UserError, match=r"float64 \[3\], got float64 \[2\]"):
        Workers(3, 0.0).from_arrays(Workers(2, 0.0).to_arrays())


class Values:
    """A sensor that tells given values."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def surprises(self, device_ids: np.ndarray, segment: int) -> list[list[float]]:
        return [self.values[device, segment].tolist() for device in device_ids]

    def to_arrays(self) -> dict[str, np.ndarray]:
        return {}

    def from_arrays(self, arrays: Any) -> None:
        pass


@pytest.mark.parametrize(("detector", "threshold"), [("page_hinkley", 0.5), ("adwin", 1.0)])
def test_drift_detectors_go_on_with_what_they_have_seen(detector: str, threshold: float) -> None:
    pytest.importorskip("river")
    values = np.random.default_rng(0).normal(size=(3, 12, 40)) * 0.1
    values[:, 5:] += 1
    values[1, 9:] += 2

    def policy() -> OnDrift:
        made = OnDrift("on_drift", None, detector, threshold, 0.05)
        doubt: Any = None
        made.start(Devices(0, lambda: Values(values), lambda _: doubt))
        return made

    whole, ids = policy(), np.arange(3)
    fires = [whole.decide(ids, segment).tolist() for segment in range(12)]
    assert len(np.unique(np.array(fires)[4:])) == 2
    for stop in (1, 6, 7, 10):
        first, second = policy(), policy()
        before = [first.decide(ids, segment).tolist() for segment in range(stop)]
        second.from_arrays(first.to_arrays())
        after = [second.decide(ids, segment).tolist() for segment in range(stop, 12)]
        assert before + after == fires
    fresh = policy()
    assert [fresh.decide(ids, segment).tolist() for segment in range(5, 12)] != fires[5:]
