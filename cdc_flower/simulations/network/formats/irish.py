"""The 4G data of an Irish network (Raca et al., MMSys 2018), logs of G-NetTrack too."""

from cdc_flower.simulations.network.formats import Read, trace_formats
from cdc_flower.simulations.network.formats.g_nettrack import read_5g_csv


@trace_formats.register("4g_csv")
def read_4g_csv(text: str, source: str) -> Read:
    """Reads a log with the columns Timestamp, State, DL_bitrate and UL_bitrate, in kbit/s."""
    return read_5g_csv(text, source)
