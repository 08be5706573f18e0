"""States as named NumPy arrays: how parts are nested, checked on load, and kept in a file.

Everything that changes while a run goes on can be taken as arrays and be set to them in another
process, after which it goes on as if nothing had happened. Arrays are plain (no objects), so a
safetensors file holds them; names of parts are joined by ``/``.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cdc_flower.core.errors import UserError
from cdc_flower.core.files import write_whole

#: Of saved states. One with another number is refused, not guessed at.
FORMAT = 1
#: Between the names of a part and of an array in it.
SEPARATOR = "/"
#: Kinds of numbers that are plain: bool, signed, unsigned and floating.
_PLAIN = "biuf"

Arrays = dict[str, NDArray]
#: What was saved, in the order in which it was.
Saved = Mapping[str, NDArray]
#: A length that may be any.
ANY = -1


class Saveable(Protocol):
    """Changes while a run goes on, and can be saved."""

    def to_arrays(self) -> Arrays:
        """Takes everything that has changed since it was made, as arrays that nobody changes."""

    def from_arrays(self, arrays: Saved) -> None:
        """Becomes what was saved. It must be made as the saved one was."""


class Part(dict[str, NDArray]):
    """Arrays of one part of a saved state, which know their place for messages."""

    place: str = ""


def prefixed(name: str, arrays: Saved) -> Arrays:
    """Names arrays as those of a part."""
    return {f"{name}{SEPARATOR}{key}": value for key, value in arrays.items()}


def part_of(arrays: Saved, name: str) -> Part:
    """Takes the arrays of a part under their own names, in their order; none if there is none."""
    prefix = f"{name}{SEPARATOR}"
    part = Part(
        (key.removeprefix(prefix), value) for key, value in arrays.items() if key.startswith(prefix)
    )
    part.place = _place(arrays, prefix)
    return part


def nested(parts: Mapping[str, Saveable]) -> Arrays:
    """Saves several parts, each under its name."""
    saved: Arrays = {}
    for name, part in parts.items():
        saved |= prefixed(name, part.to_arrays())
    return saved


def restore_nested(parts: Mapping[str, Saveable], arrays: Saved) -> None:
    """Sets several parts to what :func:`nested` saved."""
    for name, part in parts.items():
        part.from_arrays(part_of(arrays, name))


def _place(arrays: Saved, name: str) -> str:
    return f"{getattr(arrays, 'place', '')}{name}"


def taken(
    arrays: Saved,
    name: str,
    dtype: DTypeLike | None = None,
    shape: Sequence[int] | None = None,
) -> NDArray:
    """Takes a copy of a saved array, if it is what it must be.

    Args:
        arrays: Saved.
        name: Of the array among them.
        dtype: That it must have; None for any.
        shape: That it must have; ``ANY`` for a length that may be any, None for any shape.

    Raises:
        UserError: If there is no such array, or it has another type or shape.
    """
    place = _place(arrays, name)
    if name not in arrays:
        raise UserError(f"a saved state must hold {place}, got one without it")
    value = arrays[name]
    fits = shape is None or (
        value.ndim == len(shape)
        and all(want in (length, ANY) for length, want in zip(value.shape, shape, strict=True))
    )
    wanted = value.dtype if dtype is None else np.dtype(dtype)
    if value.dtype != wanted or not fits:
        of_shape = "" if shape is None else " " + _shown(shape)
        raise UserError(
            f"{place} of a saved state must be {wanted}{of_shape}, "
            f"got {value.dtype} {_shown(value.shape)}"
        )
    return np.array(value, order="C")


def _shown(shape: Sequence[int]) -> str:
    return f"[{', '.join('any' if length == ANY else str(length) for length in shape)}]"


def saved_fields(owner: object, names: Sequence[str]) -> Arrays:
    """Takes attributes that are arrays or numbers; a leading ``_`` is no part of a saved name."""
    return {name.lstrip("_"): np.array(getattr(owner, name)) for name in names}


def restore_fields(
    owner: object, names: Sequence[str], arrays: Saved, *, grows: bool = False
) -> None:
    """Sets attributes to what :func:`saved_fields` took.

    Args:
        owner: Whose attributes; their types and shapes now are those that saved ones must have.
        names: Of the attributes.
        arrays: Saved.
        grows: Whether arrays may have another first length.

    Raises:
        UserError: As :func:`taken`.
    """
    for name in names:
        now = getattr(owner, name)
        like = np.asarray(now)
        shape = (ANY, *like.shape[1:]) if grows and like.ndim else like.shape
        value = taken(arrays, name.lstrip("_"), like.dtype, shape)
        setattr(owner, name, value if isinstance(now, np.ndarray) else type(now)(value[()]))


def text_array(text: str) -> NDArray[np.uint8]:
    """Holds a text as bytes."""
    return np.frombuffer(text.encode(), np.uint8).copy()


def text_of(arrays: Saved, name: str) -> str:
    """Reads a text that :func:`text_array` holds.

    Raises:
        UserError: As :func:`taken`.
    """
    return taken(arrays, name, np.uint8, (ANY,)).tobytes().decode()


def json_array(value: object) -> NDArray[np.uint8]:
    """Holds plain values (numbers, texts, lists, dicts by text) as JSON, floats to the bit."""
    return text_array(json.dumps(value))


def json_of(arrays: Saved, name: str) -> object:
    """Reads values that :func:`json_array` holds.

    Raises:
        UserError: As :func:`taken`.
    """
    return json.loads(text_of(arrays, name))


def check_plain(arrays: Saved) -> None:
    """Refuses what a file cannot hold.

    Raises:
        TypeError: If a value is no NumPy array of plain numbers.
    """
    for name, value in arrays.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind not in _PLAIN:
            got = getattr(value, "dtype", type(value).__name__)
            raise TypeError(f"{_place(arrays, name)} must be an array of numbers, got {got}")


def arrays_bytes(arrays: Saved) -> bytes:
    """Makes the content of a safetensors file, which keeps the order of the arrays.

    Raises:
        TypeError: As :func:`check_plain`.
    """
    check_plain(arrays)
    whole = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    return save(whole, metadata={"names": json.dumps(list(arrays))})


def save_arrays(path: Path, arrays: Saved) -> None:
    """Writes a safetensors file, in place of the one before only when it is whole.

    Raises:
        CannotWrite: If the system refuses.
        TypeError: As :func:`check_plain`.
    """
    write_whole(path, arrays_bytes(arrays))


def load_arrays(path: Path) -> Arrays:
    """Reads the arrays of a file in the order in which they were saved.

    The format itself does not keep it.

    Raises:
        UserError: If it is no such file.
    """
    try:
        with safe_open(path, "numpy") as file:
            names = json.loads((file.metadata() or {}).get("names", "null"))
            return {name: file.get_tensor(name) for name in names or file.keys()}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: must be a safetensors file, got {error}") from error
