"""Lighter protocols: what comes out, what it costs, and that nothing changes where they are off."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tiny import LABELS, fleet, inline, same, strategy, stream, table

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.grids.base import BlockingGrid
from cdc_flower.simulations.grids.codecs import CloudSide, CodecPipeline, DeviceSide, WithCodecs
from cdc_flower.simulations.links.accounting import sizes_of
from cdc_flower.simulations.protocol.codecs.top_k import index_dtype
from cdc_flower.simulations.protocol.encoding import Codecs
from cdc_flower.study.play import play
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

numbers = st.floats(-1e4, 1e4, width=32)
LOSSLESS = [(), ("delta",), ("zstd",), ("delta", "zstd")]
LOSSY = [
    ("float16",),
    ("int8",),
    ("top_k",),
    ("delta", "top_k", "float16", "zstd"),
    ("delta", "int8"),
    ("top_k", "int8", "zstd"),
]


def through(codecs: Codecs, value: np.ndarray, reference: np.ndarray | None) -> np.ndarray:
    return codecs.decode(codecs.encode(value, reference), value.shape[1:], value.dtype, reference)


@given(
    arrays(np.float32, (2, 3, 4), elements=numbers), arrays(np.float32, (2, 3, 4), elements=numbers)
)
@pytest.mark.parametrize("names", LOSSLESS)
def test_without_loss_every_bit_comes_back(names, value, reference) -> None:
    for base in (None, reference):
        out = through(Codecs(names), value, base)
        np.testing.assert_array_equal(out.view(np.uint32), value.view(np.uint32))


@given(arrays(np.float32, (2, 3, 4), elements=numbers))
def test_half_precision_is_that_of_numpy(value) -> None:
    np.testing.assert_array_equal(
        through(Codecs(("float16",)), value, None), value.astype(np.float16).astype(np.float32)
    )


@given(arrays(np.float32, (2, 3, 4), elements=numbers))
def test_whole_numbers_are_off_by_half_a_step_of_their_channel_at_most(value) -> None:
    step = np.abs(value).max(2, keepdims=True) / 127
    assert (np.abs(through(Codecs(("int8",)), value, None) - value) <= step * 0.5001 + 1e-6).all()


def test_a_channel_of_zeros_stays_zero_and_a_large_one_does_not_disturb_it() -> None:
    value = np.array([[[0, 0], [0.01, 0.02], [1000, 2000]]], np.float32)
    out = through(Codecs(("int8",)), value, None)
    assert out[0, 0].tolist() == [0, 0]
    np.testing.assert_allclose(out, value, rtol=0.01)


@given(arrays(np.float32, (3, 20), elements=numbers), st.floats(0.01, 1))
def test_the_largest_numbers_are_sent_and_the_others_are_not(value, share) -> None:
    out = through(Codecs(("top_k",), top_k_share=share), value, None)
    count = max(1, math.ceil(share * 20))
    assert ((out == value) | (out == 0)).all()
    for row in range(3):
        kept = np.sort(np.abs(out[row]))[::-1][:count]
        np.testing.assert_array_equal(kept, np.sort(np.abs(value[row]))[::-1][:count])


@given(arrays(np.float32, (2, 20), elements=numbers), arrays(np.float32, (2, 20), elements=numbers))
def test_a_difference_of_all_numbers_is_exact_to_rounding(value, reference) -> None:
    out = through(Codecs(("delta", "top_k"), top_k_share=1.0), value, reference)
    np.testing.assert_allclose(out, value, atol=1e-6 * 2e4)


def test_what_is_not_float32_stays_as_it_is() -> None:
    ids = np.arange(6, dtype=np.int32).reshape(2, 3)
    assert through(Codecs(("top_k", "int8")), ids, None) is ids


@pytest.mark.parametrize(
    ("size", "dtype"), [(1, np.uint8), (256, np.uint8), (257, np.uint16), (65537, np.uint32)]
)
def test_places_take_as_few_bytes_as_they_can(size: int, dtype: type) -> None:
    assert index_dtype(size) is dtype


@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_compressed_messages_come_back_each_with_its_own_length(k, seed) -> None:
    rng = np.random.default_rng(seed)
    parts = {
        "a": rng.normal(size=(k, 3, 2)).astype(np.float32),
        "b": rng.integers(0, 3, (k, 50)).astype(np.int8),
    }
    parts["b"][0] = 0
    zstd = Codecs(("zstd",))
    blobs, lengths = zstd.compress(list(parts.values()))
    layout = {name: (part.shape[1:], part.dtype) for name, part in parts.items()}
    for name, part in zstd.expand(blobs, lengths, layout).items():
        np.testing.assert_array_equal(part, parts[name])


@pytest.mark.parametrize(
    ("names", "share", "rule"),
    [
        (("int4",), 0.1, "unknown codec 'int4'"),
        (("zstd", "delta"), 0.1, "must be in the order delta, top_k"),
        (("float16", "int8"), 0.1, "one of float16 and int8, got both"),
        (("zstd", "zstd"), 0.1, "must be in the order"),
        (("top_k",), 0.0, r"top_k_share must be a number in \(0, 1\], got 0"),
    ],
)
def test_a_wrong_protocol_is_refused(names: tuple, share: float, rule: str) -> None:
    with pytest.raises(UserError, match=rule):
        Codecs(names, top_k_share=share)


class Line(BlockingGrid):
    """Keeps what is on the wire; the devices answer with what they got."""

    def __init__(self, reply) -> None:
        super().__init__()
        self.reply, self.wire = reply, []

    run, set_run, create_message = None, None, None  # type: ignore[assignment]

    def get_node_ids(self):
        return [2, 3, 4]

    def send_and_receive(self, messages, *, timeout=None):
        batches = [batch for batch, _ in MessageBatch.group(messages)]
        self.wire += batches
        return MessageBatch.concat([self.reply(batch) for batch in batches])


NODES = np.array([2, 3, 4], np.uint64)
DEPLOYED = {"w": np.zeros((8, 8), np.float32), "b": np.zeros(8, np.float32)}


def evaluate(values: np.ndarray) -> MessageBatch:
    return MessageBatch(
        "evaluate",
        NODES,
        arrays={records.PARAMETERS: {"w": values, "b": values[:, 0]}},
        configs={records.CLOCK: {"segment": 0}},
    )


@pytest.mark.parametrize("names", [*LOSSLESS[1:], *LOSSY])
def test_bytes_on_the_wire_are_those_of_the_encoded_messages(names: tuple) -> None:
    rng, got = np.random.default_rng(0), []
    pipeline = CodecPipeline(Codecs(names), NODES, DEPLOYED)

    def device(batch: MessageBatch) -> MessageBatch:
        got.append(batch)
        return batch.reply(arrays={records.REPORT: {"x": batch.array(records.PARAMETERS, "b")}})

    wire: list[MessageBatch] = []

    class Wire(Line):
        def send_and_receive(self, messages, *, timeout=None):
            (batch,) = [batch for batch, _ in MessageBatch.group(messages)]
            replies = inner.send_and_receive(batch)
            wire.extend([batch, replies])
            return replies

    inner = DeviceSide(Line(device), pipeline)
    cloud = CloudSide(Wire(device), pipeline)
    values = [rng.normal(size=(3, 8, 8)).astype(np.float32) * 10.0**-k for k in range(3)]
    for value in values:
        value[0] = 0  # compresses well
        (reply,) = [
            batch for batch, _ in MessageBatch.group(cloud.send_and_receive(evaluate(value)))
        ]
        exact = not Codecs(names).is_lossy
        received = got[-1].array(records.PARAMETERS, "w")
        if exact:
            np.testing.assert_array_equal(received, value)
        else:
            assert np.abs(received - value).max() <= np.abs(value).max() + 1e-6
        told = reply.array(records.REPORT, "x")
        np.testing.assert_allclose(
            told, got[-1].array(records.PARAMETERS, "b"), rtol=1e-2, atol=1e-1
        )
        assert set(got[-1].record_names()) == {records.PARAMETERS, records.CLOCK}
    for batch in wire:
        wire_bytes, _ = sizes_of(batch.without(records.INSTRUMENTS))
        padding = batch.configs.get(records.PADDING)
        for row in range(len(batch)):
            message = batch.select([row]).without(records.INSTRUMENTS | {records.PADDING})
            if padding is not None:
                ((record, lengths),) = padding.items()
                blob = message.arrays[record]["zstd"][:, : lengths[row]]
                message = message.with_records(arrays={record: {"zstd": blob}})
            assert wire_bytes[row] == message.wire_bytes()[0]
    if names == ("float16",):
        assert (
            sizes_of(wire[0].without(records.INSTRUMENTS))[0][0]
            < sizes_of(evaluate(values[0]).without(records.INSTRUMENTS))[0][0]
        )


def test_a_difference_is_taken_from_what_the_device_holds_even_if_a_message_is_lost() -> None:
    pipeline = CodecPipeline(Codecs(("delta", "zstd")), NODES, DEPLOYED)
    rng, got = np.random.default_rng(0), {}

    def device(batch: MessageBatch) -> MessageBatch:
        for row, node in enumerate(batch.node_ids.tolist()):
            got[node] = batch.array(records.PARAMETERS, "w")[row]
        return batch.reply(metrics={records.SCORES: {"n": np.ones(len(batch))}})

    inner = DeviceSide(Line(device), pipeline)
    lost = iter([[], [3], [], [2, 4], []])

    class Lossy(Line):
        def send_and_receive(self, messages, *, timeout=None):
            (batch,) = [batch for batch, _ in MessageBatch.group(messages)]
            kept = np.flatnonzero(~np.isin(batch.node_ids, next(lost)))
            return inner.send_and_receive(batch.select(kept))

    cloud = CloudSide(Lossy(device), pipeline)
    held = {}
    for number, gone in enumerate([[], [3], [], [2, 4], []]):
        value = rng.normal(size=(3, 8, 8)).astype(np.float32)
        cloud.send_and_receive(evaluate(value))
        held |= {node: value[node - 2] for node in (2, 3, 4) if node not in gone}
        for node, expected in held.items():
            np.testing.assert_array_equal(got[node], expected, err_msg=f"{number} {node}")


def played(name: str, codecs: Codecs, **links):
    import pandas as pd

    frames: list[pd.DataFrame] = []
    play(
        strategy(name),
        inline(),
        fleet(**links),
        stream().segment_starts_s,
        labels={**LABELS, "strategy": name},
        collect=frames.append,
        chain=[WithCodecs(codecs)],
    )
    return pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize("name", ["static", "fine_tuning", "fedavg", "duet"])
def test_off_changes_nothing_at_all(name: str) -> None:
    same(
        table(name, links=fleet(up_bps=2e3, down_bps=5e3)),
        played(name, Codecs(), up_bps=2e3, down_bps=5e3),
    )


@pytest.mark.parametrize("name", ["fedavg", "duet"])
@pytest.mark.parametrize("names", LOSSLESS[1:])
def test_without_loss_no_metric_changes(name: str, names: tuple) -> None:
    plain, light = table(name), played(name, Codecs(names))
    for column in ("value_count", "latency_s", "staleness_s"):
        np.testing.assert_allclose(plain[column], light[column], rtol=1e-5, atol=1e-6)
    # Products of other sizes round otherwise, which may part two candidates that tie.
    is_close = np.isclose(plain["value_sum"], light["value_sum"], rtol=1e-5, atol=1e-6)
    assert is_close.mean() > 0.99
    np.testing.assert_allclose(plain["value_sum"], light["value_sum"], atol=0.01)


@pytest.mark.parametrize(("name", "names"), [*itertools.product(["fedavg", "duet"], LOSSY)])
def test_every_codec_plays_every_strategy_on_a_slow_link(name: str, names: tuple) -> None:
    rows = played(name, Codecs(names), up_bps=2e3, down_bps=2e3)
    assert np.isfinite(rows.value_sum).all()
    assert (rows.bytes_down > 0).any()


def test_half_precision_halves_the_payload() -> None:
    plain, light = table("duet"), played("duet", Codecs(("float16",)))
    assert 2 * light.payload_bytes_down.sum() == plain.payload_bytes_down.sum()
    assert (light.payload_bytes_up == plain.payload_bytes_up).all()  # ids of items


@pytest.mark.parametrize("names", [("float16",), ("delta", "top_k", "zstd"), ("int8", "zstd")])
def test_what_is_no_model_goes_whole_in_as_many_records_as_there_are(names: tuple) -> None:
    rng, pipeline = np.random.default_rng(0), CodecPipeline(Codecs(names), NODES, DEPLOYED)
    edit, other = rng.normal(size=(3, 4, 4)).astype(np.float32), np.zeros((3, 30), np.float32)
    other[1] = rng.normal(size=30)
    numbers = np.arange(3, dtype=np.int64)
    content = {"edit": {"w": edit, "index": numbers}, "more": {"x": other}}
    batch = MessageBatch("evaluate", NODES, arrays=content, configs={records.CLOCK: {"segment": 0}})
    (encoded,) = pipeline.encode_down(batch)
    sizes = sizes_of(encoded.without(records.INSTRUMENTS))[0]
    assert (sizes > 0).all()
    if "zstd" in names:
        assert sizes[1] > sizes[0]  # zeros compress
    decoded = pipeline.decode_down(encoded)
    assert set(decoded.record_names()) == {"edit", "more", records.CLOCK}
    np.testing.assert_allclose(decoded.array("edit", "w"), edit, atol=0.02)
    np.testing.assert_allclose(decoded.array("more", "x"), other, atol=0.02)
    np.testing.assert_array_equal(decoded.array("edit", "index"), numbers)
    if "float16" not in names and "int8" not in names:
        np.testing.assert_array_equal(decoded.array("edit", "w"), edit)
