"""Linux's ``tc``: a script that plays a link, or samples of what a queue has sent."""

import re
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.network.formats import Recorded, trace_formats
from cdc_flower.simulations.network.formats.intervals import Interval, trace_of_intervals
from cdc_flower.simulations.network.formats.lines import MOST_RTT_S, numbered_lines, wrong_line

#: Bits per second: to tc ``mbps`` are megabytes, and a number alone is in bits.
_RATES = {
    "": 1.0, "bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9, "tbit": 1e12,
    "bps": 8.0, "kbps": 8e3, "mbps": 8e6, "gbps": 8e9, "tbps": 8e12,
    "kibit": 2.0**10, "mibit": 2.0**20, "gibit": 2.0**30,
    "kibps": 8 * 2.0**10, "mibps": 8 * 2.0**20, "gibps": 8 * 2.0**30,
}  # fmt: skip
_TIMES = {"": 1e-6, "s": 1.0, "sec": 1.0, "secs": 1.0, "ms": 1e-3, "msec": 1e-3, "us": 1e-6}
_SLEEPS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_NUMBER = r"(\d+(?:\.\d+)?)"
_RATE = re.compile(rf"\brate\s+{_NUMBER}([a-zA-Z]*)\b")
_DELAY = re.compile(rf"\bdelay\s+{_NUMBER}([a-zA-Z]*)\b")
_LOSS = re.compile(rf"\bloss\s+(?:random\s+)?{_NUMBER}%")
_SLEEP = re.compile(rf"^sleep\s+{_NUMBER}([smh]?)$")
_STAMP = re.compile(rf"^{_NUMBER}$")
_SENT = re.compile(r"^Sent (\d+) bytes (\d+) pkts? \(dropped (\d+),")


@dataclass
class _Played:
    """Collects what a script sets, and for how long.

    Attributes:
        rate_bps: That holds now; None before the first.
        delay_s: Each way, that holds now; None if the script sets none. Likewise ``loss``.
        times: Seconds for which each held, with its delay and its loss.
    """

    rate_bps: float | None = None
    delay_s: float | None = None
    loss: float | None = None
    now_s: float = 0.0
    intervals: list[Interval] = field(default_factory=list)
    times: list[tuple[float, float | None, float | None]] = field(default_factory=list)

    def change(self, line: str, source: str, number: int) -> None:
        """Takes what a command of tc sets.

        Args:
            line: The command.
            source: Name of the file.
            number: Of the line.

        Raises:
            UserError: If a unit is none of tc's.
        """
        if found := _RATE.search(line):
            self.rate_bps = _scaled(found, _RATES, source, number)
        if found := _DELAY.search(line):
            self.delay_s = _scaled(found, _TIMES, source, number)
            if 2 * self.delay_s > MOST_RTT_S:
                rule = f"a delay must be at most {MOST_RTT_S / 2:g} s"
                raise wrong_line(source, number, rule, found[0])
        if found := _LOSS.search(line):
            self.loss = float(found[1]) / 100
            if self.loss > 1:
                raise wrong_line(source, number, "a loss must be at most 100%", found[1])

    def wait(self, seconds: float, source: str, number: int) -> None:
        """Lets time pass.

        Args:
            seconds: How much.
            source: Name of the file.
            number: Of the line.
        """
        if self.rate_bps is not None and seconds > 0:
            place = f"{source}, line {number}"
            end_s = self.now_s + seconds
            self.intervals.append(Interval(self.now_s, end_s, self.rate_bps, place))
            self.times.append((seconds, self.delay_s, self.loss))
            self.now_s = end_s

    def mean(self, which: int) -> float | None:
        """Averages the delay (1) or the loss (2) over the time; None if none was set."""
        if all(each[which] is None for each in self.times):
            return None
        values = [each[which] or 0.0 for each in self.times]
        return float(np.average(values, weights=[each[0] for each in self.times]))


@trace_formats.register("tc")
def read_tc(text: str, source: str) -> Recorded:
    """Reads a script of ``tc ... rate R delay D loss P%`` and ``sleep S``, or samples of a queue.

    Samples are lines of seconds, each before what ``tc -s qdisc show dev DEV`` printed then: the
    rate is that of the bytes sent since the sample before, the loss the share of packets dropped.
    A script's delay counts each way. The direction is down, or that of the name of the file.

    Raises:
        UserError: If there is neither, or a line is malformed.
    """
    lines = numbered_lines(text, source)
    if any(_SENT.match(line) for _, line in lines):
        return _read_samples(lines, source)
    played = _Played()
    for number, line in lines:
        if found := _SLEEP.match(line):
            played.wait(_scaled(found, _SLEEPS, source, number), source, number)
        elif re.match(r"(?:sudo\s+)?(?:\S*/)?tc\s", line):
            played.change(line, source, number)
    if not played.intervals:
        rule = "a log of tc must have commands with a rate, each before a sleep, or 'Sent' lines"
        raise wrong_line(source, lines[0][0], rule, lines[0][1])
    delay_s = played.mean(1)
    trace = trace_of_intervals(played.intervals, source)
    rtt_s = None if delay_s is None else 2 * delay_s
    return Recorded(down=trace, rtt_s=rtt_s, loss=played.mean(2))


def _read_samples(lines: list[tuple[int, str]], source: str) -> Recorded:
    """Reads seconds and the counters of the first queue after each.

    Raises:
        UserError: If a counter has no time, or counters or times go back.
    """
    stamp: float | None = None
    samples: list[tuple[float, int, int, int, int]] = []
    for number, line in lines:
        if found := _STAMP.match(line):
            stamp = float(found[1])
        elif (found := _SENT.match(line)) and stamp is not None:
            counts = [int(each) for each in found.groups()]
            if max(counts) > 2**63:
                raise wrong_line(source, number, "a counter must have 64 bits", line)
            samples.append((stamp, counts[0], counts[1], counts[2], number))
            stamp = None
    if len(samples) < 2:
        raise UserError(
            f"{source}, line {lines[0][0]}: samples of tc must be two or more, each below a line "
            "of its seconds, as of date +%s.%N"
        )
    intervals = []
    for before, after in pairwise(samples):
        place = f"{source}, line {after[4]}"
        if after[1] < before[1]:
            raise UserError(f"{place}: bytes sent must not go back, got {after[1]}")
        if after[0] <= before[0]:
            raise UserError(f"{place}: times must ascend, got {after[0]:g}")
        rate = (after[1] - before[1]) * 8 / (after[0] - before[0])
        start_s = before[0] - samples[0][0]
        intervals.append(Interval(start_s, after[0] - samples[0][0], rate, place))
    sent, dropped = (samples[-1][k] - samples[0][k] for k in (2, 3))
    loss = min(max(dropped / (sent + dropped), 0.0), 1.0) if sent + dropped > 0 else None
    return Recorded(down=trace_of_intervals(intervals, source), loss=loss)


def _scaled(found: re.Match[str], units: dict[str, float], source: str, number: int) -> float:
    unit = found[2].lower()
    if unit not in units:
        known = ", ".join(name for name in units if name)
        raise wrong_line(source, number, f"a unit must be one of {known}", found[0])
    return float(found[1]) * units[unit]
