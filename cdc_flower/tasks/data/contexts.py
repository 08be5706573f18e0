"""Options that embedded data with hidden contexts share; ``regimes`` and ``cohorts`` add a law."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import option
from cdc_flower.tasks.data.registry import DataOptions

#: Devices where the configuration leaves it open.
NUM_DEVICES = 1000
#: Segments of history, and events of all devices together, at least, where the configuration leaves
#: that open: with fewer events the base model of ``regimes`` stays far below what it could be.
HISTORY_SEGMENTS = 11
HISTORY_EVENTS = 24_000


@dataclass(frozen=True, kw_only=True)
class ContextOptions(DataOptions, ABC):
    """Options of devices that jump from one hidden context to another.

    Raises:
        UserError: If a value is out of its range.
    """

    path: str | None = option(None, doc="unused: nothing is read")
    cut: str = option(
        "events",
        choices=("events", "last"),
        doc="last: all but the last event of each device is historical",
    )
    contexts: str = option(
        "shared",
        choices=("shared", "own"),
        neutral="shared",
        doc="whether devices share contexts, or each has its own",
    )
    num_contexts: int = option(
        12, least=1, neutral=1, doc="contexts in history; a shared one alone: nothing to gain"
    )
    num_visited: int | None = option(
        None, least=1, doc="contexts that a device moves among; 2: they recur; null: all"
    )
    shift: str = option(
        "abrupt",
        choices=("abrupt", "gradual", "blended"),
        doc="gradual: the share of the next context rises over half a period; blended: a whole one",
    )
    period: int = option(8, least=1, doc="segments between two jumps of a device")
    phase: str = option(
        "own",
        choices=("own", "shared"),
        doc="whether each device jumps at its own moment or all at once, half a period in",
    )
    unseen_from: int | None = option(
        None, least=0, doc="segment at which all devices move to unseen contexts; null: never"
    )
    num_unseen: int = option(3, least=1, doc="contexts that no historical event follows")
    events_per_segment: int = option(9, least=1, doc="of every device")
    history_segments: int | None = option(
        None,
        least=0,
        doc="by the same law, before the stream starts; null: 11, or as many as few devices need "
        "for 24,000 events",
    )
    popularity_exponent: float = option(
        0.5, least=0, neutral=0, doc="of Zipf's law; 0 makes items equally popular"
    )
    exclude_seen: bool = option(
        False, doc="whether negatives avoid old choices, which would give repeated ones away"
    )
    window: int | None = option(
        2, least=1, doc="items that device models read, unless model.history_length says"
    )
    report_length: int | None = option(
        20, least=1, doc="items that devices tell, unless strategy.NAME.report_length says"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_visited is not None and self.num_visited > self.num_contexts:
            raise UserError(
                f"data.num_visited must be <= {self.num_contexts}, the contexts, "
                f"got {self.num_visited}"
            )

    @property
    @abstractmethod
    def num_items(self) -> int:
        """Counts the items."""

    @property
    def num_past(self) -> int:
        """Counts the segments before the stream; 11 where no number of devices is known."""
        return HISTORY_SEGMENTS if self.history_segments is None else self.history_segments

    def for_devices(self, num_devices: int) -> Self:
        """Settles how long history is: long enough that few devices teach a base model as well."""
        if self.history_segments is not None or num_devices < 1:
            return self
        needed = math.ceil(HISTORY_EVENTS / (num_devices * self.events_per_segment))
        return replace(self, history_segments=max(HISTORY_SEGMENTS, needed))

    @property
    def num_all_contexts(self) -> int:
        """Counts the contexts, those that no historical event follows last."""
        return self.num_contexts + (self.num_unseen if self.unseen_from is not None else 0)
