"""Recordings with random changes: each is read to rates that make sense, or refused in a line."""

import bz2
import gzip
import io
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mutants import Mutants, peak_bytes
from sampling import a_sample
from trace_cases import DOWN, UP, WRITERS

from cdc_flower.simulations.network.rates import TraceBank
from cdc_flower.simulations.network.recordings import read_recordings
from cdc_flower.simulations.network.trace import TracePair

#: Mutants of a case: 16 formats in 7 packings and 12 rounds are 1,344 cases, 20,160
#: mutants, each of which all readers see where its own refuses it.
PER_CASE = 15
ROUNDS = 12
#: Bytes of memory that mutants may add to the process.
MOST_MEMORY = 2**29
#: What a mutation may put in the place of a field.
ODD = (
    *(b"", b"-1", b"nan", b"inf", b"1e308", b"1e-320", b"9223372036854775807", b"1_0", b"0x1p3"),
    *(b'"', b"'", b",", b";", b"#", b"\0", b"\xff", b"\xef\xbb\xbf", b"\x1f\x8b", b"PK\3\4"),
    *("µ×".encode(), b"[" * 2000, b"{}", b"null", b"true", b"1" * 5000, b"\r", b"\x1c", b"-", b"0"),
)


def zipped(data: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", data)
        archive.writestr("b.up", data)
    return packed.getvalue()


def tarred(data: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        info = tarfile.TarInfo("a")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "fields": bytes,
    "lines": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "zip": zipped,
    "tar": tarred,
}


def of_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flips, cuts, doubles or overwrites some bytes."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(changed)) if changed else 0
        match rng.randrange(5):
            case 0 if changed:
                changed[place] ^= 1 << rng.randrange(8)
            case 1:
                changed[place : place + rng.randint(1, 40)] = b""
            case 2:
                changed[place:place] = changed[place : place + rng.randint(1, 40)]
            case 3:
                changed[place:place] = rng.choice(ODD)
            case 4:
                changed = changed[: place + 1] if rng.random() < 0.2 else changed
    return bytes(changed)


def of_fields(data: bytes, rng: random.Random) -> bytes:
    """Puts odd values in the place of numbers and words."""
    words = data.decode().replace(",", " , ").replace("\n", " \n ").split(" ")
    for _ in range(rng.randint(1, 3)):
        words[rng.randrange(len(words))] = rng.choice(ODD).decode("latin-1")
    return " ".join(words).replace(" , ", ",").replace(" \n ", "\n").encode()


def of_lines(data: bytes, rng: random.Random) -> bytes:
    """Doubles, drops, swaps and joins lines."""
    lines = data.decode().split("\n")
    for _ in range(rng.randint(1, 4)):
        first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
        match rng.randrange(4):
            case 0:
                lines.insert(first, lines[second])
            case 1:
                lines[first] = ""
            case 2:
                lines[first], lines[second] = lines[second], lines[first]
            case 3:
                lines[first] += lines[second]
    return "\n".join(lines).encode()


MUTATIONS = {"fields": of_fields, "lines": of_lines}


def check(pair: TracePair) -> None:
    """Holds what every recording must be, and sends a byte and a million along it."""
    for trace in (pair.up, pair.down):
        assert (np.diff(trace.edges_s) > 0).all() and np.isfinite(trace.edges_s).all()
        assert (trace.rates_bps >= 0).all() and np.isfinite(trace.rates_bps).all()
    rows, sizes = np.array([0, 1, 0, 1]), np.array([1.0, 1.0, 1e6, 1e6])
    ends = TraceBank([pair.up, pair.down]).finish_s(rows, np.zeros(4), sizes)
    assert (ends >= 0).all() and not np.isnan(ends).any()
    assert pair.rtt_s is None or 0 <= pair.rtt_s < np.inf
    assert pair.loss is None or 0 <= pair.loss <= 1


CASES = [
    (format, packing, number)
    for format in sorted(WRITERS)
    for packing in PACKINGS
    for number in range(ROUNDS)
]


@pytest.mark.parametrize(("format", "packing", "number"), a_sample(CASES, 20))
def test_a_mutant_is_read_or_refused_in_one_line(
    format: str,
    packing: str,
    number: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    mutants: Mutants,
) -> None:
    rng = random.Random(f"{format} {packing} {number}")
    whole = PACKINGS[packing](WRITERS[format](DOWN, UP).encode())
    before = peak_bytes()
    for _ in range(PER_CASE):
        mutant = MUTATIONS.get(packing, of_bytes)(whole, rng)
        (tmp_path / "made").write_bytes(mutant)
        pairs: tuple[TracePair, ...] = ()
        with mutants.one():
            pairs = read_recordings(tmp_path / "made", format, measured=True, on_error="skip")
        for pair in pairs:
            check(pair)
    assert "Traceback" not in capsys.readouterr().err
    assert peak_bytes() - before < MOST_MEMORY
