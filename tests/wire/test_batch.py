"""A batch gives ordinary Flower messages, comes back from them, and knows their sizes."""

import pickle
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from batch_cases import small
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto, recorddict_to_proto
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.identity import Identity, ensure_identity

DTYPES = ("float32", "float64", "float16", "int32", "int64", "uint8", "bool")


SHAPES = ((), (0,), (1,), (3,), (2, 3), (0, 2))


NAMES = st.text("abc-é", min_size=0, max_size=3)


INT64 = st.integers(-(2**63), 2**63 - 1) | st.integers(-70, 70)


DEPLOYED = Identity(run_id=2**64 - 1, node_id=1, task_id=2**63)


@pytest.fixture(autouse=True, scope="module")
def _identity() -> None:
    ensure_identity()


def column(draw: st.DrawFn, n: int, allow_list: bool) -> np.ndarray:
    kind = draw(st.sampled_from(["int", "float", "large"]))
    shape = (n, draw(st.integers(0, 3))) if allow_list and draw(st.booleans()) else (n,)
    elements = {"int": INT64, "float": st.floats(), "large": st.integers(0, 2**64 - 1)}[kind]
    dtype = {"int": np.int64, "float": np.float64, "large": np.uint64}[kind]
    size = int(np.prod(shape))
    return np.array(draw(st.lists(elements, min_size=size, max_size=size)), dtype=dtype).reshape(
        shape
    )


@st.composite
def records(draw: st.DrawFn, n: int) -> dict[str, Any]:
    """Random records of every kind for n messages."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def array(rows: tuple[int, ...]) -> np.ndarray:
        dtype, shape = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(SHAPES))
        return rng.integers(0, 256, (*rows, *shape)).astype(dtype)

    parts: dict[str, Any] = {"arrays": {}, "shared": {}, "metrics": {}, "configs": {}}
    for name in draw(st.lists(NAMES, unique=True, max_size=4)):
        kind = draw(st.sampled_from(["arrays", "metrics", "configs"]))
        keys = draw(st.lists(NAMES, unique=True, max_size=3))
        if kind == "arrays":
            is_shared = {key: draw(st.booleans()) for key in keys}
            parts["arrays"][name] = {key: array((n,)) for key in keys if not is_shared[key]}
            parts["shared"][name] = {key: array(()) for key in keys if is_shared[key]}
        elif kind == "metrics":
            parts["metrics"][name] = {key: column(draw, n, allow_list=True) for key in keys}
        else:
            one = st.one_of(
                st.booleans(), INT64, st.floats(), st.text(max_size=4), st.binary(max_size=4)
            )
            many = st.one_of(
                st.lists(st.floats(), max_size=3),
                st.lists(st.booleans()),
                st.lists(st.text(max_size=3)),
            )
            parts["configs"][name] = {
                key: draw(one | many) if draw(st.booleans()) else column(draw, n, allow_list=False)
                for key in keys
            }
    return parts


@st.composite
def batches(draw: st.DrawFn) -> MessageBatch:
    """Random batches of 1 to 4 messages with the ids of a deployment."""
    n = draw(st.integers(1, 4))
    is_reply = draw(st.booleans())
    errors = (
        draw(st.dictionaries(st.integers(0, n - 1), st.tuples(INT64, st.text(max_size=5))))
        if is_reply
        else {}
    )
    return MessageBatch(
        draw(st.sampled_from(["train", "evaluate.own"])),
        np.array(
            draw(st.lists(st.integers(2**63, 2**64 - 1), min_size=n, max_size=n)), dtype=np.uint64
        ),
        is_reply=is_reply,
        message_ids=[f"{i:064x}" for i in range(n)],
        reply_to=[f"{i:064x}" for i in range(n)] if is_reply else None,
        errors=errors,
        created_at_s=np.arange(1.0, n + 1) if draw(st.booleans()) else 5.0,
        cloud=DEPLOYED,
        **draw(records(n)),
    )


@settings(max_examples=120, deadline=None)
@given(batches())
def test_a_batch_comes_back_from_its_messages(batch: MessageBatch) -> None:
    messages = list(batch)
    assert MessageBatch.from_messages(messages) == batch
    serialized = [message_from_proto(message_to_proto(message)) for message in messages]
    assert MessageBatch.from_messages(serialized) == batch


@settings(max_examples=120, deadline=None)
@given(batches())
def test_bytes_counted_are_bytes_encoded(batch: MessageBatch) -> None:
    messages = list(batch)
    contents = [
        recorddict_to_proto(m.content).ByteSize() if m.has_content() else 0 for m in messages
    ]
    assert batch.content_bytes().tolist() == contents
    sent = [
        message_to_proto(m).ByteSize() if batch.record_names() or m.has_error() else 0
        for m in messages
    ]
    assert batch.wire_bytes().tolist() == sent


@settings(max_examples=40, deadline=None)
@given(batches(), st.data())
def test_select_and_concat_are_those_of_lists(batch: MessageBatch, data: st.DataObject) -> None:
    rows = data.draw(st.permutations(range(len(batch))))
    picked = batch.select(np.array(rows))
    assert MessageBatch.from_messages([batch[row] for row in rows]) == picked
    cut = data.draw(st.integers(0, len(batch)))
    assert MessageBatch.concat([batch[:cut], batch[cut:]]) == batch
    assert (
        MessageBatch.from_messages([batch[:cut], *batch[cut:]] if cut < len(batch) else [batch])
        == batch
    )
    assert picked.select(np.argsort(rows)) == batch


def test_a_message_is_what_a_stock_strategy_expects() -> None:
    message = small()[1]
    assert isinstance(message, Message)
    assert (message.metadata.dst_node_id, message.metadata.src_node_id) == (11, 1)
    assert (message.metadata.message_id, message.metadata.message_type) == ("m1", "train")
    assert message.metadata.ttl == 43200
    record = message.content.array_records["parameters"]
    assert list(record) == ["w", "b"]
    np.testing.assert_array_equal(record["w"].numpy(), np.array([2, 3], dtype=np.float32))
    assert record["w"] == Array(np.array([2, 3], dtype=np.float32))
    metrics, config = message.content["metrics"], message.content["config"]
    assert [type(metrics[key]) for key in ("num-examples", "loss")] == [int, float]
    assert dict(config) == {"lr": 0.1, "name": "x", "segment": 1}
    assert type(config["segment"]) is int
    Message(RecordDict(), reply_to=message)


def test_a_batch_is_a_sequence() -> None:
    batch = small()
    assert batch.num_messages == len(batch) == 3
    assert batch[-1].metadata.message_id == "m2"
    assert [m.metadata.message_id for m in batch] == ["m0", "m1", "m2"]
    assert batch[1:].message_ids == ["m1", "m2"]
    assert batch[::-1].metrics["metrics"]["num-examples"].tolist() == [2, 1, 0]
    with pytest.raises(IndexError, match="index must be below 3, got 3"):
        _ = batch[3]


def test_one_content_for_all_is_held_once_and_read_fast() -> None:
    arrays = ArrayRecord([np.ones((50, 50), dtype=np.float32)] * 3)
    content = RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": 3})})
    messages = [Message(content, node_id, "train") for node_id in range(2, 1002)]
    start_s = time.process_time()  # other work on the machine does not count
    batch = MessageBatch.from_messages(messages)
    assert time.process_time() - start_s < 0.2
    assert batch.arrays == {}
    assert list(batch.shared["arrays"]) == ["0", "1", "2"]
    assert batch.configs == {"config": {"server-round": 3}}
    assert batch.nbytes == 3 * 50 * 50 * 4 + 1000 * 8 + 8  # arrays, node ids, the round
    assert batch.shared["arrays"]["0"].flags.writeable


def test_equal_bytes_are_shared_but_one_message_shares_nothing() -> None:
    same = np.ones(2)
    contents = [
        RecordDict({"p": ArrayRecord({"a": Array(same), "b": Array(same * i)})}) for i in range(2)
    ]
    messages = [Message(content, 5, "train") for content in contents]
    both = MessageBatch.from_messages(messages)
    assert (list(both.arrays["p"]), list(both.shared["p"])) == (["b"], ["a"])
    assert both.array("p", "a").shape == (2, 2)
    one = MessageBatch.from_messages(messages[:1])
    assert (list(one.arrays["p"]), one.shared) == (["a", "b"], {})


def test_an_array_in_fortran_order_is_read() -> None:
    values = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    content = RecordDict({"p": ArrayRecord([values])})
    batch = MessageBatch.from_messages([Message(content, 5, "train")])
    np.testing.assert_array_equal(batch.array("p", "0")[0], values)


def test_an_array_that_is_not_what_it_says_is_refused() -> None:
    data = Array(np.arange(6.0)).data
    for wrong in (
        Array("float32", (6,), "numpy.ndarray", data),
        Array("float64", (2, 3), "numpy.ndarray", data),
    ):
        with pytest.raises(ValueError, match="an array must hold"):
            MessageBatch.from_messages(
                [Message(RecordDict({"p": ArrayRecord({"w": wrong})}), 5, "train")]
            )
    other = ArrayRecord({"w": Array("float64", (6,), "zip", data)})
    with pytest.raises(ValueError, match=r"serialized as 'numpy\.ndarray', got 'zip'"):
        MessageBatch.from_messages([Message(RecordDict({"p": other}), 5, "train")])


def test_a_reply_to_a_message_without_an_id_is_still_a_reply() -> None:
    messages = [Message(RecordDict(), reply_to=m) for m in small(2, message_ids=None)]
    batch = MessageBatch.from_messages(messages)
    assert batch.is_reply
    assert batch.node_ids.tolist() == [10, 11]
    assert not MessageBatch.from_messages(list(small(2)), is_reply=None).is_reply


def test_records_can_be_dropped_kept_and_added() -> None:
    batch = small()
    assert batch.record_names() == ["parameters", "metrics", "config"]
    assert batch.without({"metrics"}).record_names() == ["parameters", "config"]
    assert batch.only({"metrics", "nothing"}).record_names() == ["metrics"]
    more = batch.with_records(
        metrics={"work": {"flops": np.zeros(3)}}, configs={"config": {"lr": 0.5}}
    )
    assert more.record_names() == ["parameters", "metrics", "work", "config"]
    assert more.configs == {"config": {"lr": 0.5}}
    assert more.metrics["metrics"] is not None


def test_a_batch_without_records_costs_nothing() -> None:
    bare = small().only(())
    assert bare.wire_bytes().tolist() == [0, 0, 0]
    assert bare.payload_bytes().tolist() == [0, 0, 0]
    assert (small().without({"metrics"}).wire_bytes() < small().wire_bytes()).all()


def test_payload_is_the_numbers_and_texts_alone() -> None:
    configs = {
        "config": {
            "a": True,
            "b": 3,
            "c": "né",
            "d": [1.0, 2.0],
            "e": [b"xy", b""],
            "f": np.arange(2),
        }
    }
    metrics = {"metrics": {"x": np.zeros(2), "y": np.zeros((2, 3))}}
    batch = MessageBatch("train", np.arange(2), metrics=metrics, configs=configs)
    assert batch.payload_bytes().tolist() == [8 + 24 + 1 + 8 + 3 + 16 + 2 + 8] * 2
    assert small().only({"parameters"}).payload_bytes().tolist() == [2 * 4 + 2 * 4] * 3


def test_array_repeats_a_shared_one_without_a_copy() -> None:
    batch = small()
    repeated = batch.array("parameters", "b")
    assert repeated.tolist() == [[7, 8]] * 3
    assert np.shares_memory(repeated, batch.shared["parameters"]["b"])
    with pytest.raises(KeyError, match="parameters/nothing"):
        batch.array("parameters", "nothing")
    held = replace(
        batch, arrays={"parameters": {"w": np.broadcast_to(np.zeros(5), (3, 5))}}, shared={}
    )
    assert held.nbytes - held.only({"metrics", "config"}).nbytes == 5 * 8


def test_a_changed_list_in_one_message_does_not_change_the_next() -> None:
    first, second = small(2, configs={"config": {"l": [1, 2]}})
    values: Any = first.content["config"]["l"]
    values.append(3)
    first.content["parameters"].pop("b")
    assert second.content["config"]["l"] == [1, 2]
    assert "b" in second.content["parameters"]


def test_a_batch_survives_pickling() -> None:
    batch = small()
    assert pickle.loads(pickle.dumps(batch)) == batch


def test_batches_that_differ_are_not_equal() -> None:
    batch = small()
    others = [
        small(2),
        small(message_ids=["m0", "m1", "x"]),
        small(metrics={"metrics": {"num-examples": np.arange(3), "loss": np.arange(3)}}),
        small(arrays={"parameters": {"w": np.zeros((3, 2), dtype=np.float32)}}),
        small(shared={"parameters": {"b": np.array([7, 9], dtype=np.int32)}}),
        small(configs={"config": {"lr": 0.1, "name": "y", "segment": np.arange(3)}}),
        small(created_at_s=101.0),
        small(is_reply=True),
    ]
    assert batch == small()
    assert all(batch != other for other in others)
    assert batch != "batch"


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (
            {"arrays": {"p": {"w": np.zeros((2, 2))}}},
            r"arrays\['p'\]\['w'\] must have 3 rows, got shape \(2, 2\)",
        ),
        (
            {"arrays": {"p": {"w": np.array(["a"] * 3)}}},
            r"arrays\['p'\]\['w'\] must be numeric, got dtype <U1",
        ),
        (
            {"shared": {"p": {"w": np.array(None)}}},
            r"shared\['p'\]\['w'\] must be numeric, got dtype object",
        ),
        (
            {"metrics": {"m": {"x": np.zeros(4)}}},
            r"metrics\['m'\]\['x'\] must have 3 rows, got shape \(4,\)",
        ),
        (
            {"metrics": {"m": {"x": np.zeros(3, bool)}}},
            r"metrics\['m'\]\['x'\] must be numbers, got dtype bool",
        ),
        (
            {"configs": {"c": {"x": np.zeros((3, 2))}}},
            r"configs\['c'\]\['x'\] must have 3 rows, got shape \(3, 2\)",
        ),
        (
            {"configs": {"c": {"x": None}}},
            r"configs\['c'\]\['x'\] must be a bool, int, .* got None",
        ),
        ({"configs": {"c": {"x": [1, 2.0]}}}, r"configs\['c'\]\['x'\] must be a list of one type"),
        ({"configs": {"c": {"x": 2**64}}}, "integers must fit"),
        (
            {"metrics": {"parameters": {}}},
            r"a record name must be of one kind, got \['parameters'\]",
        ),
        (
            {"shared": {"parameters": {"w": np.zeros(2)}}},
            "either per device or shared, got both for 'parameters'",
        ),
        ({"message_ids": ["a"]}, "message_ids must have 3 ids, got 1"),
        ({"errors": {3: (1, "x")}}, r"errors must name rows in 0\.\.2, got 3"),
        ({"ttl_s": np.zeros(2)}, "ttl_s must be one number or 3"),
        ({"node_ids": np.zeros((3, 1), int)}, r"node_ids must be \[n\] integers"),
        ({"node_ids": np.array([-1, 2, 3])}, "node_ids must be >= 0, got -1"),
    ],
)
def test_parts_that_do_not_agree_are_refused(change: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        replace(small(), **change)


def test_node_ids_are_int64_where_they_fit() -> None:
    assert small(node_ids=np.array([1, 2, 3], dtype=np.uint64)).node_ids.dtype == np.int64
    large = np.array([1, 2, 2**63], dtype=np.uint64)
    assert small(node_ids=large).node_ids.dtype == np.uint64
    assert MessageBatch.concat([small(), small(node_ids=large)]).node_ids.tolist() == [
        10,
        11,
        12,
        1,
        2,
        2**63,
    ]


def test_stock_fedavg_averages_the_replies_of_a_batch() -> None:
    from flwr.serverapp.strategy import FedAvg

    values = {"0": np.array([[1.0, 2.0], [4.0, 8.0]], dtype=np.float32)}
    metrics = {"metrics": {"num-examples": np.array([1, 3]), "loss": np.array([1.0, 5.0])}}
    replies = small(2).reply(arrays={"arrays": values}, metrics=metrics)
    arrays, averaged = FedAvg().aggregate_train(1, replies)
    # (1 * 1 + 4 * 3) / 4 and (2 * 1 + 8 * 3) / 4; loss (1 + 15) / 4
    assert arrays is not None and averaged is not None
    np.testing.assert_allclose(arrays["0"].numpy(), [3.25, 6.5])
    assert averaged["loss"] == 4.0
