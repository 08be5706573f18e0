"""Reads and writes files of trained parameters, and refuses whatever is damaged."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from cdc_flower.core.files import CannotWrite, write_whole
from cdc_flower.core.integrity import BLANK, SEAL, Damaged, seal, sealed_metadata

Tensors = Mapping[str, Tensor]


def write_parameters(path: Path, values: Tensors, key: str, curve: list[float]) -> None:
    """Replaces the file as a whole, or not at all.

    Args:
        path: Of the file.
        values: By name.
        key: Everything that training depended on.
        curve: Validation losses.

    Raises:
        CannotWrite: If its folder cannot be written.
    """
    contiguous = {name: value.detach().contiguous().clone() for name, value in values.items()}
    metadata = {"key": key, "curve": json.dumps(curve), SEAL: BLANK}
    data = seal(save(contiguous, metadata))
    try:
        write_whole(path, data)
    except CannotWrite as error:
        raise CannotWrite(
            f"cache must be a folder that can be written, got {path.parent} ({error})"
        ) from error


def read_parameters(path: Path, key: str) -> tuple[dict[str, Tensor], list[float]] | None:
    """Reads tensors and validation curve of a file; None if there is none.

    Raises:
        Damaged: If it is not what was written, or is of another key.
    """
    if not path.exists():
        return None
    if not path.is_file():
        raise Damaged("it is no file")
    try:
        # Once, so that what was checked is what is used, whoever replaces the file meanwhile.
        data = path.read_bytes()
    except OSError as error:
        raise Damaged(f"it cannot be read: {error.strerror or error}") from error
    metadata = sealed_metadata(data)
    if metadata.get("key") != key:
        raise Damaged("it is of another training")
    curve = _curve(metadata.get("curve", ""))
    try:
        return load(data), curve
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise Damaged(f"it is no safetensors file: {' '.join(str(error).split())}") from error


def _curve(text: str) -> list[float]:
    """Reads a validation curve: finite numbers, one at least."""
    try:
        curve = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Damaged("its validation curve is no JSON") from error
    is_list = isinstance(curve, list) and bool(curve)
    if not is_list or not all(type(value) in (int, float) for value in curve):
        raise Damaged("its validation curve is no list of numbers")
    if not all(map(math.isfinite, curve)):
        raise Damaged("its validation curve is not finite")
    return [float(value) for value in curve]


def check_tensors(values: Tensors, wanted: Tensors) -> None:
    """Compares names, types and shapes with those of the tensors that are to be filled.

    Raises:
        Damaged: If one differs.
    """
    if others := sorted(set(values) ^ set(wanted)):
        raise Damaged(f"it {'has' if others[0] in values else 'lacks'} the tensor {others[0]}")
    for name, like in wanted.items():
        found = values[name]
        if found.dtype != like.dtype or found.shape != like.shape:
            raise Damaged(f"{name} must be {_shown(like)}, got {_shown(found)}")


def _shown(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
