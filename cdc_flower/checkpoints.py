"""Trained parameters on disk, found again by everything that their training depended on.

A checkpoint is one safetensors file. Its name is a hash of its key, and the whole key is inside, so a run takes
parameters only if model, settings, seed, data and this package's own code are all the same.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cdc_flower.errors import UserError

log = logging.getLogger("cdc_flower")


@cache
def source_hash() -> str:
    """A hash of this package's code: what an older version trained is not used."""
    digest = hashlib.sha256(torch.__version__.encode())
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def fingerprint(key: Mapping[str, Any]) -> str:
    """A short name for a key of plain values."""
    return hashlib.sha256(_text(key).encode()).hexdigest()[:20]


def _text(key: Mapping[str, Any]) -> str:
    return json.dumps({**key, "code": source_hash()}, sort_keys=True)


class Checkpoints:
    """A folder of checkpoints.

    Args:
        folder: Made when it is needed; None keeps nothing, and everything is trained each time.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = None if folder is None else Path(folder)

    def trained(
        self, key: Mapping[str, Any], tensors: Mapping[str, Tensor], train: Callable[[], list[float]]
    ) -> list[float]:
        """Fill tensors with trained values: those of the key if they are here, else by training, which is kept.

        Args:
            key: Everything that training depends on, as plain values.
            tensors: Changed in place.
            train: Trains them in place and returns its validation curve.

        Returns:
            The validation curve.

        Raises:
            UserError: If the folder cannot be written.
        """
        if self.folder is None:
            return train()
        path = self.folder / f"{fingerprint(key)}.safetensors"
        curve = self._load(path, key, tensors)
        if curve is None:
            curve = train()
            self._save(path, key, tensors, curve)
        return curve

    def _load(self, path: Path, key: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[float] | None:
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                names = set(file.keys())
                if metadata.get("key") != _text(key) or names != set(tensors):
                    return None
                values = {name: file.get_tensor(name) for name in names}
        except (SafetensorError, OSError) as error:
            log.warning("%s cannot be read (%s): training again", path, error)
            return None
        with torch.no_grad():
            for name, value in values.items():
                tensors[name].copy_(value)
        log.info("parameters from %s", path)
        curve: list[float] = json.loads(metadata["curve"])
        return curve

    def _save(self, path: Path, key: Mapping[str, Any], tensors: Mapping[str, Tensor], curve: list[float]) -> None:
        metadata = {"key": _text(key), "curve": json.dumps(curve)}
        values = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(values, part, metadata)
            os.replace(part, path)
        except OSError as error:
            raise UserError(f"cache must be a folder that can be written, got {path.parent} ({error})") from error
