"""Gradient steps: on historical data in the cloud, and on many devices at once for the baselines.

Both minimize the loss of the device model over one true candidate and others; for recommendation
binary cross-entropy with logits, as DUET and Persona do.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.core.stream import LabelledBatch
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.layers import Parameters
from cdc_flower.models.losses import cross_entropy
from cdc_flower.training.checkpoints import Kept, Resume
from cdc_flower.training.scoring import Arrays, pad, tensors

__all__ = ["LocalTraining", "cross_entropy", "fit", "train_on_devices"]

#: Numbers of stacked parameters trained in one batched product, which bound its memory.
NUMBERS_PER_CHUNK = 4_000_000


class Batch(Protocol):
    """Labelled examples."""

    @property
    def history(self) -> NDArray[np.int32]:
        """``[B, L]``, the items before."""

    @property
    def candidates(self) -> NDArray[np.int32]:
        """``[B, C]``, the true one first."""


def fit(
    loss: Callable[[Batch], Tensor],
    parameters: Iterable[Tensor],
    batches: Callable[[int], Iterable[Batch]],
    validation: Callable[[], Iterable[Batch]],
    *,
    epochs: int,
    rate: float,
    patience: int | None = None,
    on_batch: Callable[[], None] = lambda: None,
    resume: Resume | None = None,
) -> list[float]:
    """Adam on historical data; ends with the epoch that is best on held-out historical data.

    Of equally good epochs the last one counts, so without held-out data it is the last of all.

    Args:
        loss: Mean loss of a batch.
        parameters: Leaf tensors, trained in place. If every epoch is worse than the start, they end
            as they began.
        batches: Epoch number -> batches. ``validation``: the held-out batches.
        epochs: 0 leaves the parameters as they are; so does a ``rate`` of 0.
        patience: Stop after this many epochs in a row that are worse than the best; None never
            stops early.
        on_batch: Called after each batch, to show progress.
        resume: Where each finished epoch is kept, and taken up again after an interruption; None
            keeps nothing.

    Returns:
        Validation loss before training and after each epoch.

    Raises:
        ValueError: If ``patience < 1``.
    """
    if patience is not None and patience < 1:
        raise ValueError(f"patience must be >= 1, got {patience}")
    leaves = list(parameters)
    optimizer = torch.optim.Adam(leaves, lr=rate)

    def held_out() -> float:
        with torch.no_grad():
            losses = [(float(loss(batch)), len(batch.history)) for batch in validation()]
        return sum(value * size for value, size in losses) / max(1, sum(size for _, size in losses))

    best = [leaf.detach().clone() for leaf in leaves]
    kept = Kept(optimizer, leaves, best)
    curve = resume.load(kept) if resume else None
    curve = [held_out()] if curve is None else curve
    for epoch in range(len(curve) - 1, epochs):
        if _epochs_without_gain(curve) == patience:
            break
        for batch in batches(epoch):
            optimizer.zero_grad()
            loss(batch).backward()
            optimizer.step()
            on_batch()
        curve.append(held_out())
        if not _epochs_without_gain(curve):
            for value, leaf in zip(best, leaves, strict=True):
                value.copy_(leaf.detach())
        if resume:
            resume.save(kept, curve)
    with torch.no_grad():
        for leaf, value in zip(leaves, best, strict=True):
            leaf.copy_(value)
    return curve


def _epochs_without_gain(curve: list[float]) -> int:
    """How many epochs at the end of a validation curve are worse than the best; of equals the last one is best."""
    return curve[::-1].index(min(curve))


@dataclass(frozen=True)
class LocalTraining:
    """How a device trains on what it has seen.

    Args:
        layers: ``head`` (adaptive layers) or ``all``.
        steps: Gradient steps, each on all examples. 0 changes nothing.
        rate: Learning rate. 0 changes nothing.
        optimizer: ``adam`` or ``sgd``, started afresh each time.
        max_examples: Labelled examples to use at most, the newest first.
        num_negatives: Negatives for each.
        proximal_mu: FedProx's weight of ½‖w - wᵗ‖² (Li et al., MLSys 2020). 0 is FedAvg.

    Raises:
        ValueError: If a value is out of its range.
    """

    layers: str = "head"
    steps: int = 5
    rate: float = 1e-3
    optimizer: str = "adam"
    max_examples: int = 64
    num_negatives: int = 4
    proximal_mu: float = 0.0

    def __post_init__(self) -> None:
        for name, known in (("layers", ("head", "all")), ("optimizer", ("adam", "sgd"))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
                )
        least = {"steps": 0, "rate": 0, "proximal_mu": 0, "max_examples": 1, "num_negatives": 1}
        for name, low in least.items():
            if not getattr(self, name) >= low:
                raise ValueError(f"{name} must be >= {low}, got {getattr(self, name)}")

    @staticmethod
    def from_settings(settings: Mapping[str, Any]) -> "LocalTraining":
        """From a Flower configuration, whose keys are these names with dashes; other keys are left alone."""
        names = {field.name.replace("_", "-"): field.name for field in fields(LocalTraining)}
        return LocalTraining(
            **{names[key]: value for key, value in settings.items() if key in names}
        )

    def to_settings(self) -> dict[str, Any]:
        """As a Flower configuration."""
        return {name.replace("_", "-"): value for name, value in asdict(self).items()}

    def flops(self, model: DeviceModel, num_examples: NDArray[np.int64]) -> NDArray[np.float64]:
        """Floating-point operations ``[n]``; 0 without steps.

        A backward pass counts as two forward passes. Where only the adaptive layers are trained,
        the static ones run once.
        """
        if not self.steps:
            return np.zeros(len(num_examples))
        whole, head = model.flops(1 + self.num_negatives), model.head_flops(1 + self.num_negatives)
        trained = whole if self.layers == "all" else head
        return np.asarray(num_examples * (whole - trained + 3.0 * self.steps * trained), np.float64)


def train_on_devices(
    model: DeviceModel,
    static: Arrays,
    start: Callable[[NDArray[np.int64]], Arrays],
    examples: LabelledBatch,
    how: LocalTraining,
) -> Arrays:
    """Train the parameters of ``n`` devices, each on its own examples, batched.

    Args:
        static: The deployed model.
        start: Rows of the batch -> their starting parameters, stacked ``[rows, ...]``, every name
            of which is trained.
        examples: The devices' examples; a device without any keeps what it has.
        how: No steps, or a rate of 0, change nothing. Its ``layers`` do not matter here.

    Returns:
        The trained parameters, ``[n, ...]``.
    """
    num_devices = len(examples.num_examples)
    if not num_devices or not how.steps:
        return start(np.arange(num_devices))
    first = start(np.arange(1))
    shared = tensors(static)
    only_heads = all(name in model.adaptive for name in first)
    if only_heads and model.pays_to_tabulate(examples.history.size + examples.candidates.size):
        with torch.no_grad():
            shared = model.tabulate(shared)
    size = max(1, NUMBERS_PER_CHUNK // sum(value[0].size for value in first.values()))
    order = np.argsort(examples.num_examples, kind="stable")
    trained = {
        name: np.empty((num_devices, *value.shape[1:]), value.dtype)
        for name, value in first.items()
    }
    for rows in (order[k : k + size] for k in range(0, num_devices, size)):
        for name, value in _train_chunk(
            model, shared, start(rows), examples, rows, how, only_heads
        ).items():
            trained[name][rows] = value
    return trained


def _train_chunk(
    model: DeviceModel,
    shared: Parameters,
    start: Arrays,
    examples: LabelledBatch,
    rows: NDArray[np.int64],
    how: LocalTraining,
    only_heads: bool,
) -> Arrays:
    """Trained parameters of some devices; ``start`` has their rows only."""
    if not examples.num_examples[rows].any():
        return start
    place = np.full(len(examples.num_examples), -1)
    place[rows] = np.arange(len(rows))
    chosen = place[examples.row] >= 0
    index = torch.from_numpy(place[examples.row[chosen]]), torch.from_numpy(examples.slot[chosen])
    shape = len(rows), int(examples.num_examples[rows].max())
    history = torch.from_numpy(examples.history[chosen]).long()
    candidates = torch.from_numpy(examples.candidates[chosen]).long()
    weight = pad(torch.ones(len(history)), *index, *shape)
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1)

    leaves = {name: value.clone().requires_grad_() for name, value in tensors(start).items()}
    anchor = (
        {name: leaf.detach().clone() for name, leaf in leaves.items()} if how.proximal_mu else {}
    )
    model_of = {**shared, **leaves}
    if only_heads:
        with torch.no_grad():
            x, targets = model.encode(shared, history, candidates)
        x = pad(x, *index, *shape)
        targets = None if targets is None else pad(targets, *index, *shape)

        def logits() -> Tensor:
            return model.match(model.head(model_of, x), targets)
    else:
        padded = pad(history, *index, *shape), pad(candidates, *index, *shape)

        def logits() -> Tensor:
            return model.score(model_of, *padded)

    kind = torch.optim.Adam if how.optimizer == "adam" else torch.optim.SGD
    optimizer = kind(list(leaves.values()), lr=how.rate)
    for _ in range(how.steps):
        optimizer.zero_grad()
        loss = (model.loss(logits()) * weight).sum()
        for name, value in anchor.items():
            loss = loss + 0.5 * how.proximal_mu * (leaves[name] - value).square().sum()
        loss.backward()
        optimizer.step()
    return {name: leaf.detach().numpy() for name, leaf in leaves.items()}
