"""The links event by event in SimPy, written from the rules and not from the engine: every piece of
a trace, every arrival and every departure is an event.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import simpy

from cdc_flower.simulations.network.channel import Channel
from cdc_flower.simulations.network.loss import lost_packets
from cdc_flower.simulations.network.trace import Trace

Process = Generator[Any, Any, None]


@dataclass
class Trip:
    """A report of one device, what the cloud does with it, and the answer."""

    device: int
    ready_s: float
    up_bytes: int
    work_s: float
    down_bytes: int
    expiry_s: float = float("inf")
    report_arrival_s: float = float("-inf")
    arrival_s: float = float("-inf")


@dataclass
class Way:
    """One direction of the links."""

    channel: Channel
    cell_bps: float | None
    sent: dict[int, int] = field(default_factory=dict)


class Cell:
    """Processor sharing: at each event every transfer under way has got its share of the time since
    the last.
    """

    def __init__(self, env: simpy.Environment, rate_bps: float) -> None:
        self.env, self.rate, self.left, self.since_s = env, rate_bps / 8, {}, 0.0
        self.version = 0

    def enter(self, key: int, num_bytes: float, done: Callable[[], None]) -> None:
        self._pass()
        self.left[key] = [float(num_bytes), done]
        self._plan()

    def _pass(self) -> None:
        for item in self.left.values():
            item[0] -= (self.env.now - self.since_s) * self.rate / len(self.left)
        self.since_s = self.env.now

    def _plan(self) -> None:
        self.version += 1
        if self.left:
            self.env.process(self._wait(self.version))

    def _wait(self, version: int) -> Process:
        key = min(self.left, key=lambda k: self.left[k][0])
        yield self.env.timeout(max(0.0, self.left[key][0]) * len(self.left) / self.rate)
        if version == self.version:
            self._pass()
            _, done = self.left.pop(key)
            self._plan()
            done()


class Model:
    """All links of a fleet."""

    def __init__(self, up: Way, down: Way, num_workers: int | None, ttl_s: float) -> None:
        self.env = simpy.Environment()
        self.up, self.down, self.ttl_s = up, down, ttl_s
        self.cells = [
            None if way.cell_bps is None else Cell(self.env, way.cell_bps) for way in (up, down)
        ]
        self.workers = None if num_workers is None else simpy.Resource(self.env, num_workers)
        n = len(up.channel)
        self.waiting: list[Trip | None] = [None] * n
        self.busy = [False] * n
        self.downlinks = [simpy.Resource(self.env, 1) for _ in range(n)]
        self.num_dropped = [0] * n

    def play(self, trips: list[Trip]) -> None:
        for trip in trips:
            self.env.process(self._device(trip))
        self.env.run()

    def _device(self, trip: Trip) -> Process:
        yield self.env.timeout(trip.ready_s)
        if self.waiting[trip.device] is not None:
            self.num_dropped[trip.device] += 1
        self.waiting[trip.device] = trip
        if not self.busy[trip.device]:
            self.env.process(self._uplink(trip.device))

    def _uplink(self, device: int) -> Process:
        self.busy[device] = True
        while self.waiting[device] is not None:
            trip, self.waiting[device] = self.waiting[device], None
            assert trip is not None
            if self.env.now >= trip.expiry_s:
                self.num_dropped[device] += 1
                continue
            yield from self._transfer(self.up, device, trip.up_bytes)
            self.env.process(self._to_cloud(trip))
        self.busy[device] = False

    def _to_cloud(self, trip: Trip) -> Process:
        yield self.env.timeout(self.up.channel.rtt_s[trip.device] / 2)
        if self.cells[0] is not None:
            left = self.env.event()
            self.cells[0].enter(id(trip), trip.up_bytes, left.succeed)
            yield left
        if self.env.now > trip.expiry_s:
            self.num_dropped[trip.device] += 1
            return
        trip.report_arrival_s = self.env.now
        if trip.work_s and self.workers is not None:
            with self.workers.request() as mine:
                yield mine
                yield self.env.timeout(trip.work_s)
        else:
            yield self.env.timeout(trip.work_s)
        expiry_s = self.env.now + self.ttl_s
        if self.cells[1] is not None:
            left = self.env.event()
            self.cells[1].enter(id(trip), trip.down_bytes, left.succeed)
            yield left
        with self.downlinks[trip.device].request() as mine:
            yield mine
            if self.env.now >= expiry_s:
                self.num_dropped[trip.device] += 1
                return
            yield from self._transfer(self.down, trip.device, trip.down_bytes)
        yield self.env.timeout(self.down.channel.rtt_s[trip.device] / 2)
        if self.env.now > expiry_s:
            self.num_dropped[trip.device] += 1
        else:
            trip.arrival_s = self.env.now

    def _transfer(self, way: Way, device: int, num_bytes: int) -> Process:
        """Rounds of packets until none is lost."""
        channel, loss = way.channel, way.channel.loss
        message, way.sent[device] = way.sent.get(device, 0), way.sent.get(device, 0) + 1
        missing, size, attempt = -(-num_bytes // loss.packet_bytes), num_bytes, 0
        while True:
            yield from self._carry(channel, device, size)
            if loss.chance:
                import numpy as np

                one = lambda value: np.array([value])  # noqa: E731
                missing = int(
                    lost_packets(
                        one(missing),
                        loss.chance,
                        loss.seed,
                        loss.name,
                        one(device),
                        one(message),
                        attempt,
                    )[0]
                )
            if not loss.chance or not missing:
                return
            size, attempt = min(missing * loss.packet_bytes, num_bytes), attempt + 1
            yield self.env.timeout(channel.rtt_s[device])

    def _carry(self, channel: Channel, device: int, num_bytes: float) -> Process:
        if channel.bank is None or channel.trace[device] < 0:
            yield self.env.timeout(num_bytes * 8 / channel.rate_bps[device])
            return
        trace: Trace = channel.bank.traces[channel.trace[device]]
        phase_s = (self.env.now + channel.offset_s[device]) % trace.duration_s
        piece = max(k for k in range(len(trace.rates_bps)) if trace.edges_s[k] <= phase_s)
        while True:
            rate, end_s = trace.rates_bps[piece] / 8, trace.edges_s[piece + 1]
            if rate * (end_s - phase_s) >= num_bytes:
                yield self.env.timeout(num_bytes / rate)
                return
            yield self.env.timeout(end_s - phase_s)
            num_bytes -= rate * (end_s - phase_s)
            piece = (piece + 1) % len(trace.rates_bps)
            phase_s = trace.edges_s[piece]
