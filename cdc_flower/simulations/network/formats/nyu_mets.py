"""NYU METS: a commute on trains and buses of New York (Mei et al., MMSys 2019)."""

from cdc_flower.simulations.network.formats import Read, trace_formats
from cdc_flower.simulations.network.formats.pensieve import read_pensieve


@trace_formats.register("nyu_mets")
def read_nyu_mets(text: str, source: str) -> Read:
    """Reads ``seconds,Mbit/s`` a line: the rate from the line before until this moment."""
    return read_pensieve(text, source)
