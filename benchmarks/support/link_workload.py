"""Draws the load on the links of the benchmark: the same for the engine and for SimPy."""

from dataclasses import dataclass, field

import numpy as np

from cdc_flower.simulations.fleet import Fleet, Network, Speeds
from cdc_flower.simulations.network.trace import Trace, TracePair

NUM_TRACES = 40
TRACE_S = 600


@dataclass
class Workload:
    """Reports up and answers down, ``num_rounds`` times, over traces of second by second."""

    num_devices: int = 10_000
    num_rounds: int = 50
    up_bytes: int = 4_000
    down_bytes: int = 200_000
    cloud_s: float = 0.002
    rtt_s: float = 0.08
    segment_s: float = 60.0
    fleet: Fleet = field(init=False)
    traces: tuple[TracePair, ...] = field(init=False)
    think_s: np.ndarray = field(init=False)
    ready_s: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)

        def trace() -> Trace:
            rates = rng.lognormal(15.6, 0.8, TRACE_S) * (rng.random(TRACE_S) > 0.03)
            return Trace(np.arange(TRACE_S + 1.0), rates)

        self.traces = tuple(TracePair(trace(), trace()) for _ in range(NUM_TRACES))
        network = Network("traces", rtt_s=self.rtt_s, traces=self.traces)
        self.fleet = Fleet.build(
            self.num_devices, network, speeds=Speeds(cloud_flops_per_s=1.0), seed=0
        )
        shape = (self.num_rounds, self.num_devices)
        self.think_s = rng.exponential(30.0, shape)
        self.ready_s = np.arange(self.num_rounds)[:, None] * self.segment_s + rng.uniform(
            0, self.segment_s, shape
        )

    @property
    def cell_bps(self) -> float:
        """A cell that is busy four fifths of the time."""
        return self.num_devices * self.up_bytes * 8 / self.segment_s / 0.8

    @property
    def num_workers(self) -> int:
        """Workers, for whom the same holds."""
        return max(1, round(self.num_devices * self.cloud_s / self.segment_s / 0.8))
