"""Embedded data: devices whose interests shift. The hidden context of every event is known.

Items lie in topics, have a Zipf popularity and a place in a small space of tastes. A device has a
few contexts, each with an interest in every topic, a taste, and a habit: the topic that tends to
follow the last one, ``habit`` places further on a ring of topics. The next item is drawn in two
steps:

    p(topic | context, last topic)
        ~  mass(topic) * exp(interest + sequence_strength * [topic = last + habit])
    p(item | context, topic)        ~  popularity(item) * exp(taste_strength * taste . place)

So recent choices tell the context, the best head differs from device to device and from context to
context, and a model of sequences beats popularity. A share of noise is drawn from popularity alone.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.seeds import hashed_integers, hashed_uniform
from cdc_flower.tasks.cut import cut_last, even_starts_s
from cdc_flower.tasks.data.registry import StreamShape
from cdc_flower.tasks.data.shifting_interests import NUM_DEVICES, InterestsOptions
from cdc_flower.tasks.recommendation.laws.interests import InterestsLaw
from cdc_flower.tasks.recommendation.population import Population, topic_weights
from cdc_flower.tasks.recommendation.stream import Cut, EventStream, Ranking
from cdc_flower.tasks.shift import ShiftSchedule

_CHUNK = 2048  # devices at a time: bounds the memory, changes nothing


@dataclass(frozen=True)
class GeneratedEvents:
    """Holds events of all devices with the contexts that made them.

    Attributes:
        offsets: ``[num_devices + 1]``.
        items: ``[num_events]``.
        num_items: The largest item id.
        bounds: ``[num_devices, num_segments + 1]``; what lies before ``bounds[:, 0]`` is
            historical.
        context_id: ``[num_devices, num_segments]``, the dominant context.
        is_shift: ``[num_devices, num_segments]``.
        times_s: None: only the order is known.
        source: A name for errors.
        events_per_segment: Median of a device in a historical segment; 0 without history.
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    num_items: int
    bounds: NDArray[np.int64]
    context_id: NDArray[np.int64]
    is_shift: NDArray[np.bool_]
    times_s: NDArray[np.float64] | None = None
    source: str = "shifting_interests"
    events_per_segment: int = 0

    @property
    def num_devices(self) -> int:
        """Counts the devices."""
        return len(self.offsets) - 1

    @property
    def num_events(self) -> int:
        """Counts the events, historical ones included."""
        return len(self.items)


def shifting_interests(
    num_devices: int, num_segments: int, options: InterestsOptions | None = None, *, seed: int
) -> GeneratedEvents:
    """Draws the events of all devices: a historical part, then the stream.

    The historical part follows the same schedule, at the negative segments before the stream, so
    the cloud meets the same law with contexts drawn likewise. Events of a device depend on the seed
    and its own number only, not on how many devices or segments there are.

    Args:
        num_devices: At least 1.
        num_segments: Segments of the stream.
        options: Of the law; None: its defaults.
        seed: Of the run.

    Raises:
        UserError: If there is no device.
    """
    options = options or InterestsOptions()
    if num_devices < 1:
        raise UserError(f"num_devices must be >= 1, got {num_devices}")
    population = Population.of(options, seed)
    schedule = ShiftSchedule(
        options.shift, num_segments, options.num_contexts, options.period, seed
    )
    device_ids = np.arange(num_devices)
    num_past = -(-options.history_events // options.events_per_segment)
    segments = np.arange(-num_past, num_segments)
    counts = _num_events(options, device_ids, segments, seed)
    whole = replace(schedule, num_segments=num_past + num_segments)
    chunks = [
        _draw(
            population,
            whole,
            device_ids[start : start + _CHUNK],
            segments,
            counts[start : start + _CHUNK],
        )
        for start in range(0, num_devices, _CHUNK)
    ]
    ends = np.cumsum(counts.reshape(-1)).reshape(counts.shape)
    offsets = np.concatenate([[0], ends[:, -1]])
    starts = np.concatenate([offsets[:-1, None], ends], axis=1)
    return GeneratedEvents(
        offsets=offsets,
        items=np.concatenate(chunks),
        num_items=options.num_items,
        bounds=starts[:, num_past:],
        context_id=schedule.context_id(device_ids),
        is_shift=schedule.is_shift(device_ids),
        events_per_segment=int(np.median(counts[:, :num_past])) if num_past else 0,
    )


def _num_events(
    options: InterestsOptions,
    device_ids: NDArray[np.int64],
    segments: NDArray[np.int64],
    seed: int,
) -> NDArray[np.int64]:
    """Draws the number of events ``[n, segments]``; negative segments are historical."""
    means = np.full(len(segments), options.events_per_segment)
    num_past = int((segments < 0).sum())
    if num_past:  # the oldest holds the remainder
        means[0] = options.history_events - (num_past - 1) * options.events_per_segment
    jitter = hashed_integers(
        seed, "num-events", device_ids[:, None], segments, high=2 * options.events_jitter + 1
    )
    return np.maximum(means + jitter - options.events_jitter, 1)


def interests_stream(
    num_devices: int,
    num_segments: int,
    options: InterestsOptions | None = None,
    *,
    seed: int,
    ranking: Ranking | None = None,
) -> EventStream:
    """Makes the stream of :func:`shifting_interests`.

    Args:
        num_devices: At least 1.
        num_segments: Segments of the stream.
        options: Of the law and of the clock; None: their defaults.
        seed: Of the run.
        ranking: Candidates of each event; None: as the options say.

    Raises:
        UserError: If a value is out of its range.
    """
    options = options or InterestsOptions()
    events = shifting_interests(num_devices, num_segments, options, seed=seed)
    is_last = options.cut == "last"
    cut = Cut(
        cut_last(events.offsets, num_segments) if is_last else events.bounds,
        even_starts_s(num_segments, options.segment_s),
        context_id=events.context_id,
        is_shift=events.is_shift,
        events_per_segment=0 if is_last else events.events_per_segment,
    )
    ranking = ranking or Ranking(exclude_seen=options.exclude_seen)
    law = InterestsLaw(options, num_segments, seed)
    return EventStream(events, cut, ranking, seed=seed, law=law)


def stream_of(options: InterestsOptions, shape: StreamShape) -> EventStream:
    """Makes the stream of configured data: draws the events of all devices."""
    num_devices = NUM_DEVICES if shape.num_devices is None else shape.num_devices
    ranking = Ranking(shape.history_length, shape.num_negatives, options.exclude_seen)
    return interests_stream(
        num_devices, shape.num_segments, options, seed=shape.seed, ranking=ranking
    )


def _pick(weights: NDArray[np.float64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
    """Draws a column of each row by its weights ``[n, k]`` and a uniform number ``[n]``."""
    total = np.cumsum(weights, axis=1)
    threshold = np.minimum(uniform * total[:, -1], np.nextafter(total[:, -1], 0))
    return (total <= threshold[:, None]).sum(axis=1)


def _draw(
    population: Population,
    schedule: ShiftSchedule,
    device_ids: NDArray[np.int64],
    segments: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> NDArray[np.int32]:
    """Draws items in a row, by device and then by time; ``counts`` is ``[n, segments]``."""
    num_devices, rows = len(device_ids), np.arange(len(device_ids))
    interests, habits = population.interests(device_ids), population.habits(device_ids)
    tastes = population.tastes(device_ids)
    table, popularity = population.topic_items(), population.popularity()[population.topic_items()]
    places, mass = population.item_places()[table], popularity.sum(axis=1)
    mixture = schedule.weights(device_ids, first_segment=int(segments[0]))
    last_topic = np.full(num_devices, -1, dtype=np.int64)
    memory = min(population.no_repeat, population.num_items // population.num_topics - 1)
    newest = np.zeros(
        (num_devices, memory), dtype=np.int32
    )  # a ring of items that may not return yet
    num_drawn = np.zeros(num_devices, dtype=np.int64)
    allowed = np.ones((num_devices, population.num_items + 1), dtype=np.bool_)
    drawn = np.zeros((num_devices, len(segments), int(counts.max())), dtype=np.int32)
    for block, segment in enumerate(segments):
        draws = hashed_uniform(
            population.seed,
            "event",
            device_ids[:, None, None],
            segment,
            np.arange(drawn.shape[2])[:, None],
            np.arange(4),
        )
        for slot in range(int(counts[:, block].max())):
            chance = draws[:, slot]
            weights = mixture[:, block]
            if not schedule.blends:
                weights = (
                    np.arange(population.num_contexts) == _pick(weights, chance[:, 0])[:, None]
                ).astype(float)
            weights = (
                weights * (chance[:, 1] >= population.noise)[:, None]
            )  # without a context only popularity is left
            topic = _pick(
                topic_weights(population, mass, interests, habits, weights, last_topic),
                chance[:, 2],
            )
            taste = np.einsum("nc,ncd->nd", weights, tastes)
            item_weights = popularity[topic] * np.exp(np.einsum("nid,nd->ni", places[topic], taste))
            item_weights *= allowed[rows[:, None], table[topic]]
            item = table[topic, _pick(item_weights, chance[:, 3])]
            active = np.flatnonzero(counts[:, block] > slot)
            drawn[active, block, slot] = item[active]
            last_topic[active] = topic[active]
            if memory:
                place = num_drawn[active] % memory
                allowed[active, newest[active, place]] = True
                allowed[active, item[active]] = False
                newest[active, place] = item[active]
                num_drawn[active] += 1
    return drawn[np.arange(drawn.shape[2]) < counts[..., None]]
