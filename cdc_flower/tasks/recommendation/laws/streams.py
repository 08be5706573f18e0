"""Streams of events that follow a law with hidden contexts."""

import numpy as np

from cdc_flower.core.errors import UserError
from cdc_flower.tasks.cut import cut_last, even_starts_s
from cdc_flower.tasks.data.cohorts import CohortsOptions
from cdc_flower.tasks.data.contexts import NUM_DEVICES
from cdc_flower.tasks.data.regimes import RegimesOptions
from cdc_flower.tasks.data.registry import StreamShape
from cdc_flower.tasks.recommendation.interests import GeneratedEvents
from cdc_flower.tasks.recommendation.laws.cohorts import Cohorts
from cdc_flower.tasks.recommendation.laws.law import ContextLaw
from cdc_flower.tasks.recommendation.laws.regimes import Regimes
from cdc_flower.tasks.recommendation.stream import Cut, EventStream, Ranking

_CHUNK = 1024  # devices at a time: bounds the memory, changes nothing


def events_of(law: ContextLaw, num_devices: int, num_segments: int) -> GeneratedEvents:
    """Draws the events of all devices: a historical part, then the stream, by one law.

    Events of a device depend on the seed and its own number only, not on how many devices or
    segments there are.

    Args:
        law: With its options and seed.
        num_devices: At least 1.
        num_segments: Segments of the stream.

    Raises:
        UserError: If there is no device.
    """
    if num_devices < 1:
        raise UserError(f"fleet.num_devices must be >= 1, got {num_devices}")
    options, device_ids = law.options, np.arange(num_devices)
    num_past, played = options.num_past, np.arange(num_segments)
    segments = np.arange(-num_past, num_segments)
    parts = [
        law.segments(device_ids[first : first + _CHUNK], segments).reshape(-1)
        for first in range(0, num_devices, _CHUNK)
    ]
    size = options.events_per_segment
    offsets = np.arange(num_devices + 1) * (len(segments) * size)
    return GeneratedEvents(
        offsets=offsets,
        items=np.concatenate(parts),
        num_items=options.num_items,
        bounds=offsets[:-1, None] + size * np.arange(num_past, len(segments) + 1),
        context_id=law.jumps.context_id(device_ids, played),
        is_shift=law.jumps.is_shift(device_ids, played),
        source=options.name,
        events_per_segment=size if num_past else 0,
    )


def law_stream(
    law: ContextLaw, num_devices: int, num_segments: int, ranking: Ranking | None = None
) -> EventStream:
    """Makes the stream of a law.

    Args:
        law: With its options and seed.
        num_devices: At least 1.
        num_segments: Segments of the stream.
        ranking: Candidates of each event; None: as the options say.

    Raises:
        UserError: If a value is out of its range.
    """
    options = law.options
    events = events_of(law, num_devices, num_segments)
    is_last = options.cut == "last"
    cut = Cut(
        cut_last(events.offsets, num_segments) if is_last else events.bounds,
        even_starts_s(num_segments, options.segment_s),
        context_id=events.context_id,
        is_shift=events.is_shift,
        events_per_segment=0 if is_last else events.events_per_segment,
    )
    ranking = ranking or Ranking(exclude_seen=options.exclude_seen)
    return EventStream(events, cut, ranking, seed=law.seed, law=law)


def regimes_of(options: RegimesOptions, shape: StreamShape) -> EventStream:
    """Makes the stream of configured regimes."""
    return _configured(Regimes(options.for_devices(_count(shape)), shape.seed), shape)


def cohorts_of(options: CohortsOptions, shape: StreamShape) -> EventStream:
    """Makes the stream of configured cohorts."""
    return _configured(Cohorts(options.for_devices(_count(shape)), shape.seed), shape)


def _configured(law: ContextLaw, shape: StreamShape) -> EventStream:
    ranking = Ranking(shape.history_length, shape.num_negatives, law.options.exclude_seen)
    return law_stream(law, _count(shape), shape.num_segments, ranking)


def _count(shape: StreamShape) -> int:
    """Counts the devices."""
    return NUM_DEVICES if shape.num_devices is None else shape.num_devices
