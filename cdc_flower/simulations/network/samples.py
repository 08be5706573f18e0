"""Makes recorded rates of arrays: when each rate begins, and how fast it is."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
        times, rates = _numbers(times_s, "times_s"), _numbers(rates_bps, "rates_bps")
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


def _numbers(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Reads numbers; times with a unit of their own would be counted in nanoseconds.

    Raises:
        UserError: If they are none.
    """
    try:
        given = np.asarray(values)
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError, RuntimeError) as error:  # a tensor that needs a gradient
        raise UserError(f"Trace: {name} must be an array of numbers: {error}") from error
    if given.dtype.kind in "mMb":
        raise UserError(f"Trace: {name} must be an array of numbers, got {given.dtype}")
    return numbers
