"""The best prediction from a window: an exact forward filter over contexts.

Hypotheses are the contexts that a segment may have, or draws of them where each device has its own
(particles). A reader of the window knows the law, the calendar, and neither context nor phase: each
phase that a device may have is followed on its own, and they are mixed by their likelihood. A
device that comes back to a context after two jumps inside one window is not foreseen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.tasks.recommendation.laws.known import Floats, Ints

#: Up to so many hypotheses, a context and its successor are followed together while they blend.
MOST_PAIRS = 32


@dataclass(frozen=True)
class Hypotheses:
    """Holds ``K`` contexts, each as likely as another.

    Attributes:
        chances: ``[classes + 1, num_items + 1, K]``, of each item after an item of each class; the
            last class is that of no item at all.
        class_of: ``[num_items + 1]``.
    """

    chances: NDArray[np.float32]
    class_of: Ints


@dataclass(frozen=True)
class Timeline:
    """Says which links of the chain of contexts made the events of a window, and the next one.

    Attributes:
        links: ``[L + 1]``.
        shares: ``[L + 1]``, the chance that an event is already of the next link.
        counts: ``[L + 1]``, whether the event is of the hypotheses at all.
    """

    links: tuple[int, ...]
    shares: tuple[float, ...]
    counts: tuple[bool, ...]

    def dominant(self) -> "Timeline":
        """Gives the nearest timeline on which contexts do not blend."""
        links = tuple(
            link + (share > 0.5) for link, share in zip(self.links, self.shares, strict=True)
        )
        return Timeline(links, (0.0,) * len(links), self.counts)


def aligned(past: NDArray[np.int32]) -> Ints:
    """Moves padding ``[n, L]`` from the right to the left."""
    length = (past > 0).sum(axis=1)[:, None]
    column = np.arange(past.shape[1]) - (past.shape[1] - length)
    moved = np.take_along_axis(past, np.maximum(column, 0), axis=1)
    return np.where(column >= 0, moved, 0).astype(np.int64)


def posterior(
    hypotheses: Hypotheses, timelines: Sequence[tuple[float, Timeline]], past: NDArray[np.int32]
) -> NDArray[np.float32]:
    """Weighs the contexts of the next event ``[n, K]``, rows sum to 1.

    Args:
        hypotheses: Contexts to decide among.
        timelines: With the chance of each; of as many events as the window has, and one more.
        past: ``[n, L]``, padded on the right with 0.
    """
    items = aligned(past)
    before = np.concatenate([np.zeros((len(items), 1), np.int64), items[:, :-1]], axis=1)
    count = hypotheses.chances.shape[-1]
    found = np.zeros((len(items), count))
    parts: list[tuple[Floats, Floats]] = []
    for chance, timeline in timelines:
        blends = any(timeline.shares)
        own = timeline.dominant() if blends and count > MOST_PAIRS else timeline
        logs, weights = _followed(hypotheses, own, items, hypotheses.class_of[before])
        parts.append((np.log(chance) + logs, weights))
    most = np.max([logs for logs, _ in parts], axis=0)
    for logs, weights in parts:
        found += np.exp(logs - most)[:, None] * weights
    return (found / found.sum(axis=1, keepdims=True)).astype(np.float32)


def _followed(
    hypotheses: Hypotheses, timeline: Timeline, items: Ints, before: Ints
) -> tuple[Floats, Floats]:
    """Filters windows along one timeline: log likelihood ``[n]``, contexts of the next ``[n, K]``.

    The state is ``[n, K]``, or ``[n, K, K]`` of a context and its successor where they blend.

    Args:
        hypotheses: Contexts to decide among.
        timeline: Of all of these windows.
        items: ``[n, L]``, padded on the left with 0.
        before: ``[n, L]``, the class of the item before each.
    """
    count, length = hypotheses.chances.shape[-1], items.shape[1]
    in_pairs = any(timeline.shares) and count > 1
    state = np.ones((len(items), count), np.float32)
    if in_pairs:
        state = state[:, :, None] * _others(count)
    logs = np.zeros(len(items))
    for place in range(length + 1):
        if place and timeline.links[place] != timeline.links[place - 1]:
            state = _jumped(state)
        if place == length or not timeline.counts[place]:
            continue
        seen = hypotheses.chances[before[:, place], items[:, place]]
        seen[items[:, place] == 0] = 1
        if in_pairs:
            share = timeline.shares[place]
            seen = (1 - share) * seen[:, :, None] + share * seen[:, None, :]
        state *= seen
        total = state.reshape(len(items), -1).mean(axis=1)
        logs += np.log(total)
        state /= total.reshape(-1, *[1] * (state.ndim - 1))
    if in_pairs:
        share = timeline.shares[-1]
        state = (1 - share) * state.sum(axis=2) + share * state.sum(axis=1)
    return logs, state / state.sum(axis=1, keepdims=True)


def _others(count: int) -> NDArray[np.float32]:
    """Gives the chance of each context after each other one ``[K, K]``."""
    return ((1 - np.eye(count)) / max(count - 1, 1)).astype(np.float32)


def _jumped(state: NDArray[np.float32]) -> NDArray[np.float32]:
    """Moves to the next link: to any other context alike, or to the successor that is known."""
    count = state.shape[1]
    if count == 1:
        return state
    if state.ndim == 2:
        jumped: NDArray[np.float32] = (state.sum(axis=1, keepdims=True) - state) / (count - 1)
        return jumped
    # The successor is the context now, and has a successor itself.
    return state.sum(axis=1)[:, :, None] * _others(count)


def predicted(
    hypotheses: Hypotheses, weights: NDArray[np.float32], last: Ints, items: NDArray[np.int32]
) -> Floats:
    """Mixes the chances of items ``[n, C]`` by the weights of contexts.

    Args:
        hypotheses: Contexts.
        weights: ``[n, K]``.
        last: ``[n]``, the item before; 0 if there is none.
        items: ``[n, C]``.
    """
    chances = np.zeros(items.shape)
    classes = hypotheses.class_of[last]
    for number in np.unique(classes):
        rows = np.flatnonzero(classes == number)
        table = weights[rows] @ hypotheses.chances[number].T
        chances[rows] = np.take_along_axis(table, items[rows].astype(np.int64), axis=1)
    return chances
