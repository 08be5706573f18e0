"""Draws randomness by name: one seed for a run, a stream for each purpose, device and event.

Nothing here keeps a state. ``generator(seed, "links")`` is the same wherever it is called, and
``hashed_uniform`` gives each index a number of its own, so a device's data never depends on how
many other devices there are or on the order in which they are asked for.
"""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def _digest(seed: int, name: tuple[str | int, ...]) -> int:
    # A separator that no name has, so that ("a", 12) and ("a1", 2) differ.
    text = "\x1f".join([str(seed), *(str(part) for part in name)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def generator(seed: int, *name: str | int) -> np.random.Generator:
    """Makes an independent generator for each (seed, name)."""
    return np.random.default_rng(_digest(seed, name))


def torch_generator(seed: int, *name: str | int) -> torch.Generator:
    """Makes the same for PyTorch; see :func:`generator`."""
    # PyTorch takes a signed number of 64 bits.
    return torch.Generator().manual_seed(_digest(seed, name) & 0x7FFFFFFFFFFFFFFF)


@contextmanager
def global_draws(seed: int, *name: str | int) -> Iterator[None]:
    """Lets the global generators of Python, NumPy and PyTorch draw by (seed, name) inside a block.

    For code of others that draws from them. They go on afterwards as if nothing had been drawn.
    """
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    digest = _digest(seed, name)
    random.seed(digest)
    np.random.seed(digest & 0xFFFFFFFF)
    torch.default_generator.manual_seed(digest & 0x7FFFFFFFFFFFFFFF)
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Finalizes as splitmix64 does (Steele, Lea and Flood, OOPSLA 2014), on a fresh array."""
    value = value + _GOLDEN
    value ^= value >> np.uint64(30)
    value *= _MIX_1
    value ^= value >> np.uint64(27)
    value *= _MIX_2
    value ^= value >> np.uint64(31)
    return value


def hashed_bits(seed: int, name: str, *indices: ArrayLike) -> NDArray[np.uint64]:
    """Hashes sixty-four bits for each index, as a pure function of (seed, name, indices).

    Args:
        indices: Integer arrays that broadcast together, such as devices ``[n, 1]`` and events
            ``[e]``.

    Returns:
        ``[...]``, the broadcast shape of the indices.
    """
    with np.errstate(over="ignore"):  # sums and products wrap around, as the hash wants
        value = np.asarray(np.uint64(_digest(seed, (name,))))
        for index in indices:
            value = _mix(np.atleast_1d(value ^ np.asarray(index).astype(np.uint64)))
    return value


def hashed_uniform(seed: int, name: str, *indices: ArrayLike) -> NDArray[np.float64]:
    """Draws uniform numbers in [0, 1), one for each index; see :func:`hashed_bits`."""
    # A double has 53 bits of precision: the upper ones of 64.
    return (hashed_bits(seed, name, *indices) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def hashed_integers(seed: int, name: str, *indices: ArrayLike, high: int) -> NDArray[np.int64]:
    """Draws integers in [0, high), one for each index; see :func:`hashed_bits`.

    Multiplies the upper 32 bits by ``high``: a bias below ``high`` / 2**32.

    Args:
        seed: Of the run.
        name: Of the purpose.
        indices: Integer arrays that broadcast together.
        high: Above the largest; 1 draws zeros.
    """
    upper = hashed_bits(seed, name, *indices) >> np.uint64(32)
    return ((upper * np.uint64(high)) >> np.uint64(32)).astype(np.int64)
