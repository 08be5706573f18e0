"""Files are whole or not there, and what is damaged is told from what is good."""

import numpy as np
import pytest
from safetensors.numpy import load, save

from cdc_flower.core.integrity import (
    BLANK,
    SEAL,
    Damaged,
    seal,
    sealed_metadata,
)

ARRAYS = {"a": np.arange(6, dtype=np.float32), "empty": np.zeros((0, 3), np.int64)}


def sealed(**metadata: str) -> bytes:
    return seal(save(ARRAYS, {**metadata, SEAL: BLANK}))


def test_a_sealed_file_is_a_safetensors_file_with_its_metadata() -> None:
    data = sealed(key='{"b": "é"}')

    assert sealed_metadata(data)["key"] == '{"b": "é"}'
    np.testing.assert_array_equal(load(data)["a"], ARRAYS["a"])


def test_every_cut_and_every_flipped_bit_of_a_sealed_file_is_seen() -> None:
    data = sealed(key="x")
    for end in range(len(data)):
        with pytest.raises(Damaged):
            sealed_metadata(data[:end])
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damaged):
            sealed_metadata(bytes(flipped))
    with pytest.raises(Damaged):
        sealed_metadata(data + b"\0")


def test_a_text_that_looks_like_a_checksum_is_not_taken_for_it() -> None:
    looks = f'"{SEAL}":"{"1" * 64}"'

    assert sealed_metadata(sealed(a=looks, z=looks))["a"] == looks


def test_a_file_without_a_checksum_says_so_and_one_without_its_place_cannot_be_sealed() -> None:
    with pytest.raises(Damaged, match="it has no checksum"):
        sealed_metadata(save(ARRAYS, {"key": "x"}))
    for data in (save(ARRAYS), sealed()):
        with pytest.raises(ValueError, match="metadata must hold sha256=000"):
            seal(data)
