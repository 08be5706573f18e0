"""Holds the norms of updates at a limit; goes together with every rule."""

from typing import Literal

import numpy as np

from cdc_flower.strategies.fedavg.rules.rule import Floats

MEDIAN: Literal["median"] = "median"


def sizes(vectors: Floats) -> Floats:
    """Measures vectors ``[..., P] -> [...]``."""
    return np.asarray(np.linalg.norm(vectors, axis=-1))


def median_size(updates: Floats) -> float:
    """Finds the median norm of updates ``[n, P]``."""
    return float(np.median(sizes(updates)))


def clipped(updates: Floats, limit: float | Literal["median"] | None) -> Floats:
    """Shortens those updates ``[n, P]`` that are longer than a limit.

    Args:
        updates: Of a round.
        limit: Of their norms; ``median``: the median norm of these; None and infinity shorten none.
    """
    if limit is None:
        return updates
    longest = median_size(updates) if limit == MEDIAN else float(limit)
    found = sizes(updates)
    is_long = found > longest
    if not is_long.any():
        return updates
    share = np.ones(len(updates))
    share[is_long] = longest / found[is_long]
    return updates * share[:, None]
