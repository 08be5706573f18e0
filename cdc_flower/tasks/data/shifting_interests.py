"""Embedded data: devices whose interests shift; see ``tasks/recommendation/interests.py``."""

from dataclasses import dataclass
from typing import ClassVar

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import option
from cdc_flower.tasks.data.registry import SHIFTS, DataOptions, data

#: Devices where the configuration leaves it open.
NUM_DEVICES = 1000


@data.register("shifting_interests", gives="items", knows_law=True)
@dataclass(frozen=True, kw_only=True)
class InterestsOptions(DataOptions):
    """Options of devices whose interests shift.

    Raises:
        UserError: If a value is out of its range.
    """

    builder: ClassVar[str] = "cdc_flower.tasks.recommendation.interests:stream_of"
    name: str = option("shifting_interests", doc="of the data")
    path: str | None = option(None, doc="unused: nothing is read")
    cut: str = option(
        "events",
        choices=("events", "last"),
        doc="last: all but the last event of each device is historical",
    )
    shift: str = option("abrupt", choices=SHIFTS, doc="kind of shift")
    period: int = option(4, least=1, doc="segments between two shifts")
    events_per_segment: int = option(9, least=1, doc="mean of a device")
    events_jitter: int = option(
        2, least=0, neutral=0, doc="how far the number of events is from the mean at most"
    )
    history_events: int = option(
        100, least=0, doc="about how many each device has before the stream starts"
    )
    num_items: int = option(600, least=2, doc="items are 1..num_items")
    num_topics: int = option(12, least=2, doc="topics on a ring, of equal size up to one item")
    num_contexts: int = option(3, least=1, neutral=1, doc="contexts of each device, all its own")
    num_habits: int = option(4, least=1, doc="a habit is 1..num_habits places on the ring")
    popularity_exponent: float = option(
        0.5, least=0, neutral=0, doc="of Zipf's law; 0 makes all items equally popular"
    )
    interest_strength: float = option(
        1.5, least=0, neutral=0, doc="0: every topic interests everyone alike"
    )
    sequence_strength: float = option(
        2.5, least=0, neutral=0, doc="0: the next topic does not depend on the last"
    )
    taste_strength: float = option(
        1.0, least=0, neutral=0, doc="0: within a topic, popularity decides"
    )
    noise: float = option(
        0.1, least=0, most=1, neutral=0, doc="share of choices that follow popularity alone"
    )
    no_repeat: int = option(
        10, least=0, neutral=0, doc="an item does not return within this many events"
    )
    exclude_seen: bool = option(
        False, doc="whether negatives avoid old choices, which would give repeated ones away"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_items < self.num_topics:
            raise UserError(
                f"data.num_items must be >= {self.num_topics}, the topics, got {self.num_items}"
            )
        if self.events_jitter >= self.events_per_segment:
            raise UserError(
                f"data.events_jitter must be in 0..events_per_segment - 1, got {self.events_jitter}"
            )
