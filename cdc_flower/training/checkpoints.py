"""Keeps trained parameters on disk, found again by everything that training depended on.

A checkpoint is one safetensors file. Its name is a hash of its key, and the whole key is inside, so
a run takes parameters only if model, settings, seed, data and the code that training depends on are
all the same.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cdc_flower.core.files import CannotWrite
from cdc_flower.training.training_code import hash_of, training_files

log = logging.getLogger("cdc_flower")
#: Names of what Adam keeps of each tensor.
_ADAM = ("step", "exp_avg", "exp_avg_sq")


@cache
def source_hash() -> str:
    """Hashes PyTorch's version and the code that training depends on.

    So what older code trained is not used.
    """
    package = Path(__file__).parents[1]
    return f"{torch.__version__} {hash_of(training_files(package), package)}"


def fingerprint(key: Mapping[str, object]) -> str:
    """Makes a short name for a key of plain values."""
    return hashlib.sha256(_text(key).encode()).hexdigest()[:20]


def _text(key: Mapping[str, object]) -> str:
    return json.dumps({**key, "code": source_hash()}, sort_keys=True)


class TrainingState:
    """Names the tensors of a training under way: leaves, the best ones so far, and Adam's moments.

    Args:
        optimizer: Adam over the leaves.
        leaves: Tensors that are trained.
        best: As many tensors of the same shapes, as they were after the best epoch.
    """

    def __init__(
        self, optimizer: torch.optim.Adam, leaves: Sequence[Tensor], best: Sequence[Tensor]
    ) -> None:
        self.optimizer = optimizer
        self.leaves = leaves
        self.best = best

    def tensors(self) -> dict[str, Tensor]:
        """Names all from which a training goes on as if it had not been interrupted."""
        named: dict[str, Tensor] = {}
        for index, (leaf, best) in enumerate(zip(self.leaves, self.best, strict=True)):
            moments = self.optimizer.state.get(leaf, {})
            named |= {f"leaf.{index}": leaf.detach(), f"best.{index}": best}
            named |= {f"{name}.{index}": value for name, value in moments.items()}
        return named

    def restore(self, named: Mapping[str, Tensor]) -> None:
        """Takes up what :meth:`tensors` gave."""
        with torch.no_grad():
            for index, (leaf, best) in enumerate(zip(self.leaves, self.best, strict=True)):
                leaf.copy_(named[f"leaf.{index}"])
                best.copy_(named[f"best.{index}"])
                moments = {
                    name: named[f"{name}.{index}"] for name in _ADAM if f"{name}.{index}" in named
                }
                if moments:
                    self.optimizer.state[leaf] = moments


class Resume:
    """Keeps the state of a training under way after each epoch.

    Args:
        path: A safetensors file; None keeps nothing.
        key: What the training depends on; a file of another key is not taken up.
    """

    def __init__(self, path: Path | None = None, key: str = "") -> None:
        self.path = path
        self.key = key

    def save(self, state: TrainingState, curve: list[float]) -> None:
        """Writes the state after an epoch, in place of the one before."""
        if self.path is not None:
            _write(self.path, state.tensors(), self.key, curve)

    def load(self, state: TrainingState) -> list[float] | None:
        """Takes up the state that is kept and returns its validation curve; None if none is."""
        found = None if self.path is None else _read(self.path, self.key)
        if found is None:
            return None
        values, curve = found
        shapes = {name: tuple(value.shape) for name, value in values.items()}
        # A file of a training with other leaves is not taken up.
        if any(shapes.get(name) != tuple(value.shape) for name, value in state.tensors().items()):
            return None
        state.restore(values)
        log.info("training goes on from epoch %d of %s", len(curve) - 1, self.path)
        return curve

    def done(self) -> None:
        """Removes what was kept."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


class Checkpoints:
    """Keeps checkpoints in a folder, and those of this run in memory too.

    Args:
        folder: Made when it is needed; None keeps nothing on disk.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        self._memory: dict[str, tuple[dict[str, Tensor], list[float]]] = {}

    def trained(
        self,
        key: Mapping[str, object],
        tensors: Mapping[str, Tensor],
        train: Callable[[Resume], list[float]],
    ) -> list[float]:
        """Fills tensors with trained values: the key's if they are here, else by training.

        What is trained is kept. A training that was interrupted goes on after its last finished
        epoch, if there is a folder.

        Args:
            key: Everything that training depends on, as plain values.
            tensors: Changed in place.
            train: Trains them in place, keeps what is under way where it is told, and returns its
                validation curve.

        Returns:
            The validation curve.

        Raises:
            CannotWrite: If the folder cannot be written.
        """
        text = _text(key)
        name = fingerprint(key)
        path = None if self.folder is None else self.folder / f"{name}.safetensors"
        found = self._memory.get(name) or (None if path is None else _read(path, text))
        if found is not None and set(found[0]) == set(tensors):
            values, curve = found
            with torch.no_grad():
                for key_, value in values.items():
                    tensors[key_].copy_(value)
        else:
            resume = Resume(None if path is None else path.with_suffix(".epoch"), text)
            curve = train(resume)
            values = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
            if path is not None:
                _write(path, values, text, curve)
            resume.done()
        self._memory[name] = values, curve
        return list(curve)


def _read(path: Path, key: str) -> tuple[dict[str, Tensor], list[float]] | None:
    """Reads tensors and validation curve of a file with this key; None if it cannot."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != key:
                return None
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        log.warning("%s cannot be read (%s): training again", path, error)
        return None
    log.info("parameters from %s", path)
    curve: list[float] = json.loads(metadata["curve"])
    return values, curve


def _write(path: Path, values: Mapping[str, Tensor], key: str, curve: list[float]) -> None:
    """Replaces the file as a whole, or not at all."""
    # A name of this process alone, for two may train the same at once.
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        contiguous = {name: value.detach().contiguous().clone() for name, value in values.items()}
        save_file(contiguous, part, {"key": key, "curve": json.dumps(curve)})
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        raise CannotWrite(
            f"cache must be a folder that can be written, got {path.parent} ({error})"
        ) from error
