"""The fleet: for each device its link and the speed of its phone."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
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
        rate_up_bps: Bits per second from a device to the cloud; ``math.inf`` is a link that takes
            no time.
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

    name: str
    rate_up_bps: float = np.inf
    rate_down_bps: float = np.inf
    rtt_s: float = 0.0
    spread: float = 0.0
    traces: tuple[TracePair, ...] = ()

    def __post_init__(self) -> None:
        for key in ("rate_up_bps", "rate_down_bps"):
            if not getattr(self, key) > 0:
                raise UserError(f"network.{key} must be > 0, got {getattr(self, key)}")
        for key in ("rtt_s", "spread"):
            value = getattr(self, key)
            if not 0 <= value < np.inf:
                raise UserError(f"network.{key} must be >= 0 and finite, got {value}")
        if self.traces and self.spread:
            raise UserError(f"network.spread must be 0 with traces, got {self.spread}")


@dataclass(frozen=True)
class Conditions:
    """What holds on every link, whatever its rate. The defaults change nothing.

    Args:
        loss: Chance of each packet to be lost each time it is sent, in [0, 1]. 0: none. 1: nothing
            ever arrives.
        packet_bytes: At most in a packet.
        outage_every_s: Mean time from one outage of a link to the next. None: there is none.
        outage_s: Mean length of an outage.
        ttl_s: Seconds for which a message is wanted. None: for ever.
        deadline_s: Seconds that the cloud waits for what it asked for; later reports are dropped.
            None: for ever.
        cell_up_bps: Capacity that all uplinks share behind their own rates. None: enough for all.
        cell_down_bps: Likewise for all downlinks.
        rate_scale: A factor on all rates. 1: as they are.

    Raises:
        UserError: If a value is out of its range.
    """

    loss: float = 0.0
    packet_bytes: int = 1500
    outage_every_s: float | None = None
    outage_s: float = 30.0
    ttl_s: float | None = None
    deadline_s: float | None = None
    cell_up_bps: float | None = None
    cell_down_bps: float | None = None
    rate_scale: float = 1.0

    def __post_init__(self) -> None:
        if (
            isinstance(self.packet_bytes, bool)
            or not isinstance(self.packet_bytes, int)
            or self.packet_bytes < 1
        ):
            raise UserError(
                f"conditions.packet_bytes must be a whole number >= 1, got {self.packet_bytes}"
            )
        for key in self.__dataclass_fields__:
            value = getattr(self, key)
            if value is None and key not in ("loss", "outage_s", "rate_scale"):
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UserError(f"conditions.{key} must be a number, got {value!r}")
            if key == "loss":
                if not 0 <= value <= 1:
                    raise UserError(f"conditions.loss must be in [0, 1], got {value}")
            elif not 0 < value < np.inf:
                raise UserError(f"conditions.{key} must be > 0 and finite, got {value}")


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
        device_flops_per_s: float = 1e9,
        cloud_flops_per_s: float = 1e11,
        speed_quantiles: Sequence[float] | None = None,
        num_cloud_workers: int | None = None,
        cloud_s_per_device: float = 0.0,
        conditions: Conditions | None = None,
        seed: int = 0,
    ) -> "Fleet":
        """A fleet on one kind of link. A device's link and speed do not depend on how many others there are.

        Args:
            num_devices: ``n``.
            network: The kind of link.
            device_flops_per_s: Of a phone, or of the median phone.
            cloud_flops_per_s: Of the cloud, for one device at a time.
            speed_quantiles: Speeds of phones relative to ``device_flops_per_s``, at evenly spaced
                shares of the fleet from the slowest to the fastest; between them the speed is
                interpolated. None: all are alike.
            num_cloud_workers: Devices for which the cloud can work at a time. None: for all.
            cloud_s_per_device: Seconds of the cloud for each device that it generates for, beside
                its operations.
            conditions: What holds on every link; nothing by default.
            seed: Of the run.

        Raises:
            UserError: If there is no device or a speed is not positive.
        """
        for key, value in (
            ("device_flops_per_s", device_flops_per_s),
            ("cloud_flops_per_s", cloud_flops_per_s),
        ):
            if not value > 0:
                raise UserError(f"fleet.{key} must be > 0, got {value}")
        if num_devices < 1:
            raise UserError(f"fleet.num_devices must be >= 1, got {num_devices}")
        if num_cloud_workers is not None and (
            not isinstance(num_cloud_workers, int) or num_cloud_workers < 1
        ):
            raise UserError(
                f"fleet.num_cloud_workers must be a whole number >= 1, or null, got {num_cloud_workers}"
            )
        if not 0 <= cloud_s_per_device < np.inf:
            raise UserError(
                f"fleet.cloud_s_per_device must be >= 0 and finite, got {cloud_s_per_device}"
            )
        rules, ids = conditions or Conditions(), np.arange(num_devices)
        rtt_s = np.full(num_devices, network.rtt_s)
        up, down = (_channel(network, rules, ids, rtt_s, way, seed) for way in ("up", "down"))
        return Fleet(
            rate_up_bps=up.rate_bps,
            rate_down_bps=down.rate_bps,
            rtt_s=rtt_s,
            device_flops_per_s=device_flops_per_s * _relative_speeds(speed_quantiles, ids, seed),
            cloud_flops_per_s=cloud_flops_per_s,
            conditions=rules,
            num_cloud_workers=num_cloud_workers,
            cloud_s_per_device=cloud_s_per_device,
            up=up,
            down=down,
        )

    def channels(self) -> tuple[Channel, Channel]:
        """The uplinks and the downlinks."""
        ids = np.arange(len(self))
        return (
            self.up or Channel(self.rate_up_bps, self.rtt_s, ids),
            self.down or Channel(self.rate_down_bps, self.rtt_s, ids),
        )

    def select(self, device_ids: NDArray[np.int64]) -> "Fleet":
        """The links and phones of these devices, in their order."""
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
        """Medians over the devices, of the median over seconds of the rate up, and of the rate down."""
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
        trace = hashed_integers(seed, "trace", ids, high=len(bank))
        offset_s = hashed_uniform(seed, "trace-offset", ids) * bank.duration_s[trace]
        mean_bps = np.array([trace.mean_bps for trace in bank.traces])[trace]
        return Channel(mean_bps, rtt_s, ids, bank, trace, offset_s, outages, loss)
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


def _relative_speeds(
    quantiles: Sequence[float] | None, ids: NDArray[np.int64], seed: int
) -> NDArray[np.float64]:
    """Speeds of phones, by the inverse of the cumulative distribution, interpolated on the logarithm."""
    if quantiles is None:
        return np.ones(len(ids))
    values = np.asarray(list(quantiles), np.float64)
    if len(values) < 2 or not (values > 0).all() or (np.diff(values) < 0).any():
        raise UserError(
            f"fleet.speed_quantiles must be at least two numbers > 0 that ascend, got {list(quantiles)}"
        )
    share = hashed_uniform(seed, "phones", ids)
    return np.exp(np.interp(share, np.linspace(0, 1, len(values)), np.log(values)))
