"""Takes intervals over trainings × devices where several seeds are pooled.

Events of one device are alike, and so are those of one training: the same method trained with
another seed is another model. With ``e_is`` the part of device ``i`` and seed ``s`` in the error of
a value (its influence), ``k`` seeds and ``n`` devices, errors are clustered both ways:

    V = V_seed + max(V_device - V_cell, 0),

where ``V_seed = k / (k - 1) * sum_s (sum_i e_is)**2``, ``V_device`` likewise over devices, and
``V_cell`` over single pairs, which both of them count. Devices of their own for each seed and the
same devices for all seeds are both right by it. The margin is Student's t with the degrees of
freedom of Welch and Satterthwaite, close to ``k - 1`` where trainings differ most; it is never less
than that over devices alone. With one seed nothing is known of other trainings: the interval is
over devices, given this model.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm, t

LEVEL = 0.95
Z_95 = 1.96


def errors(cells: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Estimates how far off the value of each group may be.

    Args:
        cells: A row a group, seed and device: ``by``, ``seed``, ``device_id`` and ``influence``.
        by: The columns that make a group.

    Returns:
        Indexed by ``by``: ``num_seeds``, ``num_devices``, ``margin`` (half of the 95 % interval;
        NaN for one device), and ``se_device``, ``se`` and ``df`` for :func:`p_values`.
    """
    by = list(by)
    parts = {
        name: cells.groupby([*by, *key], observed=True, sort=False)["influence"].sum(skipna=False)
        for name, key in (
            ("device", ["device_id"]),
            ("seed", ["seed"]),
            ("cell", ["seed", "device_id"]),
        )
    }
    squares, counts = {}, {}
    for name, sums in parts.items():
        groups = (sums**2).groupby(by, observed=True, sort=False)
        counts[name] = groups.size()
        several = (counts[name] - 1).where(counts[name] > 1)
        squares[name] = groups.sum(skipna=False) * counts[name] / several
    table = pd.DataFrame({"num_seeds": counts["seed"], "num_devices": counts["device"]})
    device = squares["device"]
    shared = (device - squares["cell"]).clip(lower=0.0)
    both = squares["seed"] + shared  # NaN for one seed
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = squares["seed"] ** 2 / (counts["seed"] - 1) + shared**2 / (counts["device"] - 1)
        table["df"] = (both**2 / spread).where(spread > 0, np.inf)
    table["se_device"] = np.sqrt(device)
    table["se"] = np.sqrt(both.where(counts["seed"] > 1, device))
    table.loc[counts["seed"] < 2, "df"] = np.inf
    factor = t.ppf((1 + LEVEL) / 2, table["df"].to_numpy())
    over_both = np.where(counts["seed"] > 1, factor * table["se"], 0.0)
    table["margin"] = np.maximum(over_both, Z_95 * table["se_device"])
    return table


def interval_words(num_seeds: int) -> str:
    """Says over what intervals are, after "a 95 % interval"."""
    if num_seeds < 2:
        return "over devices, given these models"
    return f"over {num_seeds} trainings × devices"


def p_values(difference: NDArray[np.float64], found: pd.DataFrame) -> NDArray[np.float64]:
    """Gives two-sided p-values that go with the margins, ``[k]``; 1 where nothing differs.

    Args:
        difference: ``[k]``.
        found: ``k`` rows of :func:`errors`.
    """
    size = np.abs(difference)
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = [size / found[name].to_numpy() for name in ("se", "se_device")]
    tails = [2 * t.sf(scores[0], found["df"].to_numpy()), 2 * norm.sf(scores[1])]
    return np.where(size == 0, 1.0, np.maximum(*tails))
