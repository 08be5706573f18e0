"""Measures what controls cost: CPU of the comparison that README shows, with and without them.

    python -m benchmarks.controls --devices 300

Each run is a process of its own, so that both import and train everything. With the default of
1,000 devices the two take a few minutes.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.support.measure import close

#: Share of the bare run's CPU that controls may take at most.
BAR = 0.3
COMMAND = "from cdc_flower.cli import main; main()"


def cpu_s(arguments: list[str]) -> float:
    """Runs the command in a child, and returns the seconds of CPU that it took."""
    before = _children_s()
    subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments], check=True, stdout=subprocess.DEVNULL
    )
    return _children_s() - before


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Runs both, and prints seconds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--segments", type=int, default=8)
    parser.add_argument("--task", default="recommendation")
    given = parser.parse_args()
    sizes = [f"fleet.num_devices={given.devices}", f"num_segments={given.segments}"]
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        for controls in ("false", "true"):
            out = Path(folder) / controls
            run = [f"task={given.task}", *sizes, f"controls={controls}", f"out={out}"]
            seconds[controls] = cpu_s(run)
    share = seconds["true"] / seconds["false"] - 1
    print(f"without controls {seconds['false']:8.1f} s of CPU")
    print(f"with controls    {seconds['true']:8.1f} s of CPU")
    print(f"controls cost    {100 * share:8.1f} % (at most {100 * BAR:.0f} %)")
    close("controls", {"share": share}, {"share": BAR}, at_most=["share"])


if __name__ == "__main__":
    main()
