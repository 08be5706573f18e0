"""A codec of a user's own: one class, registered, and no file of the package edited."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from tiny import LABELS, fleet, inline, strategy, stream, table

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import option
from cdc_flower.simulations.chain import AtDevices
from cdc_flower.simulations.grids.codecs import WithCodecs
from cdc_flower.simulations.grids.through import Through
from cdc_flower.simulations.protocol.codecs import About, ArrayCodec, BytesCodec, Parts, codecs
from cdc_flower.simulations.protocol.encoding import Codecs, codecs_of
from cdc_flower.study.composing import hydra_at
from cdc_flower.study.keys import check_overrides
from cdc_flower.study.play import play
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


@dataclass(frozen=True)
class Sign(ArrayCodec):
    """One bit a number, and the mean magnitude of an array."""

    factor: float = option(1.0, above=0, neutral=1, doc="on the mean magnitude")

    def encode(self, value: NDArray, about: About) -> tuple[NDArray, Parts]:
        flat = value.reshape(len(value), -1)
        mean = self.factor * np.abs(flat).mean(1, keepdims=True)
        return np.packbits(flat > 0, axis=1), {"mean": mean.astype(np.float32)}

    def decode(self, value: NDArray, about: About) -> NDArray:
        bits = np.unpackbits(value, axis=1, count=int(np.prod(about.shape)))
        flat = np.where(bits > 0, about.parts["mean"], -about.parts["mean"])
        return flat.reshape(len(value), *about.shape)


@dataclass(frozen=True)
class Halves(BytesCodec):
    """Leaves out the second half where a message says the same thing twice."""

    def compress(self, raw: NDArray[np.uint8]) -> list[bytes]:
        halves = [(row[: len(row) // 2].tobytes(), row[len(row) // 2 :].tobytes()) for row in raw]
        return [one if one == other else one + other for one, other in halves]

    def expand(self, blobs: list[bytes], size: int) -> list[bytes]:
        return [blob if len(blob) == size else blob * 2 for blob in blobs]


@pytest.fixture(autouse=True)
def _own_codecs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are registered for one test, as an import of their module does it."""
    monkeypatch.setattr(codecs, "_entries", {entry.name: entry for entry in codecs.entries()})
    codecs.register("sign", stage="numbers", is_lossy=True)(Sign)
    codecs.register("halves", stage="bytes")(Halves)


def played(chosen: Codecs, seen: list[MessageBatch]) -> pd.DataFrame:
    class Wire(Through):
        """Keeps what has just crossed the links."""

        def down(self, batch: MessageBatch) -> list[MessageBatch]:
            seen.append(batch)
            return super().down(batch)

    frames: list[pd.DataFrame] = []
    play(
        strategy("duet"),
        inline(),
        fleet(up_bps=1e5, down_bps=1e5),
        stream().segment_starts_s,
        labels={**LABELS, "strategy": "duet"},
        collect=frames.append,
        chain=[WithCodecs(chosen), AtDevices(Wire)],
    )
    return pd.concat(frames, ignore_index=True)


def test_it_plays_over_a_link_with_exactly_its_bytes() -> None:
    wire: list[MessageBatch] = []
    rows = played(Codecs(("sign",)), wire).drop_duplicates(["segment", "device_id"])
    built = strategy("duet")
    sizes = [built.deployment()[name].size for name in built.cloud.model.adaptive]
    assert set(rows.payload_bytes_down) == {sum(-(-size // 8) + 4 for size in sizes)}
    messages = [batch for batch in wire if records.PARAMETERS in batch.array_names()]
    crossed = sum(batch.without(records.INSTRUMENTS).wire_bytes().sum() for batch in messages)
    assert rows.bytes_down.sum() - crossed == sum(  # the requests for reports
        batch.without(records.INSTRUMENTS).wire_bytes().sum()
        for batch in wire
        if batch.message_type == records.TRAIN_REPORT
    )
    plain = table("duet", links=fleet(up_bps=1e5, down_bps=1e5))
    assert rows.payload_bytes_down.sum() < plain.payload_bytes_down.sum() / 16
    assert np.isfinite(rows.value_sum).all()


@pytest.mark.parametrize("names", [("delta", "sign"), ("top_k", "sign", "zstd"), ("sign", "zstd")])
def test_it_goes_with_codecs_of_other_stages(names: tuple[str, ...]) -> None:
    assert np.isfinite(played(Codecs(names), []).value_sum).all()
    value = np.array([[[3.0, -1.0], [0.5, -2.0]]], np.float32)
    chosen = Codecs(names, top_k_share=0.5)
    out = chosen.decode(chosen.encode(value, np.zeros_like(value)), (2, 2), np.float32, None)
    expected = [[2.5, 0], [0, -2.5]] if "top_k" in names else [[1.625, -1.625], [1.625, -1.625]]
    np.testing.assert_allclose(out[0], expected)


def test_its_options_are_keys_of_the_protocol_with_its_name_before_them() -> None:
    value = np.array([[1.0, -1.0]], np.float32)
    chosen = codecs_of({"codecs": ["sign"], "top_k_share": 0.1, "sign_factor": 3.0})
    assert chosen.encode(value, None)["mean"].tolist() == [[3.0]]
    with pytest.raises(UserError, match=r"protocol\.sign_factor must be a number > 0, got 0"):
        codecs_of({"codecs": ["sign"], "sign_factor": 0})
    with pytest.raises(UserError, match=r"unknown key 'sign_facto'; did you mean"):
        codecs_of({"codecs": ["sign"], "sign_facto": 1})


def test_its_options_are_keys_of_the_command_line() -> None:
    with hydra_at():
        check_overrides(["protocol.codecs=[sign]", "+protocol.sign_factor=2"])
        with pytest.raises(UserError, match="sign_facto is no key of protocol; did you"):
            check_overrides(["+protocol.sign_facto=2"])


def test_a_protocol_has_one_codec_of_each_stage() -> None:
    with pytest.raises(UserError, match="one of int8 and sign, got both"):
        Codecs(("int8", "sign"))
    with pytest.raises(UserError, match="in the order delta, top_k, float16, int8, sign, halves"):
        Codecs(("halves", "delta"))
    with pytest.raises(ValueError, match="stage must be one of difference, selection"):
        codecs.register("early", stage="before")(Sign)


def test_a_codec_of_bytes_gives_the_record_its_name() -> None:
    wire: list[MessageBatch] = []
    rows = played(Codecs(("halves",)), wire)
    messages = [batch for batch in wire if records.PARAMETERS in batch.array_names()]
    assert {name for batch in messages for name in batch.arrays[records.PARAMETERS]} == {"halves"}
    plain = table("duet", links=fleet(up_bps=1e5, down_bps=1e5))
    np.testing.assert_allclose(rows.value_sum, plain.value_sum, rtol=1e-5, atol=1e-6)
    twice = np.array([[1.0, 2.0, 1.0, 2.0], [1.0, 2.0, 3.0, 4.0]], np.float32)
    blobs, lengths = Codecs(("halves",)).compress([twice])
    assert lengths.tolist() == [8, 16]
    back = Codecs(("halves",)).expand(blobs, lengths, {"x": ((4,), twice.dtype)})
    np.testing.assert_array_equal(back["x"], twice)


def test_parts_of_two_codecs_with_one_name_are_refused() -> None:
    @dataclass(frozen=True)
    class Places(Sign):
        def encode(self, value: NDArray, about: About) -> tuple[NDArray, Parts]:
            return value, {"index": value}

    codecs.register("places", stage="numbers")(Places)
    with pytest.raises(ValueError, match="names of their own, got index twice"):
        Codecs(("top_k", "places")).encode(np.ones((1, 4), np.float32), None)
