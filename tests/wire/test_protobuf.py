"""Sizes against protobuf itself."""

import io
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ConfigRecord, MetricRecord, RecordDict
from flwr.app.error import Error
from flwr.common.serde import (
    array_to_proto,
    config_record_to_proto,
    message_to_proto,
    metric_record_to_proto,
)
from flwr.common.serde_utils import error_to_proto
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc_flower.wire import protobuf as wire
from cdc_flower.wire.identity import Envelope, Identity, make_flower_message

INTEGERS = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from(
        [0, 1, -1, 63, 64, -64, -65, 8191, 8192, 2**31, 2**62, 2**63 - 1, 2**63, -(2**63)]
    ),
)
FLOATS = st.floats()
LONG_ID = 2**64 - 1  # a varint of 10 bytes


def test_a_varint_holds_seven_bits_a_byte() -> None:
    values = np.array([0, 1, 127, 128, 16383, 16384, 2**63 - 1, 2**63, 2**64 - 1], dtype=np.uint64)
    assert wire.varint_bytes(values).tolist() == [1, 1, 1, 2, 2, 3, 9, 10, 10]


def test_zigzag_keeps_small_negative_numbers_small() -> None:
    signed = np.array([0, -1, 1, -2, 2, 2**63 - 1, -(2**63)], dtype=np.int64)
    assert wire.zigzag(signed).tolist() == [0, 1, 2, 3, 4, 2**64 - 2, 2**64 - 1]


def test_a_field_has_a_tag_and_a_length_in_front() -> None:
    assert wire.field_bytes(0) == 2
    assert wire.field_bytes(127) == 1 + 1 + 127
    assert wire.field_bytes(128, number=16) == 2 + 2 + 128
    assert np.asarray(wire.field_bytes(np.array([0, 128]))).tolist() == [2, 131]


def test_an_empty_text_is_left_out_and_an_umlaut_takes_two_bytes() -> None:
    assert wire.text_bytes("") == 0
    assert wire.text_bytes("ü") == 1 + 1 + 2


@pytest.mark.parametrize(
    "dtype",
    ["float32", "float64", "float16", "int32", "int64", "uint8", "bool", ">f4", "complex64"],
)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (0, 5), (200, 1), (1,) * 30])
def test_an_array_is_as_long_as_numpy_saves_it(dtype: str, shape: tuple[int, ...]) -> None:
    values = np.zeros(shape, dtype=dtype)
    buffer = io.BytesIO()
    np.save(buffer, values)
    assert wire.npy_header(values.dtype, shape) + values.tobytes() == buffer.getvalue()
    assert wire.npy_bytes(values.dtype, shape) == len(buffer.getvalue())
    assert wire.array_bytes(values.dtype, shape) == array_to_proto(Array(values)).ByteSize()


def test_fortran_order_is_one_character_shorter_before_the_padding() -> None:
    values = np.asfortranarray(np.zeros((3, 4)))
    assert Array(values).data.startswith(wire.npy_header(values.dtype, (3, 4), fortran_order=True))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(INTEGERS.filter(lambda v: v >= 0), FLOATS), min_size=1, max_size=1)
    | st.just([-5])
)
def test_one_number_is_as_long_as_protobuf_makes_it(values: list) -> None:
    expected = metric_record_to_proto(MetricRecord({"k": values[0]})).ByteSize()
    size = wire.numbers_bytes(wire.number_column(values))
    items = np.asarray(wire.item_bytes("k", size))
    assert items.reshape(-1).tolist() == [expected]


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.lists(st.integers(0, 2**64 - 1), max_size=70),
        st.lists(st.integers(-(2**63), 2**63 - 1), max_size=70),
        st.lists(FLOATS, max_size=70),
    )
)
def test_a_list_of_numbers_is_as_long_as_protobuf_makes_it(values: list) -> None:
    expected = metric_record_to_proto(MetricRecord({"key": values})).ByteSize()
    size = wire.numbers_bytes(wire.number_column([values, values]))
    assert np.broadcast_to(wire.item_bytes("key", size), 2).tolist() == [expected, expected]


def test_a_row_above_int64_does_not_change_the_size_of_the_others() -> None:
    column = np.array([5, 2**63, 64], dtype=np.uint64)
    assert np.asarray(wire.numbers_bytes(column)).tolist() == [2, 11, 3]  # zigzag doubles 64 to 128
    lists = np.array([[64, 2**63], [1, 64]], dtype=np.uint64)  # the first row is not zigzagged
    assert np.asarray(wire.numbers_bytes(lists)).tolist() == [2 + 1 + 2 + 11, 2 + 1 + 2 + 3]


CONFIG_VALUES = st.one_of(
    st.booleans(),
    INTEGERS,
    FLOATS,
    st.text(max_size=200),
    st.binary(max_size=200),
    st.lists(st.booleans(), max_size=5),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5),
    st.lists(st.integers(0, 2**64 - 1), max_size=5),
    st.lists(FLOATS, max_size=5),
    st.lists(st.text(max_size=80), max_size=5),
    st.lists(st.binary(max_size=80), max_size=5),
)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=3), CONFIG_VALUES)
def test_a_config_value_is_as_long_as_protobuf_makes_it(key: str, value: Any) -> None:
    expected = config_record_to_proto(ConfigRecord({key: value})).ByteSize()
    assert wire.item_bytes(key, wire.value_bytes(value)) == expected


def test_integers_of_more_than_64_bits_are_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"integers must fit into int64 or all into uint64, got \[18446744073709551616\]",
    ):
        wire.value_bytes(2**64)
    with pytest.raises(ValueError, match="integers must fit"):
        wire.value_bytes([-1, 2**63])


@pytest.mark.parametrize("message_type", ["train", "train.report", "query." + "x" * 90])
@pytest.mark.parametrize("is_reply", [False, True])
@pytest.mark.parametrize("group_id", ["", "round-3"])
def test_the_envelope_is_that_of_a_message_with_the_ids_of_a_deployment(
    message_type: str, is_reply: bool, group_id: str
) -> None:
    content = RecordDict({"config": ConfigRecord({"lr": 0.1})})
    envelope = Envelope(
        cloud=Identity(run_id=LONG_ID, node_id=1, task_id=LONG_ID),
        node_id=LONG_ID,
        message_type=message_type,
        is_reply=is_reply,
        message_id="a" * 64,
        reply_to="b" * 64 if is_reply else "",
        group_id=group_id,
        ttl_s=43200.0,
    )
    proto = message_to_proto(make_flower_message(envelope, content))
    content_field = wire.field_bytes(proto.content.ByteSize(), 2)
    assert wire.envelope_bytes(message_type, is_reply, group_id) + content_field == proto.ByteSize()


def test_the_envelope_of_a_training_message_by_hand() -> None:
    # run 11, id 66, cloud 2, device 11, ttl 9, "train" 7, created 9, task 11; then tag and length
    # of the metadata
    assert wire.envelope_bytes("train", False) == 126 + 2
    assert (
        wire.envelope_bytes("train", True) == 126 + 66 + 3
    )  # the id of the instruction; a length of two bytes


@pytest.mark.parametrize(("code", "reason"), [(0, ""), (1, "lost"), (-3, "ü" * 100), (2**40, "")])
def test_an_error_is_as_long_as_protobuf_makes_it(code: int, reason: str) -> None:
    assert wire.error_bytes(code, reason) == wire.field_bytes(
        error_to_proto(Error(code, reason)).ByteSize(), 3
    )
