"""The fleet: for each device its link and the speed of its phone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import check_options, option
from cdc_flower.core.seeds import hashed_integers, hashed_uniform
from cdc_flower.simulations.network.channel import Channel, Loss
from cdc_flower.simulations.network.outages import Outages
from cdc_flower.simulations.network.rates import TraceBank
from cdc_flower.simulations.network.trace import TracePair


@dataclass(frozen=True)
class Network:
    """A kind of link, of constant rates or along recorded traces.

    Args:
        name: Of the profile.
        rate_up_bps: Bits per second from a device to the cloud; ``math.inf`` takes no time.
        rate_down_bps: Bits per second from the cloud to a device.
        rtt_s: Round-trip time in seconds; half of it is added each way.
        spread: Standard deviation of the logarithm of a device's rates around these. 0: all links
            are alike.
        traces: Recordings; each device follows one of them from a random moment on, and the rates
            above do not count. None: constant rates.

    Raises:
        UserError: If a rate is not positive, the round-trip time or the spread is negative, or
            traces have a spread.
    """

    name: str = option(doc="of the profile")
    rate_up_bps: float = option(
        math.inf, above=0, neutral=math.inf, doc="from device to cloud, bit/s"
    )
    rate_down_bps: float = option(
        math.inf, above=0, neutral=math.inf, doc="from cloud to device, bit/s"
    )
    rtt_s: float = option(0.0, least=0, below=math.inf, neutral=0, doc="round-trip time, s")
    spread: float = option(
        0.0,
        least=0,
        below=math.inf,
        neutral=0,
        doc="standard deviation of the logarithm of rates over devices",
    )
    traces: tuple[TracePair, ...] = ()

    def __post_init__(self) -> None:
        check_options(self, "network")
        if self.traces and self.spread:
            raise UserError(f"network.spread must be 0 with traces, got {self.spread}")


@dataclass(frozen=True)
class Conditions:
    """Loss, outages and limits on every link, whatever its rate. The defaults change nothing.

    Raises:
        UserError: If a value is out of its range.
    """

    loss: float = option(
        0.0, least=0, most=1, neutral=0, doc="chance of each packet to be lost each time it is sent"
    )
    packet_bytes: int = option(1500, least=1, doc="bytes in a packet at most")
    outage_every_s: float | None = option(
        None,
        above=0,
        below=math.inf,
        doc="mean time from one outage of a link to the next; null: none",
    )
    outage_s: float = option(30.0, above=0, below=math.inf, doc="mean length of an outage")
    ttl_s: float | None = option(
        None, above=0, below=math.inf, doc="seconds for which a message is wanted; null: for ever"
    )
    deadline_s: float | None = option(
        None,
        above=0,
        below=math.inf,
        doc="seconds that the cloud waits for reports; later ones are dropped; null: for ever",
    )
    cell_up_bps: float | None = option(
        None, above=0, below=math.inf, doc="capacity that all uplinks share; null: enough for all"
    )
    cell_down_bps: float | None = option(
        None, above=0, below=math.inf, doc="capacity that all downlinks share; null: enough for all"
    )
    rate_scale: float = option(1.0, above=0, below=math.inf, neutral=1, doc="a factor on all rates")

    def __post_init__(self) -> None:
        check_options(self, "conditions")


@dataclass(frozen=True)
class Speeds:
    """Declared speeds of phones and of the cloud, from which seconds of computing come.

    Raises:
        UserError: If a value is out of its range.
    """

    device_flops_per_s: float = option(
        1e9, above=0, doc="floating-point operations per second of a phone, or of the median phone"
    )
    cloud_flops_per_s: float = option(1e11, above=0, doc="of the cloud, for one device at a time")
    speed_quantiles: tuple[float, ...] | None = option(
        None,
        doc="speeds of phones over device_flops_per_s at even shares of the fleet; null: all alike",
    )
    num_cloud_workers: int | None = option(
        None, least=1, doc="devices for which the cloud works at a time; null: all"
    )
    cloud_s_per_device: float = option(
        0.0,
        least=0,
        below=math.inf,
        neutral=0,
        doc="seconds of the cloud for each device that it generates for, beside its operations",
    )

    def __post_init__(self) -> None:
        check_options(self, "fleet")
        quantiles = np.asarray(self.speed_quantiles or (1.0, 1.0))
        ascend = len(quantiles) >= 2 and (quantiles > 0).all() and (np.diff(quantiles) >= 0).all()
        if self.speed_quantiles is not None and not (ascend and self.speed_quantiles):
            raise UserError(
                "fleet.speed_quantiles must be at least two numbers > 0 that ascend, "
                f"got {list(self.speed_quantiles)}"
            )


@dataclass(frozen=True)
class Fleet:
    """Links and speeds of ``n`` devices.

    Attributes:
        rate_up_bps: ``[n]``, constant rates, or the mean of a trace; ``rate_down_bps``: ``[n]``;
            ``rtt_s``: ``[n]``.
        device_flops_per_s: ``[n]``, floating-point operations per second of each phone.
        cloud_flops_per_s: Of the cloud, for one device at a time.
        conditions: What holds on every link.
        num_cloud_workers: Devices for which the cloud can work at a time. None: for all.
        cloud_s_per_device: Seconds of the cloud for each device that it generates for, beside its
            operations.
        up: The uplinks; None: constant rates and no losses. ``down``: the downlinks.
    """

    rate_up_bps: NDArray[np.float64]
    rate_down_bps: NDArray[np.float64]
    rtt_s: NDArray[np.float64]
    device_flops_per_s: NDArray[np.float64]
    cloud_flops_per_s: float
    conditions: Conditions = field(default_factory=Conditions)
    num_cloud_workers: int | None = None
    cloud_s_per_device: float = 0.0
    up: Channel | None = None
    down: Channel | None = None

    def __len__(self) -> int:
        return len(self.rate_up_bps)

    @staticmethod
    def build(
        num_devices: int,
        network: Network,
        *,
        speeds: Speeds | None = None,
        conditions: Conditions | None = None,
        seed: int = 0,
    ) -> "Fleet":
        """Builds a fleet on one kind of link.

        A device's link and speed do not depend on how many others there are.

        Args:
            num_devices: ``n``.
            network: The kind of link.
            speeds: Of phones and cloud; nominal ones by default.
            conditions: Loss, outages and limits on every link; none by default.
            seed: Of the run.

        Raises:
            UserError: If there is no device.
        """
        if num_devices < 1:
            raise UserError(f"fleet.num_devices must be a whole number >= 1, got {num_devices}")
        speeds = speeds or Speeds()
        rules, ids = conditions or Conditions(), np.arange(num_devices)
        rtt_s = _round_trips_s(network, ids, seed)
        up, down = (_channel(network, rules, ids, rtt_s, way, seed) for way in ("up", "down"))
        return Fleet(
            rate_up_bps=up.rate_bps,
            rate_down_bps=down.rate_bps,
            rtt_s=rtt_s,
            device_flops_per_s=speeds.device_flops_per_s
            * _relative_speeds(speeds.speed_quantiles, ids, seed),
            cloud_flops_per_s=speeds.cloud_flops_per_s,
            conditions=rules,
            num_cloud_workers=speeds.num_cloud_workers,
            cloud_s_per_device=speeds.cloud_s_per_device,
            up=up,
            down=down,
        )

    def channels(self) -> tuple[Channel, Channel]:
        """Gives the uplinks and the downlinks."""
        ids = np.arange(len(self))
        return (
            self.up or Channel(self.rate_up_bps, self.rtt_s, ids),
            self.down or Channel(self.rate_down_bps, self.rtt_s, ids),
        )

    def select(self, device_ids: NDArray[np.int64]) -> "Fleet":
        """Selects the links and phones of these devices, in their order."""
        up, down = self.channels()
        return replace(
            self,
            rate_up_bps=self.rate_up_bps[device_ids],
            rate_down_bps=self.rate_down_bps[device_ids],
            rtt_s=self.rtt_s[device_ids],
            device_flops_per_s=self.device_flops_per_s[device_ids],
            up=up.select(device_ids),
            down=down.select(device_ids),
        )

    def median_rates_bps(self) -> tuple[float, float]:
        """Gives the medians over devices of the median over seconds of the rates up and down."""
        up, down = (float(np.median(channel.median_bps())) for channel in self.channels())
        return up, down


def _channel(
    network: Network,
    rules: Conditions,
    ids: NDArray[np.int64],
    rtt_s: NDArray[np.float64],
    way: str,
    seed: int,
) -> Channel:
    """One direction of the links of all devices."""
    loss = Loss(rules.loss, rules.packet_bytes, seed, way)
    outages = None
    if rules.outage_every_s is not None:
        outages = Outages(
            ids, rules.outage_every_s, rules.outage_s, seed
        )  # both ways at the same times
    if network.traces:
        bank = TraceBank([getattr(pair, way).scaled(rules.rate_scale) for pair in network.traces])
        trace = _followed(network.traces, ids, seed)
        offset_s = hashed_uniform(seed, "trace-offset", ids) * bank.duration_s[trace]
        mean_bps = np.array([trace.mean_bps for trace in bank.traces])[trace]
        own = _own_losses(network.traces, rules.loss, trace)
        return Channel(mean_bps, rtt_s, ids, bank, trace, offset_s, outages, loss, own)
    # Box and Muller (1958): two independent normal numbers for each device.
    radius, angle = hashed_uniform(seed, "links", ids[:, None], np.arange(2)).T
    spread = network.spread * np.sqrt(-2 * np.log1p(-radius))
    wave = np.cos if way == "up" else np.sin
    rate_bps = (
        getattr(network, f"rate_{way}_bps")
        * rules.rate_scale
        * np.exp(spread * wave(2 * np.pi * angle))
    )
    return Channel(rate_bps, rtt_s, ids, outages=outages, loss=loss)


def _followed(traces: Sequence[TracePair], ids: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Draws which recording each device follows, ``[n]``."""
    return hashed_integers(seed, "trace", ids, high=len(traces))


def _round_trips_s(network: Network, ids: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Finds the round-trip time of each device: the recording's own, or else the network's."""
    if not network.traces:
        return np.full(len(ids), network.rtt_s)
    recorded = [network.rtt_s if pair.rtt_s is None else pair.rtt_s for pair in network.traces]
    return np.array(recorded)[_followed(network.traces, ids, seed)]


def _own_losses(
    traces: Sequence[TracePair], chance: float, trace: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Finds the chance of a packet to be lost on each link, of the recordings and the conditions.

    Args:
        traces: The recordings.
        chance: Of the conditions.
        trace: ``[n]``, which recording each device follows.

    Returns:
        ``[n]``; None if no recording has one of its own.
    """
    if all(pair.loss is None for pair in traces):
        return None
    recorded = np.array([pair.loss or 0.0 for pair in traces])
    return (1 - (1 - recorded) * (1 - chance))[trace]


def _relative_speeds(
    quantiles: Sequence[float] | None, ids: NDArray[np.int64], seed: int
) -> NDArray[np.float64]:
    """Draws speeds by the inverse of their distribution, interpolated on the logarithm."""
    if quantiles is None:
        return np.ones(len(ids))
    values = np.asarray(quantiles, np.float64)
    share = hashed_uniform(seed, "phones", ids)
    return np.exp(np.interp(share, np.linspace(0, 1, len(values)), np.log(values)))
