"""Oboe: milliseconds and kbit/s (Akhtar et al., SIGCOMM 2018)."""

from cdc_flower.simulations.network.formats import Recorded, trace_formats
from cdc_flower.simulations.network.formats.lines import read_samples


@trace_formats.register("oboe")
def read_oboe(text: str, source: str) -> Recorded:
    """Reads ``milliseconds kbit/s`` a line: the rate from the line before until this moment."""
    trace, num_repeated, line = read_samples(text, source, 1e-3, 1e3)
    return Recorded(down=trace, num_repeated=num_repeated, line=line)
