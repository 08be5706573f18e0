"""The logs of 4G around Ghent as published (van der Hooft et al., IEEE Comm. Letters 2016)."""

from cdc_flower.simulations.network.formats import Recorded, trace_formats
from cdc_flower.simulations.network.formats.byte_logs import read_byte_log


@trace_formats.register("ghent")
def read_ghent(text: str, source: str) -> Recorded:
    """Reads ``date milliseconds latitude longitude bytes milliseconds`` a line.

    The date is in milliseconds since 1970; the last two columns are the bytes since the line before
    and how long they took.
    """
    return read_byte_log(text, source)
