"""Measures the structure of the package as numbers, each with a bar.

    python -m benchmarks.structure          # the numbers, and places where a bar is missed
    python -m benchmarks.structure wide_lines any   # every place of these measures

A second; nothing is imported from the package. ``tests/test_layout.py`` holds the same bars.
"""

import sys
from pathlib import Path

from benchmarks.support import sources as measures
from benchmarks.support.measure import close

ROOT = Path(__file__).resolve().parents[1]
#: Places that are shown of a measure that misses its bar.
NUM_SHOWN = 5


def main() -> None:
    """Measures, prints, and closes."""
    sources = measures.read_sources(ROOT)
    places = measures.places_of(sources)
    numbers = measures.numbers_of(sources)
    for name in sys.argv[1:]:
        print("\n".join([f"{name}:", *(f"  {place}" for place in places[name])]))
    for name, number in numbers.items():
        bar = measures.BARS.get(name)
        missed = bar is not None and number > bar
        words = "" if bar is None else f"   at most {bar:g}{', MISSED' if missed else ''}"
        print(f"{name.replace('_', ' '):28}{number:10,.4g}{words}")
        for place in places.get(name, [])[: NUM_SHOWN if missed else 0]:
            print(f"    {place}")
    close("structure", numbers, measures.BARS, at_most=measures.BARS)


if __name__ == "__main__":
    main()
