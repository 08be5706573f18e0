"""Measures batches and grids: the cost of moving messages, against that of their arithmetic.

    python -m benchmarks.grid

One device-round is: 4 arrays (2,112 float32) down, 8 sequences of 10 items scored against 100
candidates each, the sums of the metrics up; 1,000 devices, one thread. The rates are device-rounds
per CPU second over all processes, of ``inline`` and of ``ray`` with one worker (two at once would
also measure how they share the caches), against

(a) the same arithmetic by hand in one batched function, interleaved, and
(b) the same app on Flower's Simulation Runtime, after its first round (which starts Ray).

Beside them stands the cost of a plain ``nn.Module`` as device model over that of the built-in model
of the same network: in a round, and in gradient steps of the head and of all layers on devices and
in the cloud.
"""

import logging
import os
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks.support import workload
from benchmarks.support.by_hand import round_by_hand
from benchmarks.support.flower_runtime import device_rounds_per_cpu_s
from benchmarks.support.measure import close, interleaved, own_cpu_s, tree_cpu_s
from benchmarks.support.plain_module import module_ratios
from cdc_flower.devices.app import DeviceApp
from cdc_flower.simulations.grids.base import BatchedGrid
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.simulations.grids.ray import RayGrid
from cdc_flower.tasks.recommendation.metrics import METRICS
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

REPEATS = 15
ROUNDS = 5
NUM_DEVICES = workload.NUM_DEVICES
#: CPU time of a plain module over that of the built-in model, at most.
MODULE_BAR = 2.0


def check_equal(by_hand: dict[str, np.ndarray], replies: MessageBatch) -> None:
    """Checks that the grid is right: fast and wrong does not count.

    Raises:
        ValueError: If the grid's sums are not those by hand.
    """
    for k, name in enumerate(METRICS):
        mine = replies.metrics[records.SCORES]["value-sum"][:, k]
        # Rounding may swap a pair of almost equal scores.
        if not np.allclose(by_hand[name], mine, atol=1e-3):
            raise ValueError(
                f"{name} must be the same by hand, got {np.abs(by_hand[name] - mine).max()} "
                "between them"
            )


def rates(
    grid: BatchedGrid, app: DeviceApp, stream: workload.FixedStream, clock: Callable[[], float]
) -> tuple[float, float]:
    """Measures device-rounds per CPU second by hand and on a grid, interleaved.

    Args:
        grid: Of ``NUM_DEVICES`` devices.
        app: Of the devices.
        stream: Of the devices.
        clock: CPU seconds so far, of the processes that work.
    """
    own = workload.heads(app, NUM_DEVICES)
    base = workload.base_arrays(app)
    node_ids = np.array(grid.get_node_ids())
    grid.send_and_receive(workload.deploy(app, node_ids))
    replies = workload.one_batch(grid.send_and_receive(workload.evaluate(own, node_ids)))
    check_equal(round_by_hand(stream, base, own), replies)
    work = {
        "hand": lambda: [round_by_hand(stream, base, own) for _ in range(ROUNDS)],
        "grid": lambda: [
            grid.send_and_receive(workload.evaluate(own, node_ids)) for _ in range(ROUNDS)
        ],
    }
    seconds = interleaved(work, clock, REPEATS)
    return NUM_DEVICES * ROUNDS / seconds["hand"], NUM_DEVICES * ROUNDS / seconds["grid"]


def main() -> None:
    """Measures, prints, and closes."""
    logging.disable(logging.WARNING)
    workload.threads(1)
    stream = workload.FixedStream(NUM_DEVICES)
    app = workload.app_on(stream)
    hand, inline = rates(InlineGrid(app, range(NUM_DEVICES)), app, stream, own_cpu_s)
    print(f"by hand {hand:,.0f}, inline {inline:,.0f} device-rounds per CPU second")
    modules = {f"module_{work}": ratio for work, ratio in module_ratios(REPEATS).items()}
    ray_grid = RayGrid(app, range(NUM_DEVICES), num_workers=1)
    hand_again, on_ray = rates(ray_grid, app, stream, tree_cpu_s)
    ray_grid.close()
    print(
        f"by hand {hand_again:,.0f}, ray {on_ray:,.0f} device-rounds per CPU second, over all "
        "processes"
    )
    flower = device_rounds_per_cpu_s(NUM_DEVICES)  # some 2 minutes
    print(f"Flower's Simulation Runtime {flower:,.1f} device-rounds per CPU second")
    ratios = {
        "inline_to_hand": inline / hand,
        "ray_to_hand": on_ray / hand_again,
        "inline_to_flower": inline / flower,
        "ray_to_flower": on_ray / flower,
    }
    bars = {
        "inline_to_hand": 0.6,
        "ray_to_hand": 0.6,
        "inline_to_flower": 100.0,
        "ray_to_flower": 100.0,
        **dict.fromkeys(modules, MODULE_BAR),
    }
    close("grid", {**ratios, **modules}, bars, at_most=modules)


if __name__ == "__main__":
    main()
