"""Measures CPU seconds of every process involved, and closes a benchmark with its line."""

import json
import os
import resource
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def own_cpu_s() -> float:
    """Measures user and system seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def tree() -> list[int]:
    """Lists the ids of this process and of all that descend from it."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # gone in the meantime
            continue
    found = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def tree_cpu_s() -> float:
    """Measures user and system seconds of this process and of living ones that descend from it."""
    total = 0
    for pid in tree():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_S


def tree_memory_bytes() -> int:
    """Measures the proportional set size of this process and of all that descend from it.

    Shared pages are counted once.
    """
    total = 0
    for pid in tree():
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(
            int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:")
        )
    return total


def interleaved(
    work: Mapping[str, Callable[[], object]],
    clock: Callable[[], float],
    repeats: int,
    chosen: Callable[[list[float]], float] = statistics.median,
) -> dict[str, float]:
    """Measures CPU seconds of each piece of work, the median of its repeats.

    The pieces take turns, so that a noisy moment hits all alike.

    Args:
        work: By name.
        clock: CPU seconds so far.
        repeats: Beside a first one that is not counted.
        chosen: Of the repeats; ``min`` for work so short that other load on the machine decides the
            median.
    """
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for run in work.values():
        run()  # warm up
    for _ in range(repeats):
        for name, run in work.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return {name: chosen(values) for name, values in seconds.items()}


def close(
    bench: str, ratios: dict[str, float], bars: dict[str, float], at_most: Iterable[str] = ()
) -> None:
    """Prints the closing JSON line and exits: 0 if every ratio reaches its bar.

    Args:
        bench: Name of the benchmark.
        ratios: The numbers.
        bars: Ratio -> the least it must be, or the most where it is named in ``at_most``.
        at_most: Names of ratios that must not be larger than their bars.
    """
    most = set(at_most)
    ok = all(
        ratios[name] <= bar if name in most else ratios[name] >= bar for name, bar in bars.items()
    )
    rounded = {name: float(f"{value:.4g}") for name, value in ratios.items()}
    print(json.dumps({"bench": bench, "ratios": rounded, "bars": bars, "ok": ok}))
    sys.exit(0 if ok else 1)
