"""Schedules a training: a warm-up, a rate, a second stage below it, and when each of them stops.

All is counted in steps, so that it means the same for little and much data: an epoch of 60 devices
is 4 steps, one of ml-1m is 2,000.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cdc_flower.core.options import check_options, option

#: Validations in a row without a gain that are waited for at least, where epochs have many steps.
LEAST_VALIDATIONS = 2


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Says how fast and how long to train.

    At the neutral values the rate is constant, every epoch is validated, and training ends with the
    last epoch; what is kept is the best epoch in any case.

    Raises:
        ValueError: If a value is out of its range.
    """

    warmup_steps: int = option(
        50, least=0, neutral=0, doc="steps in which the rate rises from 0; 0: none"
    )
    validate_every: int = option(
        25,
        least=0,
        neutral=0,
        doc="steps between two validations at least, at ends of epochs; 0: each",
    )
    patience_steps: int | None = option(
        800, least=1, doc="steps without a gain until a stage stops; null: never"
    )
    min_gain: float = option(
        1e-4, least=0, below=1, neutral=0, doc="share of the validation loss that counts as a gain"
    )
    second_stage: float | None = option(
        1 / 3,
        above=0,
        below=1,
        doc="share of the rate at which training goes on from its best when it stopped; null: ends",
    )

    def __post_init__(self) -> None:
        check_options(self)

    def factor(self, step: int, stage: int) -> float:
        """Gives the share of the rate at a step, counted from 0 in each stage."""
        rise = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return rise * self.second_stage if stage and self.second_stage is not None else rise

    def is_gain(self, curve: Sequence[float]) -> bool:
        """Tells whether the last validation is a gain over the last one that was.

        Where any gain counts an equal loss is one too. Without held-out data all losses are 0, and
        each epoch is a gain.
        """
        return len(curve) > 1 and self.gains(curve)[-1] == len(curve) - 1

    def gains(self, curve: Sequence[float]) -> list[int]:
        """Lists the places in a validation curve at which there was a gain; the first is 0.

        A slow fall is one too, as soon as it adds up.
        """
        places = [0]
        for place, loss in enumerate(curve[1:], 1):
            before = curve[places[-1]]
            if loss <= before - self.min_gain * abs(before):
                places.append(place)
        return places

    def is_falling(self, curve: Sequence[float]) -> bool:
        """Tells whether a training ended while its loss still fell, by its last validations."""
        return len(curve) > 1 and curve[-1] < min(curve[:-1]) and self.is_gain(curve)


#: A constant rate, a validation after each epoch, and no early stop.
CONSTANT = Schedule(
    warmup_steps=0, validate_every=0, patience_steps=None, min_gain=0.0, second_stage=None
)


@dataclass
class Position:
    """Counts how far a training is.

    Attributes:
        epoch: That comes next.
        stage: 0, or 1 for the second one.
        step: Steps of the stage.
        validated: Steps of the stage at the last validation.
        gained: Steps of the stage at the last gain.
        misses: Validations of the stage since the last gain.
    """

    epoch: int = 0
    stage: int = 0
    step: int = 0
    validated: int = 0
    gained: int = 0
    misses: int = 0

    def is_due(self, schedule: Schedule) -> bool:
        """Tells whether enough steps passed for a validation."""
        return self.step - self.validated >= schedule.validate_every

    def has_stopped(self, schedule: Schedule) -> bool:
        """Tells whether the patience of the stage is used up."""
        if schedule.patience_steps is None or self.misses < LEAST_VALIDATIONS:
            return False
        return self.validated - self.gained >= schedule.patience_steps

    def has_second(self, schedule: Schedule) -> bool:
        """Tells whether another stage follows."""
        return schedule.second_stage is not None and self.stage == 0

    def validate(self, *, is_gain: bool) -> None:
        """Counts a validation."""
        self.validated = self.step
        self.gained = self.step if is_gain else self.gained
        self.misses = 0 if is_gain else self.misses + 1

    def begin_second(self) -> None:
        """Begins the second stage."""
        self.stage, self.step = 1, 0
        self.validated, self.gained, self.misses = 0, 0, 0

    def to_tensor(self) -> Tensor:
        """Writes the counts as ``[6]``."""
        return torch.tensor(
            [self.epoch, self.stage, self.step, self.validated, self.gained, self.misses]
        )

    @classmethod
    def of(cls, counts: Tensor) -> "Position":
        """Reads what :meth:`to_tensor` wrote."""
        return cls(*(int(count) for count in counts))
