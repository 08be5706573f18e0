"""The logs of 3G on the way through Norway as published (Riiser et al., MMSys 2013)."""

from cdc_flower.simulations.network.formats import Recorded, trace_formats
from cdc_flower.simulations.network.formats.byte_logs import read_byte_log


@trace_formats.register("hsdpa_raw")
def read_hsdpa_raw(text: str, source: str) -> Recorded:
    """Reads ``date milliseconds latitude longitude bytes milliseconds`` a line.

    The date is in seconds since 1970; the last two columns are the bytes since the line before and
    how long they took.
    """
    return read_byte_log(text, source)
