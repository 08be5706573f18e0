"""Measures reading of event tables: of ml-25m's shape, and against pandas format by format.

    python -m benchmarks.reading            # some 3 minutes
    python -m benchmarks.reading 2000000    # the large table with fewer rows

The large table has 25,000,095 ratings of 162,541 users and 59,047 items, generated; it is read in a
process of its own, whose largest resident memory counts. The small ones have a million rows.

What is compared is the way to one and the same table: events sorted by user and time, which a
stream is cut from. A user of pandas writes ``read_csv(path).sort_values(["userId", "timestamp"])``
for it, and that is ``pandas``, of which nothing is to take more than three times as long. ``parse``
is ``read_csv`` alone, which leaves rows in the order of the file and ids as they are; the ratio to
it is printed and has no bar. polars is measured too where it is installed. JSON lines and Netflix's
blocks are read in Python line by line; pandas reads the former with ``read_json(lines=True)``, and
has no reader of the latter.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.support.measure import close, interleaved, own_cpu_s
from cdc_flower.tasks.data.interactions import EventFileOptions
from cdc_flower.tasks.recommendation.event_files import read_events

NUM_ROWS, NUM_USERS, NUM_ITEMS = 25_000_095, 162_541, 59_047
SMALL_ROWS = 1_000_000
OTHER_ROWS = 200_000
REPEATS = 3
BARS = {"gib": 4.0, "seconds": 60.0, "bytes_to_pandas": 3.0, "slowest_to_pandas": 3.0}
#: Format -> separator and header of a delimited file; how users and items are written.
FORMATS: dict[str, tuple[str, bool, str]] = {
    "csv": (",", True, "{}"),
    "tabs": ("\t", False, "{}"),
    "spaces": (" ", False, "{}"),
    "quoted": (";", True, '"{}"'),
    "texts": (",", True, "A{:013d}"),
}
#: Reads the large table in a process of its own, and prints CPU seconds and memory.
CHILD = """
import json, sys, time
from pathlib import Path
from cdc_flower.tasks.data.interactions import EventFileOptions
from cdc_flower.tasks.recommendation.event_files import read_events
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
Path("/proc/self/clear_refs").write_text("5")  # the peak of those that started this process
before = peak()
start = time.process_time()
table = read_events(EventFileOptions(path=sys.argv[1], sep=","))
facts = [time.process_time() - start, peak(), peak() - before]
print(json.dumps([*facts, table.num_events, table.num_devices, table.num_items]))
"""


def rows_of(count: int) -> pd.DataFrame:
    """Draws ratings of the shape of ml-25m: by user, items and times at random."""
    rng = np.random.default_rng(0)
    users = np.sort(rng.integers(1, max(2, NUM_USERS * count // NUM_ROWS) + 1, count))
    return pd.DataFrame(
        {
            "userId": users,
            "movieId": rng.integers(1, NUM_ITEMS + 1, count),
            "rating": rng.integers(1, 11, count) / 2,
            "timestamp": rng.integers(789_652_009, 1_574_327_703, count),
        }
    )


def large(folder: Path, count: int) -> dict[str, float]:
    """Measures CPU seconds and memory of reading the large table."""
    path = folder / "ratings.csv"
    rows = rows_of(count)
    rows.to_csv(path, index=False)
    pandas_bytes = 3 * 8 * count  # user, item and time
    del rows
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, check=True
    )
    seconds, whole, more, num_events, num_users, num_items = json.loads(done.stdout)
    print(
        f"{num_events:,} events, {num_users:,} x {num_items:,}: {seconds:.1f} s of CPU, "
        f"{whole / 2**30:.2f} GiB, {more / pandas_bytes:.2f} times the bytes of pandas' columns"
    )
    path.unlink()
    return {
        "gib": whole / 2**30,
        "seconds": seconds,
        "bytes_to_pandas": more / pandas_bytes,
    }


def written(rows: pd.DataFrame, path: Path, form: tuple[str, bool, str]) -> None:
    """Writes rows in a delimited format."""
    sep, has_header, ids = form
    made = rows.copy()
    if ids != "{}":
        for name in ("userId", "movieId"):
            made[name] = [ids.format(value) for value in made[name]]
    made.to_csv(path, sep=sep, header=has_header, index=False, quoting=3)


def parsed(path: Path, sep: str, told: dict[str, Any]) -> pd.DataFrame:
    """Reads a table with pandas, and leaves it as it is."""
    return pd.read_csv(path, sep=sep, **told)


def by_pandas(path: Path, sep: str, told: dict[str, Any]) -> pd.DataFrame:
    """Reads and sorts a table with pandas."""
    return sorted_rows(parsed(path, sep, told))


def sorted_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Sorts rows as a table of events is sorted."""
    return rows.sort_values(["userId", "timestamp"], kind="stable")


def against_pandas(folder: Path) -> dict[str, float]:
    """Measures each format against pandas, and prints a table."""
    rows = rows_of(SMALL_ROWS)
    ratios: dict[str, float] = {}
    for name, form in FORMATS.items():
        path, (sep, has_header, _) = folder / f"{name}.csv", form
        written(rows, path, form)
        columns = None if has_header else ("user", "item", "rating", "time")
        options = EventFileOptions(path=str(path), sep=sep, columns=columns)
        names = list(rows.columns)
        told: dict[str, Any] = {} if has_header else {"header": None, "names": names}
        work: dict[str, Callable[[], object]] = {
            "ours": partial(read_events, options),
            "pandas": partial(by_pandas, path, sep, told),
            "parse": partial(parsed, path, sep, told),
        }
        if importlib.util.find_spec("polars"):
            polars: Any = __import__("polars")
            work["polars"] = partial(polars.read_csv, path, separator=sep, has_header=has_header)
        seconds = interleaved(work, own_cpu_s, REPEATS, min)
        ratios[name] = seconds["ours"] / seconds["pandas"]
        alone = seconds["ours"] / seconds["parse"]
        print(
            f"{name:8} {figures_of(seconds)}: {ratios[name]:.2f} times pandas, {alone:.2f} times "
            "its parser alone"
        )
    return ratios


def figures_of(seconds: Mapping[str, float]) -> str:
    """Lists seconds by name."""
    return ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())


def others(folder: Path) -> None:
    """Measures formats that no C parser reads, and prints their seconds for a million events."""
    rows = rows_of(OTHER_ROWS)
    lines, blocks = folder / "lines.json", folder / "blocks.txt"
    rows.to_json(lines, orient="records", lines=True)
    dates = pd.to_datetime(rows["timestamp"], unit="s").dt.strftime("%Y-%m-%d")
    texts = rows["userId"].astype(str) + "," + rows["rating"].astype(str) + "," + dates
    with blocks.open("w", encoding="utf-8") as file:
        for item, of_item in texts.groupby(rows["movieId"]):
            file.write(f"{item}:\n" + "\n".join(of_item) + "\n")
    work: dict[str, Callable[[], object]] = {
        "JSON lines": partial(read_events, EventFileOptions(path=str(lines))),
        "pandas' read_json and sort": lambda: sorted_rows(pd.read_json(lines, lines=True)),
        "Netflix blocks": partial(read_events, EventFileOptions(path=str(blocks))),
    }
    seconds = interleaved(work, own_cpu_s, REPEATS, min)
    scale = SMALL_ROWS / OTHER_ROWS
    print("others   " + figures_of({name: value * scale for name, value in seconds.items()}))


def main() -> None:
    """Measures, prints, and closes."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else NUM_ROWS
    with tempfile.TemporaryDirectory() as folder:
        ratios = against_pandas(Path(folder))
        others(Path(folder))
        found = {**large(Path(folder), count), "slowest_to_pandas": max(ratios.values())}
    close("reading", {**ratios, **found}, BARS, at_most=BARS)


if __name__ == "__main__":
    main()
