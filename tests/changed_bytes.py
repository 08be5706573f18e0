"""Bytes of a file, changed in one of the ways in which files come to harm or are forged."""

import random

#: Numbers that stand at the edges of what a format allows.
_EDGES = (0, 1, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)
#: Words that mean something to readers of text.
_WORDS = (
    *(b'"', b"[", b"]", b"{", b"}", b",", b":", b"\t", b"\n", b"\r", b"\0", b"\\u", b"\\ud800"),
    *(b"null", b"NaN", b"-Infinity", b"1e999", b"true", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1f\x8b"),
    *(b"-1", b"9" * 25, b"[" * 2_000, b"9" * 5_000, b'"a":[1],', b"../", b"\x7f"),
)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Changes bytes in one to four places."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = rng.choice(_WAYS)(data, rng)
    return data


def _place(data: bytes, rng: random.Random) -> int:
    """Draws a place, more often near the start, where headers are."""
    end = rng.choice((min(len(data), 64), min(len(data), 512), len(data)))
    return rng.randrange(end + 1)


def _flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 8))):
        if changed:
            changed[min(_place(data, rng), len(changed) - 1)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _drop(data: bytes, rng: random.Random) -> bytes:
    start = _place(data, rng)
    return data[:start] + data[start + rng.choice((1, 4, 100)) :]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    start = _place(data, rng)
    end = start + rng.choice((1, 8, 200))
    return data[:end] + data[start:end] * rng.choice((1, 3)) + data[end:]


def _number(data: bytes, rng: random.Random) -> bytes:
    start = _place(data, rng)
    width = rng.choice((1, 2, 4, 8))
    number = rng.choice(_EDGES) % 256**width
    return (
        data[:start] + number.to_bytes(width, rng.choice(("big", "little"))) + data[start + width :]
    )


def _word(data: bytes, rng: random.Random) -> bytes:
    start = _place(data, rng)
    return data[:start] + rng.choice(_WORDS) + data[start + rng.choice((0, 0, 1, 5)) :]


def _noise(data: bytes, rng: random.Random) -> bytes:
    start = _place(data, rng)
    noise = rng.randbytes(rng.choice((1, 4, 64)))
    return data[:start] + noise + data[start + rng.choice((0, len(noise))) :]


_WAYS = (_flip, _cut, _drop, _repeat, _number, _word, _noise)
