"""A reply with an array that cannot be read is an error in its place, and the others are read."""

import io
from typing import Any

import numpy as np
import pytest
from flwr.app import Array

from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.identity import UNREADABLE

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


def replies(bad: Any, num_replies: int = 3) -> list[Any]:
    """Single replies, of which the second has another array."""
    asked = MessageBatch("train", np.arange(2, 2 + num_replies))
    arrays = {"arrays": {"w": np.stack([VALUES + k for k in range(num_replies)])}}
    listed = list(asked.reply(arrays=arrays))
    listed[1].content["arrays"]["w"] = bad
    return listed


def array(**changed: Any) -> Array:
    whole = Array(VALUES)
    given = {"dtype": whole.dtype, "shape": whole.shape, "stype": whole.stype, "data": whole.data}
    return Array(**{**given, **changed})


def saved(values: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, values, version=version, allow_pickle=True)
    return file.getvalue()


BAD = {
    "text": {"data": b"this is no array"},
    "nothing": {"data": b""},
    "cut off": {"data": array().data[:-1]},
    "longer": {"data": array().data + b"0"},
    "another shape inside": {"data": saved(VALUES.T)},
    "another type inside": {"data": saved(VALUES.astype(np.int32))},
    "objects inside": {"data": saved(np.array([[None] * 3] * 2, object))},
    "a type of text": {"dtype": "<U3"},
    "a type of objects": {"dtype": "object"},
    "no type": {"dtype": "floats"},
    "a lie about its shape": {"shape": (10**6, 10**6, 10**6)},
    "a negative shape": {"shape": (-2, 3)},
    "another serialization": {"stype": "pickle"},
    "a header that lies": {"data": saved(VALUES).replace(b"(2, 3)", b"(9**9,)")},
}


@pytest.mark.parametrize("name", BAD)
def test_it_is_an_error_and_the_others_are_read(name: str) -> None:
    batches = MessageBatch.group(replies(array(**BAD[name])))
    errors = {
        int(batch.node_ids[row]): error
        for batch, _ in batches
        for row, error in batch.errors.items()
    }
    assert [*errors] == [3] and errors[3][0] == UNREADABLE and errors[3][1].startswith("arrays: ")
    good = {
        int(batch.node_ids[row]): batch.array("arrays", "w")[row]
        for batch, _ in batches
        for row in batch.ok_rows()
    }
    assert sorted(good) == [2, 4]
    np.testing.assert_array_equal(good[4], VALUES + 2)


@pytest.mark.parametrize("name", BAD)
def test_a_reply_alone_is_an_error_too(name: str) -> None:
    (batch, where), *others = MessageBatch.group(replies(array(**BAD[name]))[1:2])
    assert not others and where.tolist() == [0]
    assert [*batch.errors] == [0] and batch.record_names() == []


@pytest.mark.parametrize(
    "data", [saved(np.asfortranarray(VALUES)), saved(VALUES, (2, 0))], ids=["Fortran", "2.0"]
)
def test_other_forms_of_the_format_are_read(data: bytes) -> None:
    batches = MessageBatch.group(replies(array(data=data)))
    assert not any(batch.errors for batch, _ in batches)
    for batch, _ in batches:
        row = np.flatnonzero(batch.node_ids == 3)
        np.testing.assert_array_equal(
            batch.array("arrays", "w")[row], VALUES[None].repeat(len(row), 0)
        )


def test_what_the_cloud_itself_sends_must_be_readable() -> None:
    message = next(iter(MessageBatch("train", np.array([2]), {"arrays": {"w": VALUES[None]}})))
    message.content["arrays"]["w"] = array(data=b"no array")  # type: ignore[index]
    with pytest.raises(ValueError, match="pickled"):
        MessageBatch.from_messages([message])
