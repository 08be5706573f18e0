"""ns-3: what its scripts and gnuplot helpers write, columns below a ``#`` line that names them."""

from cdc_flower.simulations.network.formats import Recorded, trace_formats
from cdc_flower.simulations.network.formats.lines import read_samples
from cdc_flower.simulations.network.formats.units import rate_unit, time_unit


@trace_formats.register("ns3")
def read_ns3(text: str, source: str) -> Recorded:
    """Reads a time and a rate a line: the rate from the line before until this moment.

    A ``#`` line may name the units, such as ``#Time(ms) Throughput(kbps)``; else they are seconds
    and Mbit/s.
    """
    said = [line for line in text.splitlines()[:20] if line.lstrip().startswith("#")]
    bits = [unit for line in said if (unit := rate_unit(line))]
    seconds = [unit for line in said if (unit := time_unit(line))]
    found = read_samples(text, source, (seconds or [1.0])[0], (bits or [1e6])[0])
    return Recorded(down=found[0], num_repeated=found[1], line=found[2])
