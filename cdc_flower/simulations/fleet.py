"""The fleet: for each device its link and the speed of its phone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.errors import UserError
from cdc_flower.seeds import hashed_uniform


@dataclass(frozen=True)
class Network:
    """A kind of link. Rates are constant in time; ``math.inf`` is a link that takes no time.

    Args:
        name: Of the profile.
        rate_up_bps: Bits per second from a device to the cloud.
        rate_down_bps: Bits per second from the cloud to a device.
        rtt_s: Round-trip time in seconds; half of it is added each way.
        spread: Standard deviation of the logarithm of a device's rates around these. 0: all links are alike.

    Raises:
        UserError: If a rate is not positive, or the round-trip time or the spread is negative.
    """

    name: str
    rate_up_bps: float
    rate_down_bps: float
    rtt_s: float
    spread: float = 0.0

    def __post_init__(self) -> None:
        for key in ("rate_up_bps", "rate_down_bps"):
            if not getattr(self, key) > 0:
                raise UserError(f"network.{key} must be > 0, got {getattr(self, key)}")
        for key in ("rtt_s", "spread"):
            value = getattr(self, key)
            if not 0 <= value < np.inf:
                raise UserError(f"network.{key} must be >= 0 and finite, got {value}")


@dataclass(frozen=True)
class Fleet:
    """Links and speeds of ``n`` devices.

    Attributes:
        rate_up_bps: ``[n]``; ``rate_down_bps``: ``[n]``; ``rtt_s``: ``[n]``.
        device_flops_per_s: ``[n]``, floating-point operations per second of each phone.
        cloud_flops_per_s: Of the cloud, for one device at a time.
    """

    rate_up_bps: NDArray[np.float64]
    rate_down_bps: NDArray[np.float64]
    rtt_s: NDArray[np.float64]
    device_flops_per_s: NDArray[np.float64]
    cloud_flops_per_s: float

    def __len__(self) -> int:
        return len(self.rate_up_bps)

    @staticmethod
    def build(
        num_devices: int, network: Network, *, device_flops_per_s: float, cloud_flops_per_s: float, seed: int
    ) -> "Fleet":
        """A fleet on one kind of link. A device's link does not depend on how many others there are.

        Raises:
            UserError: If there is no device or a speed is not positive.
        """
        for key, value in (("device_flops_per_s", device_flops_per_s), ("cloud_flops_per_s", cloud_flops_per_s)):
            if not value > 0:
                raise UserError(f"fleet.{key} must be > 0, got {value}")
        if num_devices < 1:
            raise UserError(f"fleet.num_devices must be >= 1, got {num_devices}")
        # Box and Muller (1958): two independent normal numbers for each device.
        radius, angle = hashed_uniform(seed, "links", np.arange(num_devices)[:, None], np.arange(2)).T
        spread = network.spread * np.sqrt(-2 * np.log1p(-radius))
        return Fleet(
            rate_up_bps=network.rate_up_bps * np.exp(spread * np.cos(2 * np.pi * angle)),
            rate_down_bps=network.rate_down_bps * np.exp(spread * np.sin(2 * np.pi * angle)),
            rtt_s=np.full(num_devices, network.rtt_s),
            device_flops_per_s=np.full(num_devices, device_flops_per_s),
            cloud_flops_per_s=cloud_flops_per_s,
        )

    def select(self, device_ids: NDArray[np.int64]) -> "Fleet":
        """The links and phones of these devices, in their order."""
        return Fleet(
            self.rate_up_bps[device_ids],
            self.rate_down_bps[device_ids],
            self.rtt_s[device_ids],
            self.device_flops_per_s[device_ids],
            self.cloud_flops_per_s,
        )


def send(
    start_s: NDArray[np.float64],
    free_s: NDArray[np.float64],
    wire_bytes: NDArray[np.int64],
    rate_bps: NDArray[np.float64],
    rtt_s: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Send one message over each of ``n`` links of constant rate, first come first served.

    ``begin = max(start, free)``; ``free' = begin + 8 bytes / rate``; ``arrival = free' + rtt / 2``.
    A message of no bytes is not sent: it arrives at its start and leaves the link as it was.

    Args:
        start_s: ``[n]``, when each message is ready.
        free_s: ``[n]``, when each link has sent what came before.
        wire_bytes: ``[n]``; ``rate_bps``: ``[n]``; ``rtt_s``: ``[n]``.

    Returns:
        Arrival ``[n]`` and the new ``free_s`` ``[n]``, in seconds.
    """
    sent = wire_bytes > 0
    busy = np.maximum(start_s, free_s) + wire_bytes * 8.0 / rate_bps
    return np.where(sent, busy + rtt_s / 2, start_s), np.where(sent, busy, free_s)
