"""Tells which messages hold finite numbers alone."""

import numpy as np
from numpy.typing import NDArray


def is_finite(values: NDArray) -> NDArray[np.bool_]:
    """Tells of rows ``[n, ...]`` which hold finite numbers alone, ``[n]``."""
    if values.dtype.kind not in "fc" or not values.size:
        return np.ones(len(values), np.bool_)
    flat = values.reshape(len(values), -1)
    if values.dtype.kind == "c":
        return np.asarray(np.isfinite(flat).all(1))
    # NaN is the largest and the smallest of those that it is among: nothing is held meanwhile.
    with np.errstate(invalid="ignore"):
        return np.asarray(np.isfinite(flat.max(1)) & np.isfinite(flat.min(1)))
