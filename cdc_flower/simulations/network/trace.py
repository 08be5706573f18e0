"""A recorded rate: what a link could carry, second by second, over and over again."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Trace:
    """The rate of a link in time, constant between edges, which begins anew when it ends.

    Args:
        edges_s: ``[k + 1]``, from 0 to the duration, ascending.
        rates_bps: ``[k]``, bits per second between two edges.
        name: Where it comes from.

    Raises:
        ValueError: If the edges do not ascend from 0, or the rates are negative, not finite, or all
            zero.
    """

    edges_s: NDArray[np.float64]
    rates_bps: NDArray[np.float64]
    name: str = ""

    def __post_init__(self) -> None:
        edges, rates = np.asarray(self.edges_s, np.float64), np.asarray(self.rates_bps, np.float64)
        if not len(rates) or edges.shape != (len(rates) + 1,):
            raise ValueError(
                f"a trace must have one edge more than rates, got {edges.shape} and {rates.shape}"
            )
        if edges[0] != 0 or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
            raise ValueError("the edges of a trace must ascend from 0 s")
        if not np.isfinite(rates).all() or (rates < 0).any():
            raise ValueError("the rates of a trace must be finite and >= 0")
        if not rates.any():
            raise ValueError("a trace must carry something, got a rate of 0 throughout")
        first = np.flatnonzero(
            np.append(True, rates[1:] != rates[:-1])
        )  # pieces of one rate are one piece
        object.__setattr__(self, "edges_s", np.append(edges[first], edges[-1]))
        object.__setattr__(self, "rates_bps", rates[first])

    @property
    def duration_s(self) -> float:
        """Seconds after which it begins anew."""
        return float(self.edges_s[-1])

    @property
    def mean_bps(self) -> float:
        """Bits per second over its whole duration."""
        return float((np.diff(self.edges_s) * self.rates_bps).sum() / self.duration_s)

    @property
    def median_bps(self) -> float:
        """Takes the median of its means over whole seconds; the mean if it is shorter than that."""
        if self.duration_s < 1:
            return self.mean_bps
        carried = np.append(0.0, np.cumsum(np.diff(self.edges_s) * self.rates_bps))
        return float(
            np.median(
                np.diff(np.interp(np.arange(int(self.duration_s) + 1), self.edges_s, carried))
            )
        )

    def scaled(self, factor: float) -> "Trace":
        """Makes the same trace with all rates times a factor."""
        return Trace(self.edges_s, self.rates_bps * factor, self.name)

    def content_hash(self) -> str:
        """Makes a fingerprint of the rates, whatever the name and the format of the file."""
        content = np.round(self.edges_s, 3).tobytes() + np.round(self.rates_bps).tobytes()
        return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, eq=False)
class TracePair:
    """Both directions of one link, recorded together.

    Args:
        up: From the device to the cloud.
        down: From the cloud to the device.
        rtt_s: Mean round-trip time; None: that of the network.
        loss: Share of packets that were lost, in [0, 1]; None: none beside those of the conditions.
    """

    up: Trace
    down: Trace
    rtt_s: float | None = None
    loss: float | None = None

    @property
    def name(self) -> str:
        """Of the recording."""
        return self.up.name

    def content_hash(self) -> str:
        """Makes a fingerprint of both directions, and of what else was recorded."""
        content = self.up.content_hash() + self.down.content_hash()
        if self.rtt_s is not None or self.loss is not None:
            content += f" {self.rtt_s} {self.loss}"
        return hashlib.sha256(content.encode()).hexdigest()
