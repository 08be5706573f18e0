"""The layout of most replies is how replies are encoded, and no device decides how others are."""

from typing import Any

import numpy as np
import pytest

from cdc_flower.simulations.protocol.encoding import Codecs
from cdc_flower.simulations.protocol.pipeline import CodecPipeline
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

NODES = np.array([2, 3, 4], np.uint64)
MODEL = {"w": np.zeros((2, 3), np.float32)}


def pipeline(*names: str) -> CodecPipeline:
    return CodecPipeline(Codecs(names), NODES, MODEL)


def reply(nodes: list[int], record: str = records.REPORT, **arrays: Any) -> MessageBatch:
    rows = {key: np.stack([value] * len(nodes)) for key, value in arrays.items()}
    return MessageBatch("train", np.array(nodes), {record: rows}, is_reply=True, created_at_s=0.0)


def through(codecs: CodecPipeline, *replies: MessageBatch) -> list[MessageBatch]:
    """Replies as the cloud has them, and as they were on the link."""
    codecs.begin()
    codecs.learn(replies)
    encoded = [part for each in replies for part, _ in codecs.encode_up(each)]
    return [codecs.decode_up(each) for each in encoded]


HONEST = {"told": np.linspace(-1, 1, 6, dtype=np.float32)}
ODD = {
    "another shape": {"told": np.ones((2, 2), np.float32)},
    "another type": {"told": np.arange(6)},
    "another key": {"more": np.ones(6, np.float32)},
    "a key more": {**HONEST, "more": np.ones(2, np.float32)},
}


@pytest.mark.parametrize("codecs", [("float16",), ("int8", "zstd"), ("zstd",)])
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("is_first", [False, True])
def test_one_that_is_laid_out_otherwise_is_handed_through(
    codecs: tuple[str, ...], odd: str, is_first: bool
) -> None:
    alone = through(pipeline(*codecs), reply([2, 4], **HONEST))
    both = [reply([3], **ODD[odd]), reply([2, 4], **HONEST)]
    found = through(pipeline(*codecs), *(both if is_first else both[::-1]))
    hostile, honest = found if is_first else found[::-1]
    assert honest == alone[0]
    assert hostile == both[0]


@pytest.mark.parametrize("codecs", [("float16",), ("zstd",)])
def test_a_layout_may_change_from_one_exchange_to_the_next(codecs: tuple[str, ...]) -> None:
    made = pipeline(*codecs)
    for width in (3, 5, 3):
        told = {"told": np.ones(width, np.float32), "run": np.arange(width, dtype=np.uint8)}
        assert through(made, reply([2, 3, 4], **told)) == [reply([2, 3, 4], **told)]


def test_in_an_exchange_of_several_batches_the_first_layout_counts() -> None:
    codecs = pipeline("float16")
    codecs.begin()
    first, second = reply([3], **ODD["another shape"]), reply([2, 4], **HONEST)
    encoded = []
    for each in (first, second):
        codecs.learn([each])
        encoded += [part for part, _ in codecs.encode_up(each)]
    assert [codecs.decode_up(each) for each in encoded] == [first, second]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_handed_through_and_seen(value: float) -> None:
    batch = reply([2, 3, 4], **HONEST)
    batch.arrays[records.REPORT]["told"][1, 2] = value
    fine, odd = through(pipeline("top_k", "int8", "zstd"), batch)
    assert fine.node_ids.tolist() == [2, 4] and odd.node_ids.tolist() == [3]
    assert not np.isfinite(odd.arrays[records.REPORT]["told"]).all()
    assert np.isfinite(fine.arrays[records.REPORT]["told"]).all()


def test_a_model_must_be_as_it_was_sent_whatever_most_replies_are() -> None:
    codecs = pipeline("delta")
    asked = MessageBatch("train", NODES, shared={records.ARRAYS: MODEL})
    for each in codecs.encode_down(asked):
        codecs.decode_down(each)
    hostile = reply([2, 3], records.ARRAYS, w=np.ones((5, 5), np.float32))
    honest = reply([4], records.ARRAYS, w=np.ones((2, 3), np.float32))
    assert through(codecs, hostile, honest) == [hostile, honest]
