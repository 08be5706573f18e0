"""Keeps what there is to say of trainings: curves that never fell, and those that were cut off."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from cdc_flower.training.schedule import Schedule

log = logging.getLogger("cdc_flower")


@dataclass(frozen=True)
class Entry:
    """One training.

    Attributes:
        name: Of the training.
        curve: Validation losses, the first one before it.
        is_falling: Whether it was cut off by its epochs while the loss still fell.
    """

    name: str
    curve: Sequence[float]
    is_falling: bool

    @property
    def beats_start(self) -> bool:
        """Tells whether an epoch was better than the start."""
        return min(self.curve) < self.curve[0]


@dataclass
class Diary:
    """Collects the trainings of one strategy, or of the base model, in their order.

    Attributes:
        entries: The trainings.
        remarks: Sentences of who trained, without the strategy's name and a full stop.
    """

    entries: list[Entry] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def enter(self, name: str, curve: Sequence[float], schedule: Schedule) -> None:
        """Enters a training, and writes its losses to the log.

        Args:
            name: Of the training.
            curve: Validation losses, the first one before it.
            schedule: By which it was trained.
        """
        self.entries.append(Entry(name, list(curve), schedule.is_falling(curve)))
        log.info(
            "%s: validation loss %.4f before, %.4f at best, %d validations",
            name,
            curve[0],
            min(curve),
            len(curve) - 1,
        )

    def remark(self, words: str) -> None:
        """Adds a sentence, without the strategy's name and a full stop."""
        self.remarks.append(words)

    def notes(self) -> list[str]:
        """Writes sentences without a name in front: remarks, no gain, cut off."""
        trained = [entry for entry in self.entries if len(entry.curve) > 1 and any(entry.curve)]
        found = list(self.remarks)
        stuck = [entry for entry in trained if not entry.beats_start]
        if stuck:
            found.append(_stuck_words(stuck, len(trained)))
        falling = [entry for entry in trained if entry.is_falling]
        if falling:
            worst = max(falling, key=lambda entry: entry.curve[-2] - entry.curve[-1])
            share = (
                f"{len(falling)} of {len(trained)} trainings" if len(trained) > 1 else "training"
            )
            were = "were" if len(falling) > 1 and len(trained) > 1 else "was"
            found.append(
                f"{share} {were} cut off by epochs while the validation loss still fell "
                f"({worst.name}: {worst.curve[0]:.4f} at first, then {worst.curve[-2]:.4f} and "
                f"{worst.curve[-1]:.4f} at the end)"
            )
        return found


def _stuck_words(stuck: Sequence[Entry], num_trained: int) -> str:
    """Says that trainings never beat their start."""
    first = stuck[0]
    figures = f"validation loss {first.curve[0]:.4f}, {min(first.curve[1:]):.4f} at best after it"
    if len(stuck) == num_trained:
        return (
            f"training never beat its start ({first.name}: {figures}), so what is played is the "
            "start, as with epochs=0"
        )
    return (
        f"{len(stuck)} of {num_trained} trainings never beat their start ({first.name}: {figures})"
    )
