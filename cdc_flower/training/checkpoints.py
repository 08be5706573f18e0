"""Keeps trained parameters on disk, found again by everything that training depended on.

A checkpoint is one safetensors file. Its name is a hash of its key, and the whole key is inside, so
a run takes parameters only if model, settings, seed, data and the code that training depends on are
all the same. A checksum over all of its bytes is inside too: what is damaged is trained again, with
a line in the log.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from cdc_flower.core.integrity import Damaged
from cdc_flower.training.parameter_files import (
    check_tensors,
    read_parameters,
    write_parameters,
)
from cdc_flower.training.schedule import Position
from cdc_flower.training.training_code import hash_of, training_files

log = logging.getLogger("cdc_flower")
#: Names of what Adam keeps of each tensor.
_ADAM = ("step", "exp_avg", "exp_avg_sq")
_POSITION = "position"


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
        position: How far it is.
    """

    def __init__(
        self,
        optimizer: torch.optim.Adam,
        leaves: Sequence[Tensor],
        best: Sequence[Tensor],
        position: Position | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.leaves = leaves
        self.best = best
        self.position = position or Position()

    def tensors(self) -> dict[str, Tensor]:
        """Names all from which a training goes on as if it had not been interrupted."""
        named: dict[str, Tensor] = {_POSITION: self.position.to_tensor()}
        for index, (leaf, best) in enumerate(zip(self.leaves, self.best, strict=True)):
            moments = self.optimizer.state.get(leaf, {})
            named |= {f"leaf.{index}": leaf.detach(), f"best.{index}": best}
            named |= {f"{name}.{index}": value for name, value in moments.items()}
        return named

    def check(self, named: Mapping[str, Tensor]) -> None:
        """Compares named tensors with those of this training.

        Raises:
            Damaged: If one has another type or shape, or is not there.
        """
        wanted: dict[str, Tensor] = {_POSITION: self.position.to_tensor()}
        for index, leaf in enumerate(self.leaves):
            wanted |= {f"leaf.{index}": leaf, f"best.{index}": leaf}
            # A leaf that got no gradient has no moments.
            if any(f"{name}.{index}" in named for name in _ADAM):
                step = torch.zeros((), dtype=torch.float32)
                wanted |= {f"step.{index}": step, f"exp_avg.{index}": leaf}
                wanted[f"exp_avg_sq.{index}"] = leaf
        check_tensors(named, wanted)

    def restore(self, named: Mapping[str, Tensor]) -> None:
        """Takes up what :meth:`tensors` gave."""
        self.position = Position.of(named[_POSITION])
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
    """Keeps the state of a training under way after each validated epoch.

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
            write_parameters(self.path, state.tensors(), self.key, curve)

    def load(self, state: TrainingState) -> list[float] | None:
        """Takes up the state that is kept and returns its validation curve; None if none is."""
        found = None if self.path is None else _undamaged(self.path, self.key, state.check)
        if found is None:
            return None
        values, curve = found
        state.restore(values)
        log.info("training goes on from epoch %d of %s", state.position.epoch, self.path)
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
        found = self._memory.get(name)
        if found is None and path is not None:
            found = _undamaged(path, text, lambda values: check_tensors(values, tensors))
            if found is not None:
                log.info("parameters from %s", path)
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
                write_parameters(path, values, text, curve)
            resume.done()
        self._memory[name] = values, curve
        return list(curve)


def _undamaged(
    path: Path, key: str, check: Callable[[Mapping[str, Tensor]], None]
) -> tuple[dict[str, Tensor], list[float]] | None:
    """Reads tensors and validation curve; None where there are none or, with a word, damaged ones.

    Args:
        path: Of a file.
        key: That it must have.
        check: Raises ``Damaged`` for tensors that do not fit.
    """
    try:
        found = read_parameters(path, key)
        if found is not None:
            check(found[0])
    except Damaged as error:
        log.warning("%s is not used, %s: training again", path, error)
        return None
    return found
