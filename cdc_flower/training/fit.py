"""Trains by gradient steps: in the cloud, and on many devices at once for the baselines.

Both minimize the loss of the device model over one true candidate and others; for recommendation
binary cross-entropy with logits, as DUET and Persona do.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.core.stream import LabelledBatch
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.layers import Parameters
from cdc_flower.models.losses import cross_entropy
from cdc_flower.training.checkpoints import Resume, TrainingState
from cdc_flower.training.schedule import CONSTANT, Schedule
from cdc_flower.training.scoring import Arrays, pad, tensors

__all__ = ["LocalTraining", "Watch", "cross_entropy", "fit", "train_on_devices"]

#: Numbers of stacked parameters trained in one batched product, which bound its memory.
NUMBERS_PER_CHUNK = 4_000_000


class Batch(Protocol):
    """Holds labelled examples."""

    @property
    def history(self) -> NDArray[np.int32]:
        """Gives the items before, ``[B, L]``."""

    @property
    def candidates(self) -> NDArray[np.int32]:
        """Gives the candidates ``[B, C]``, the true one first."""


OwnBatch = TypeVar("OwnBatch", bound=Batch)


@dataclass(frozen=True)
class Watch:
    """Watches a training: schedules it, tells of its progress, and keeps its state.

    Attributes:
        schedule: Of rate and end; a constant rate to the last epoch by default.
        on_batch: Called after each batch, to show progress.
        resume: Keeps each validated epoch, which is taken up again after an interruption; None
            keeps nothing.
    """

    schedule: Schedule = CONSTANT
    on_batch: Callable[[], None] = lambda: None
    resume: Resume | None = None


def fit(
    loss: Callable[[OwnBatch], Tensor],
    parameters: Iterable[Tensor],
    batches: Callable[[int], Iterable[OwnBatch]],
    validation: Callable[[], Iterable[OwnBatch]],
    *,
    epochs: int,
    rate: float,
    watch: Watch | None = None,
) -> list[float]:
    """Trains by Adam on historical data; ends with the epoch that is best on held-out data.

    Of equally good epochs the last one counts, so without held-out data it is the last of all. A
    second stage begins with the best epoch so far and with new moments of Adam.

    Args:
        loss: Mean loss of a batch.
        parameters: Leaf tensors, trained in place. If every epoch is worse than the start, they end
            as they began.
        batches: Epoch number -> batches.
        validation: Gives the held-out batches.
        epochs: Of all stages at most. 0 leaves the parameters as they are.
        rate: Learning rate. 0 leaves the parameters as they are.
        watch: Schedules, tells of progress and keeps what is under way; None does nothing.

    Returns:
        Validation loss before training and at each validation.
    """
    watch = watch or Watch()
    schedule, leaves = watch.schedule, list(parameters)
    optimizer = torch.optim.Adam(leaves, lr=rate)
    best = [leaf.detach().clone() for leaf in leaves]
    state = TrainingState(optimizer, leaves, best)
    curve = watch.resume.load(state) if watch.resume else None
    curve = [_held_out_loss(loss, validation())] if curve is None else curve
    position = state.position
    while position.epoch < epochs:
        if position.has_stopped(schedule):
            if not position.has_second(schedule):
                break
            _copy(best, leaves)
            optimizer.state.clear()
            position.begin_second()
        for batch in batches(position.epoch):
            _step(optimizer, loss(batch), rate * schedule.factor(position.step, position.stage))
            position.step += 1
            watch.on_batch()
        position.epoch += 1
        if position.is_due(schedule) or position.epoch == epochs:
            curve.append(_held_out_loss(loss, validation()))
            position.validate(is_gain=schedule.is_gain(curve))
            if curve[-1] <= min(curve):
                _copy(leaves, best)
            if watch.resume:
                watch.resume.save(state, curve)
    _copy(best, leaves)
    return curve


def _step(optimizer: torch.optim.Adam, loss: Tensor, rate: float) -> None:
    """Takes a step down the gradient of a loss."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _held_out_loss(loss: Callable[[OwnBatch], Tensor], batches: Iterable[OwnBatch]) -> float:
    """Averages the loss over held-out examples; 0 without any."""
    with torch.no_grad():
        losses = [(float(loss(batch)), len(batch.history)) for batch in batches]
    return sum(value * size for value, size in losses) / max(1, sum(size for _, size in losses))


def _copy(sources: list[Tensor], targets: list[Tensor]) -> None:
    with torch.no_grad():
        for source, target in zip(sources, targets, strict=True):
            target.copy_(source)


@dataclass(frozen=True)
class LocalTraining:
    """Sets how a device trains on what it has seen.

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
        """Reads a Flower configuration, whose keys are these names with dashes.

        Other keys are left alone.
        """
        names = {field.name.replace("_", "-"): field.name for field in fields(LocalTraining)}
        return LocalTraining(
            **{names[key]: value for key, value in settings.items() if key in names}
        )

    def to_settings(self) -> dict[str, str | int | float]:
        """Writes a Flower configuration; see :meth:`from_settings`."""
        return {name.replace("_", "-"): value for name, value in asdict(self).items()}

    def flops(self, model: DeviceModel, num_examples: NDArray[np.int64]) -> NDArray[np.float64]:
        """Counts floating-point operations ``[n]``; 0 without steps.

        A backward pass counts as two forward passes. Where only the adaptive layers are trained,
        the static ones run once.
        """
        if not self.steps:
            return np.zeros(len(num_examples))
        whole = model.flops(1 + self.num_negatives)
        head = model.head_flops(1 + self.num_negatives)
        trained = whole if self.layers == "all" else head
        return np.asarray(num_examples * (whole - trained + 3.0 * self.steps * trained), np.float64)


def train_on_devices(
    model: DeviceModel,
    static: Arrays,
    start: Callable[[NDArray[np.int64]], Arrays],
    examples: LabelledBatch,
    how: LocalTraining,
    losses: NDArray[np.float64] | None = None,
) -> Arrays:
    """Trains the parameters of ``n`` devices, each on its own examples, batched.

    Args:
        model: Of the devices.
        static: The deployed model.
        start: Rows of the batch -> their starting parameters, stacked ``[rows, ...]``, every name
            of which is trained.
        examples: The devices' examples; a device without any keeps what it has.
        how: No steps, or a rate of 0, change nothing. Its ``layers`` do not matter here.
        losses: ``[n]`` zeros, to which the mean loss of each device before its first step is
            added; None tells none. Without steps or examples it stays as it is.

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
    # Devices with like numbers of examples train together, so that padding is small.
    order = np.argsort(examples.num_examples, kind="stable")
    trained = {
        name: np.empty((num_devices, *value.shape[1:]), value.dtype)
        for name, value in first.items()
    }
    for first_row in range(0, num_devices, size):
        rows = order[first_row : first_row + size]
        chunk, first_losses = _train_chunk(
            model, shared, start(rows), examples, rows, how, only_heads
        )
        for name, value in chunk.items():
            trained[name][rows] = value
        if losses is not None:
            losses[rows] += first_losses
    return trained


def _train_chunk(
    model: DeviceModel,
    shared: Parameters,
    start: Arrays,
    examples: LabelledBatch,
    rows: NDArray[np.int64],
    how: LocalTraining,
    only_heads: bool,
) -> tuple[Arrays, NDArray[np.float64]]:
    """Trains the parameters of some devices; ``start`` has their rows only.

    Returns:
        The trained parameters, and the mean losses ``[rows]`` before the first step.
    """
    if not examples.num_examples[rows].any():
        return start, np.zeros(len(rows))  # nothing to take a gradient of
    place = np.full(len(examples.num_examples), -1)
    place[rows] = np.arange(len(rows))
    chosen = place[examples.row] >= 0
    index = torch.from_numpy(place[examples.row[chosen]]), torch.from_numpy(examples.slot[chosen])
    shape = len(rows), int(examples.num_examples[rows].max())
    history = torch.from_numpy(examples.history[chosen]).long()
    candidates = torch.from_numpy(examples.candidates[chosen]).long()
    # Each device minimizes the mean over its own examples; one without any has weight 0 all over.
    weight = pad(torch.ones(len(history)), *index, *shape)
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1)

    leaves = {name: value.clone().requires_grad_() for name, value in tensors(start).items()}
    model_of = {**shared, **leaves}
    if only_heads:
        # The static layers see each example once, whatever the number of steps.
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

    first_losses = _descend(leaves, lambda: model.loss(logits()) * weight, how)
    return {name: leaf.detach().numpy() for name, leaf in leaves.items()}, first_losses


def _descend(
    leaves: Parameters, losses: Callable[[], Tensor], how: LocalTraining
) -> NDArray[np.float64]:
    """Takes the steps of some devices, and returns their losses ``[rows]`` before the first.

    Args:
        leaves: Trained in place.
        losses: Weighted losses of the examples, ``[rows, slots]``.
        how: With at least one step.
    """
    anchor = (
        {name: leaf.detach().clone() for name, leaf in leaves.items()} if how.proximal_mu else {}
    )
    kind = torch.optim.Adam if how.optimizer == "adam" else torch.optim.SGD
    optimizer = kind(list(leaves.values()), lr=how.rate)
    before: list[Tensor] = []
    for _ in range(how.steps):
        optimizer.zero_grad()
        each = losses()
        before = before or [each.detach()]
        loss = each.sum()
        for name, value in anchor.items():
            loss = loss + 0.5 * how.proximal_mu * (leaves[name] - value).square().sum()
        loss.backward()
        optimizer.step()
    return before[0].sum(1).double().numpy()
