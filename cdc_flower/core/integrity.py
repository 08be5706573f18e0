"""Seals files so that damage is seen.

A sealed file is a safetensors file with a checksum over all of its bytes, header and tensors, in
its own metadata. The checksum is taken with zeros where it will stand. So a file that is cut, or
one in which any bit flipped, is told from a good one, and there is no second file to lose.
"""

import hashlib
import json
import re

#: The key of the checksum in the metadata; a writer puts ``BLANK`` there.
SEAL = "sha256"
BLANK = "0" * 64
# A quote inside of a JSON text has a backslash before it, so no other text looks like this.
_SEAL = re.compile(rb'"' + SEAL.encode() + rb'":"([0-9a-f]{64})"')
_LENGTH_BYTES = 8  # of the number in front of the header


class Damaged(Exception):
    """Says in a few words why a file cannot be used."""


def seal(data: bytes) -> bytes:
    """Puts the checksum into a safetensors file that was made with ``{SEAL: BLANK}`` as metadata.

    Raises:
        ValueError: If it was made without.
    """
    start, given = _place(data)
    if start is None or given != BLANK:
        raise ValueError(f"metadata must hold {SEAL}={BLANK}")
    end = start + len(BLANK)
    return b"".join((data[:start], _checksum(data, start).encode(), data[end:]))


def sealed_metadata(data: bytes) -> dict[str, str]:
    """Checks the checksum of a safetensors file and reads its metadata.

    Raises:
        Damaged: If the file is cut, has no checksum or another than its bytes have.
    """
    start, given = _place(data)
    if start is None:
        raise Damaged("it has no checksum")
    if _checksum(data, start) != given:
        raise Damaged("its bytes are not those of its checksum")
    try:
        metadata = json.loads(_header(data))["__metadata__"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged("its header is no header of a safetensors file") from error
    return {str(name): str(text) for name, text in dict(metadata).items()}


def _header(data: bytes) -> bytes:
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    header = data[_LENGTH_BYTES : _LENGTH_BYTES + length]
    if len(data) < _LENGTH_BYTES or len(header) < length:
        raise Damaged("it is cut off in its header")
    return header


def _place(data: bytes) -> tuple[int | None, str]:
    """Finds where the checksum stands in a file, and reads it."""
    found = _SEAL.search(_header(data))
    if found is None:
        return None, ""
    return _LENGTH_BYTES + found.start(1), found[1].decode()


def _checksum(data: bytes, start: int) -> str:
    view = memoryview(data)
    digest = hashlib.sha256(view[:start])
    digest.update(BLANK.encode())
    digest.update(view[start + len(BLANK) :])
    return digest.hexdigest()
