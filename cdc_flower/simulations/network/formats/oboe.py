"""Oboe: milliseconds and kbit/s (Akhtar et al., SIGCOMM 2018)."""

from cdc_flower.simulations.network.formats import Directions, trace_formats
from cdc_flower.simulations.network.formats.lines import read_samples


@trace_formats.register("oboe")
def read_oboe(text: str, source: str) -> Directions:
    """Reads ``milliseconds kbit/s`` a line: the rate from the line before until this moment."""
    return {"down": read_samples(text, source, 1e-3, 1e3)}
