"""Measures the memory of 10,000 devices with adaptive layers of their own, over all processes.

    python -m benchmarks.memory

GRU4Rec, 8,448 bytes of adaptive layers a device, two rounds in which every device gets new ones and
scores 8 sequences, on ``inline`` and on ``ray`` with two workers. The figure is the largest sum of
proportional set sizes seen by a thread that looks ten times a second, so that pages shared between
processes count once.
"""

import logging
import os
import threading
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks.support import workload
from benchmarks.support.measure import close, tree_memory_bytes
from cdc_flower.devices.app import DeviceApp
from cdc_flower.simulations.grids.base import BatchedGrid
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.simulations.grids.ray import RayGrid

NUM_DEVICES = 10_000
ROUNDS = 2
LOOK_S = 0.1
MOST_BYTES = 2 * 2**30


def peak_bytes(work: Callable[[], None]) -> int:
    """Measures the most memory that this process and its descendants held during the work."""
    peak = [tree_memory_bytes()]
    done = threading.Event()

    def look() -> None:
        while not done.wait(LOOK_S):
            peak.append(tree_memory_bytes())

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return max(peak)


def rounds(grid: BatchedGrid, app: DeviceApp) -> None:
    """Deploys, then gives every device of the app layers of its own, twice."""
    node_ids = np.array(grid.get_node_ids())
    grid.send_and_receive(workload.deploy(app, node_ids))
    for _ in range(ROUNDS):
        own = workload.heads(app, NUM_DEVICES)
        replies = workload.one_batch(grid.send_and_receive(workload.evaluate(own, node_ids)))
        if len(replies) != NUM_DEVICES:
            raise ValueError(f"replies must be {NUM_DEVICES}, got {len(replies)}")


def main() -> None:
    """Measures, prints, and closes."""
    logging.disable(logging.WARNING)
    workload.threads(1)

    def on_inline() -> None:
        app = workload.app_of(NUM_DEVICES)
        rounds(InlineGrid(app, range(NUM_DEVICES)), app)

    inline = peak_bytes(on_inline)
    print(f"inline: {inline / 2**30:.2f} GiB")

    def on_ray() -> None:
        app = workload.app_of(NUM_DEVICES)
        grid = RayGrid(app, range(NUM_DEVICES), num_workers=2)
        rounds(grid, app)
        grid.close()

    ray = peak_bytes(on_ray)
    print(f"ray, two workers: {ray / 2**30:.2f} GiB")
    ratios = {"inline_to_2_gib": inline / MOST_BYTES, "ray_to_2_gib": ray / MOST_BYTES}
    close("memory", ratios, dict.fromkeys(ratios, 1.0), at_most=ratios)


if __name__ == "__main__":
    main()
