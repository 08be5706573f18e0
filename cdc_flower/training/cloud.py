"""The cloud side of training: historical data, the base model, and stages trained on top of it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.models.base import DeviceModel
from cdc_flower.models.layers import Parameters
from cdc_flower.training.checkpoints import Checkpoints, Resume
from cdc_flower.training.diary import Diary
from cdc_flower.training.fit import Batch, OwnBatch, Watch, fit
from cdc_flower.training.schedule import CONSTANT, Schedule
from cdc_flower.training.scoring import Arrays

#: Batches as the histories of a task make them, and as its losses take them.
MadeBatch = TypeVar("MadeBatch", bound=Batch, covariant=True)


class History(Protocol[MadeBatch]):
    """Historical data in the cloud: labelled, and from before the stream begins."""

    def batches(
        self,
        batch_size: int,
        epoch: int,
        seed: int,
        num_negatives: int,
        *,
        first: int = 0,
        stop: int | None = None,
    ) -> Iterable[MadeBatch]:
        """Makes batches of an epoch: ``rows`` [B], ``history`` [B, L], ``candidates`` [B, C].

        The true candidate comes first.

        Args:
            batch_size: Examples of a batch.
            epoch: Which one.
            seed: Of the run.
            num_negatives: Candidates beside the true one.
            first: The first batch that is made.
            stop: The one after the last; None: to the end.
        """

    def batch(
        self, rows: NDArray[np.int64], epoch: int, seed: int, num_negatives: int
    ) -> MadeBatch:
        """Makes a batch of these examples, as of that epoch.

        Args:
            rows: ``[B]``, which examples.
            epoch: Which one.
            seed: Of the run.
            num_negatives: Candidates beside the true one.
        """

    def lagged(self, rows: NDArray[np.int64], lag: NDArray[np.int64]) -> NDArray[np.int32]:
        """Makes the histories ``[B, L]`` as devices would tell them ``lag`` examples earlier.

        As :meth:`~cdc_flower.core.stream.Stream.recent` it may take ``length`` and ``stride`` too.
        """

    @property
    def num_examples(self) -> int:
        """Counts the examples."""


def no_progress(_: str, __: int) -> Callable[[], None]:
    """Makes a progress bar that shows nothing."""
    return lambda: None


@dataclass(frozen=True)
class Stage:
    """One training on historical data, as its checkpoint is known by.

    Attributes:
        name: For the progress bar and the checkpoint.
        settings: All that it depends on beside the base model, as plain values.
        kept: Tensors that make the result, changed in place.
        leaves: Those of them that are trained.
        epochs: At most; 0 leaves everything as it is.
        rate: Learning rate of Adam.
    """

    name: str
    settings: Mapping[str, object]
    kept: Mapping[str, Tensor]
    leaves: Iterable[Tensor]
    epochs: int
    rate: float


@dataclass(frozen=True)
class Cloud(Generic[OwnBatch]):
    """Holds all that a strategy's cloud side starts from.

    Attributes:
        model: The device model.
        parameters: The base model, trained on historical data: static and adaptive layers.
        train: Historical data to train on; ``validation``: historical data held out for choices.
        seed: Of the run.
        batch_size: For training; ``num_negatives``: for each true item.
        schedule: Of every training on top of the base model; a constant rate to the last epoch by
            default.
        examples_per_epoch: Of what strategies train; None for all of them once. Where they are
            fewer, passes go on from epoch to epoch, so that a large history is validated more often
            than once a pass.
        identity: A fingerprint of everything that the base model depends on; "" if it is not known.
        checkpoints: Where trained parameters are kept; nowhere by default.
        progress: (text, steps) -> a function to call after each step.
        diary: What there is to say of the trainings.
    """

    model: DeviceModel
    parameters: Parameters
    train: History[OwnBatch]
    validation: History[OwnBatch]
    seed: int
    batch_size: int = 1024
    num_negatives: int = 4
    schedule: Schedule = CONSTANT
    examples_per_epoch: int | None = None
    identity: str = ""
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    progress: Callable[[str, int], Callable[[], None]] = field(default=no_progress)
    diary: Diary = field(default_factory=Diary)

    def arrays(self, parameters: Parameters | None = None) -> Arrays:
        """Copies parameters (the base model's by default) into arrays."""
        chosen = self.parameters if parameters is None else parameters
        return {name: value.detach().numpy().copy() for name, value in chosen.items()}

    def num_batches(self) -> int:
        """Counts the batches of an epoch."""
        whole = -(-self.train.num_examples // self.batch_size)
        if self.examples_per_epoch is None:
            return whole
        return max(1, min(whole, -(-self.examples_per_epoch // self.batch_size)))

    def batches(self, epoch: int) -> Iterable[OwnBatch]:
        """Makes the historical batches of an epoch; see ``examples_per_epoch``."""
        whole, count = -(-self.train.num_examples // self.batch_size), self.num_batches()
        next_batch, end = epoch * count, (epoch + 1) * count
        while next_batch < end:
            done, first = divmod(next_batch, whole)
            stop = min(whole, first + end - next_batch)
            yield from self.train.batches(
                self.batch_size, done, self.seed, self.num_negatives, first=first, stop=stop
            )
            next_batch += stop - first

    def held_out(self) -> Iterable[OwnBatch]:
        """Makes the batches of the validation part."""
        return self.validation.batches(self.batch_size, 0, self.seed, self.num_negatives)

    def fit(
        self,
        stage: Stage,
        loss: Callable[[OwnBatch], Tensor],
        *,
        batches: Callable[[int], Iterable[OwnBatch]] | None = None,
        held_out: Callable[[], Iterable[OwnBatch]] | None = None,
        num_batches: int | None = None,
    ) -> list[float]:
        """Trains one stage on historical data, or takes it from the checkpoints.

        Args:
            stage: What is trained, and on what it depends.
            loss: Mean loss of a batch.
            batches: Epoch number -> batches; those of the whole history by default.
            held_out: Makes the batches to validate on; those held out by default.
            num_batches: Of an epoch, for the progress bar.

        Returns:
            Validation loss before training and at each validation.
        """
        steps = stage.epochs * (self.num_batches() if num_batches is None else num_batches)
        key = self._key(stage)
        step = self.progress(stage.name, steps)

        def train(resume: Resume) -> list[float]:
            return fit(
                loss,
                stage.leaves,
                batches or self.batches,
                held_out or self.held_out,
                epochs=stage.epochs,
                rate=stage.rate,
                watch=Watch(self.schedule, step, resume),
            )

        checkpoints = self.checkpoints if self.identity else Checkpoints()
        curve = checkpoints.trained(key, stage.kept, train)
        self.diary.enter(stage.name, curve, self.schedule)
        return curve

    def _key(self, stage: Stage) -> dict[str, object]:
        """Lists all that a training depends on, as plain values."""
        return {
            "what": stage.name,
            "base": self.identity,
            "settings": dict(stage.settings),
            "epochs": stage.epochs,
            "rate": stage.rate,
            "schedule": asdict(self.schedule),
            "batch_size": self.batch_size,
            "num_negatives": self.num_negatives,
            "examples_per_epoch": self.examples_per_epoch,
        }
