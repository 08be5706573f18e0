"""Pensieve: seconds and Mbit/s (Mao et al., SIGCOMM 2017)."""

from cdc_flower.simulations.network.formats import Recorded, trace_formats
from cdc_flower.simulations.network.formats.lines import read_samples


@trace_formats.register("pensieve")
def read_pensieve(text: str, source: str) -> Recorded:
    """Reads ``seconds Mbit/s`` a line: the rate from the line before until this moment."""
    trace, num_repeated, line = read_samples(text, source, 1.0, 1e6)
    return Recorded(down=trace, num_repeated=num_repeated, line=line)
