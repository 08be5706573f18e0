"""Turns dates of pandas into seconds."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

#: Unit that pandas holds dates in -> how many of them a second has.
_PER_S = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


def seconds_since_1970(dates: pd.Series) -> NDArray[np.float64]:
    """Counts seconds ``[n]`` since 1970 in UTC, of any year; NaN where there is no date.

    A difference of pandas would take nanoseconds, which end in 2262.

    Args:
        dates: With a zone, or in UTC.
    """
    bare = dates if dates.dt.tz is None else dates.dt.tz_convert(None)
    values = bare.to_numpy()
    per_s = _PER_S[np.datetime_data(values.dtype)[0]]
    return np.where(np.isnat(values), np.nan, values.astype(np.int64) / per_s)
