"""Makes recorded rates of arrays: when each rate begins, and how fast it is."""

import numpy as np
from numpy.typing import ArrayLike

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.network.trace import Trace


class SampledTrace(Trace):
    """A rate of a link in time, given by samples.

    Each rate holds until the next one begins, the last as long as the median of the others; then
    it all begins anew. Times may start anywhere.

    Args:
        times_s: ``[k]``, when each rate begins, ascending, ``k >= 2``; or ``[k + 1]``, with the
            end of the last.
        rates_bps: ``[k]``, bits per second.
        name: Where it comes from.

    Raises:
        UserError: If the times do not ascend, there are too few, or the rates are negative, not
            finite, or all zero.
    """

    def __init__(self, times_s: ArrayLike, rates_bps: ArrayLike, name: str = "trace") -> None:
        try:
            times = np.asarray(times_s, np.float64)
            rates = np.asarray(rates_bps, np.float64)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"Trace: times_s and rates_bps must be arrays of numbers: {error}"
            ) from (error)
        if times.ndim != 1 or rates.ndim != 1 or len(times) - len(rates) not in (0, 1):
            raise UserError(
                "Trace: rates_bps must be as many as times_s, or one less, "
                f"got {list(rates.shape)} and {list(times.shape)}"
            )
        if len(times) < 2:
            raise UserError(f"Trace: times_s must be at least 2, got {len(times)}")
        if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
            raise UserError("Trace: times_s must be finite and ascend")
        if len(times) == len(rates):
            times = np.append(times, times[-1] + np.median(np.diff(times)))
        try:
            super().__init__(times - times[0], rates, name)
        except ValueError as error:
            raise UserError(f"Trace: {error}") from error
