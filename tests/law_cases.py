"""Streams of laws with hidden contexts, made quickly, and twins of them in plain loops."""

import math
from functools import lru_cache
from typing import Any

import numpy as np

from cdc_flower.core.seeds import hashed_integers, hashed_uniform
from cdc_flower.tasks.data.cohorts import CohortsOptions
from cdc_flower.tasks.data.regimes import RegimesOptions
from cdc_flower.tasks.recommendation.laws.cohorts import Cohorts
from cdc_flower.tasks.recommendation.laws.law import ContextLaw
from cdc_flower.tasks.recommendation.laws.regimes import Regimes
from cdc_flower.tasks.recommendation.laws.streams import law_stream
from cdc_flower.tasks.recommendation.stream import EventStream, Ranking

LAWS: dict[str, tuple[type[Any], type[Any]]] = {
    "regimes": (Regimes, RegimesOptions),
    "cohorts": (Cohorts, CohortsOptions),
}


def law(name: str = "regimes", seed: int = 0, **options: Any) -> Any:
    kind, its_options = LAWS[name]
    return kind(its_options(**options), seed)


@lru_cache(maxsize=8)
def regimes_stream(
    num_devices: int = 60, num_segments: int = 8, history_length: int = 2, **options: Any
) -> EventStream:
    """Devices that jump among regimes: 250 of them take a tenth of a second."""
    return law_stream(law(**options), num_devices, num_segments, Ranking(history_length, 99, False))


def plain_items(which: ContextLaw, device: int, segments: range) -> list[int]:
    """The items of one device, drawn by a plain loop over its events."""
    options, seed = which.options, which.seed
    items, last = [], 0
    for segment in segments:
        for slot in range(options.events_per_segment):
            u = [
                one(hashed_uniform(seed, "context-event", device, segment, slot, k))
                for k in range(4)
            ]
            context = plain_context(which, device, segment, u[0])
            draw = plain_regime if isinstance(which, Regimes) else plain_cohort
            last = draw(which, device, context, last, u[1:])
            items.append(last)
    return items


def one(value: np.ndarray) -> Any:
    return value.reshape(-1)[0].item()


def plain_context(which: ContextLaw, device: int, segment: int, u: float) -> int:
    options, seed, period = which.options, which.seed, which.options.period
    if options.phase == "shared":
        phase = period // 2
    elif period == 1:
        phase = 0
    else:
        phase = 1 + one(hashed_integers(seed, "jump-phase", device, high=period - 1))
    link, place = divmod(segment + phase, period)
    share = 0.0
    if options.shift == "blended":
        share = place / period
    elif options.shift == "gradual":
        first = max(1, period // 2)  # segments that are wholly of the old context
        share = max(0, place - first + 1) / (period - first + 1)
    link += u < share
    is_late = options.unseen_from is not None and segment >= options.unseen_from
    pool = "unseen" if is_late else "seen"
    size = options.num_unseen if is_late else options.num_visited or options.num_contexts
    place = one(hashed_integers(seed, f"jump-{pool}-first", device, high=size))
    high = max(size - 1, 1)
    for step in range(1, link + 1):
        place += 1 + one(hashed_integers(seed, f"jump-{pool}", device, step, high=high))
    for step in range(link + 1, 1):
        place -= 1 + one(hashed_integers(seed, f"jump-{pool}", device, step, high=high))
    place %= size
    if is_late:
        return options.num_contexts + place
    if options.num_visited is None:
        return place
    draws = [
        one(hashed_uniform(seed, "jump-visited", device, k)) for k in range(options.num_contexts)
    ]
    return sorted(range(options.num_contexts), key=draws.__getitem__)[place]


def plain_pick(weights: list[float], u: float) -> int:
    threshold, total = u * sum(weights), 0.0
    for place, weight in enumerate(weights):
        total += weight
        if threshold < total:
            return place
    return len(weights) - 1


def plain_regime(which: Regimes, device: int, context: int, last: int, u: list[float]) -> int:
    options, seed = which.options, which.seed
    num_topics, size = options.num_topics, options.items_per_topic
    draws = [one(hashed_uniform(seed, "regime-item", k)) for k in range(1, options.num_items + 1)]
    order = sorted(range(1, options.num_items + 1), key=lambda item: draws[item - 1])
    owner = device if options.contexts == "own" else -1
    attempt = 0
    while True:
        keys = [
            one(hashed_uniform(seed, "regime", owner, context, attempt, t))
            for t in range(num_topics)
        ]
        after = sorted(range(num_topics), key=keys.__getitem__)
        if all(topic != place for place, topic in enumerate(after)):
            break
        attempt += 1
    if last and u[0] < options.follow:
        topic = after[order.index(last) // size]
    else:
        topic = int(u[1] * num_topics)
    weights = [(rank + 1) ** -options.popularity_exponent for rank in range(size)]
    return order[topic * size + plain_pick(weights, u[2])]


def plain_cohort(which: Cohorts, device: int, context: int, last: int, u: list[float]) -> int:
    options, seed = which.options, which.seed
    owner = device if options.contexts == "own" else -1

    def normal(name: str, *place: int) -> float:
        radius = one(hashed_uniform(seed, f"{name}/radius", *place))
        angle = one(hashed_uniform(seed, f"{name}/angle", *place))
        return math.sqrt(-2 * math.log1p(-radius)) * math.cos(2 * math.pi * angle)

    taste = [normal("cohort-direction", owner, context, k) for k in range(options.place_size)]
    length = math.sqrt(sum(number**2 for number in taste))
    draws = [one(hashed_uniform(seed, "cohort-rank", k)) for k in range(1, options.items + 1)]
    order = sorted(range(options.items), key=draws.__getitem__)
    weights = []
    for item in range(options.items):
        along = sum(
            taste[k] / length * normal("cohort-place", item + 1, k)
            for k in range(options.place_size)
        )
        popularity = (order.index(item) + 1) ** -options.popularity_exponent
        weights.append(popularity * math.exp(options.taste_strength * along))
    return 1 + plain_pick(weights, u[2])
