"""One direction of the links of a fleet: rate, outages, loss, and the order of what is sent."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.saveable import Arrays, Saved, restore_fields, saved_fields
from cdc_flower.simulations.network.loss import MAX_ROUNDS, lost_packets, packets_of
from cdc_flower.simulations.network.outages import Outages
from cdc_flower.simulations.network.rates import Floats, Ints, TraceBank


@dataclass(frozen=True)
class Loss:
    """Lost packets.

    Args:
        chance: Of each packet to be lost each time it is sent, in [0, 1]. 0: none is. 1: nothing
            ever arrives.
        packet_bytes: At most in a packet.
        seed: Of the draws.
        name: ``up`` or ``down``, for draws of their own.
    """

    chance: float = 0.0
    packet_bytes: int = 1500
    seed: int = 0
    name: str = ""


@dataclass(frozen=True)
class Channel:
    """One direction of ``n`` links. First come, first served on each.

    Attributes:
        rate_bps: ``[n]``, the constant rate of each; where a link follows a trace, the mean rate of
            that.
        rtt_s: ``[n]``, round-trip time; half of it is added to the time of a transfer.
        device_ids: ``[n]``.
        bank: The traces that links follow; None if all are constant.
        trace: ``[n]``, which trace; -1 for a constant rate.
        offset_s: ``[n]``, where in its trace each link is at time 0.
        outages: When links are up; None if they always are.
        loss: See :class:`Loss`.
        own_loss: ``[n]``, chance of a packet to be lost on each link, in place of that of ``loss``;
            None: the same on all.
    """

    rate_bps: Floats
    rtt_s: Floats
    device_ids: Ints
    bank: TraceBank | None = None
    trace: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    offset_s: Floats = field(default_factory=lambda: np.empty(0))
    outages: Outages | None = None
    loss: Loss = field(default_factory=Loss)
    own_loss: Floats | None = None

    def __len__(self) -> int:
        return len(self.rate_bps)

    def select(self, rows: Ints) -> "Channel":
        """Selects some devices."""
        follows = (
            {}
            if self.bank is None
            else {"trace": self.trace[rows], "offset_s": self.offset_s[rows]}
        )
        outages = None if self.outages is None else self.outages.select(rows)
        own = {
            "rate_bps": self.rate_bps[rows],
            "rtt_s": self.rtt_s[rows],
            "device_ids": self.device_ids[rows],
        }
        own_loss = None if self.own_loss is None else self.own_loss[rows]
        made = replace(self, **own, **follows, outages=outages)  # type: ignore[arg-type]
        return replace(made, own_loss=own_loss)

    def median_bps(self) -> Floats:
        """Gives the median over seconds of the rate of each link while it is up, ``[n]``."""
        if self.bank is None:
            return self.rate_bps
        medians = np.array([trace.median_bps for trace in self.bank.traces])
        return np.where(self.trace >= 0, medians[self.trace], self.rate_bps)

    def finish_s(self, rows: Ints, begin_s: Floats, num_bytes: Ints | Floats) -> Floats:
        """Finds when transfers end that lose nothing, ``[k]``.

        Args:
            rows: ``[k]``, links.
            begin_s: ``[k]``.
            num_bytes: ``[k]``, above 0.
        """
        if self.outages is None:
            return self._without_outages(rows, begin_s, num_bytes)
        begin_s = self.outages.resume_s(rows, begin_s)
        up_s = self.outages.up_time_s(rows, begin_s)
        done_s = self._without_outages(rows, up_s, num_bytes)
        reached = np.isfinite(done_s)
        end_s = np.full(len(rows), np.inf)
        end_s[reached] = self.outages.time_s(rows[reached], done_s[reached])
        return np.maximum(end_s, begin_s)

    def _without_outages(self, rows: Ints, begin_s: Floats, num_bytes: Ints | Floats) -> Floats:
        end_s = begin_s + num_bytes * 8.0 / self.rate_bps[rows]
        if self.bank is not None:
            traced = np.flatnonzero((self.trace[rows] >= 0) & np.isfinite(begin_s))
            which = rows[traced]
            offset_s = self.offset_s[which]
            sizes = np.asarray(num_bytes, np.float64)[traced]
            end_s[traced] = (
                self.bank.finish_s(self.trace[which], begin_s[traced] + offset_s, sizes) - offset_s
            )
        return end_s

    def _chances(self, rows: Ints) -> Floats:
        """Finds the chance of a packet to be lost on each of some links."""
        if self.own_loss is None:
            return np.full(len(rows), self.loss.chance)
        return self.own_loss[rows]

    def hold_s(
        self, rows: Ints, begin_s: Floats, num_bytes: Ints, message: Ints
    ) -> tuple[Floats, Ints]:
        """Finds when links are free again after messages of which what is lost is sent again.

        Args:
            rows: ``[k]``, links.
            begin_s: ``[k]``.
            num_bytes: ``[k]``, above 0.
            message: ``[k]``, number of each message on its link, for the draws.

        Returns:
            When each link is free, and the bytes that were sent again ``[k]``.
        """
        again = np.zeros(len(rows), np.int64)
        chance = self._chances(rows)
        if not chance.any():
            return self.finish_s(rows, begin_s, num_bytes), again
        if (chance >= 1).all():
            return np.full(len(rows), np.inf), again
        end_s = self.finish_s(rows, begin_s, num_bytes)
        end_s[chance >= 1] = np.inf
        missing, left = packets_of(num_bytes, self.loss.packet_bytes), np.flatnonzero(chance < 1)
        for attempt in range(MAX_ROUNDS):
            ids = self.device_ids[rows[left]]
            lost = lost_packets(
                missing[left],
                chance[left],
                self.loss.seed,
                self.loss.name,
                ids,
                message[left],
                attempt,
            )
            missing[left] = lost
            left = left[(lost > 0) & np.isfinite(end_s[left])]
            if not len(left):
                return end_s, again
            sizes = np.minimum(missing[left] * self.loss.packet_bytes, num_bytes[left])
            again[left] += sizes
            end_s[left] = self.finish_s(rows[left], end_s[left] + self.rtt_s[rows[left]], sizes)
        end_s[left] = np.inf
        return end_s, again


class Fifo:
    """Sends messages on the links of a channel, one after the other on each.

    Args:
        channel: The links.
        start_s: From when on they are free.
    """

    def __init__(self, channel: Channel, start_s: float) -> None:
        self.channel, self.free_s = channel, np.full(len(channel), start_s)
        self._num_sent = np.zeros(len(channel), np.int64)

    def to_arrays(self) -> Arrays:
        """Takes from when on each link is free, and how many messages it has carried."""
        return saved_fields(self, ("free_s", "_num_sent"))

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on with saved links."""
        restore_fields(self, ("free_s", "_num_sent"), arrays)

    def send(
        self, rows: Ints, ready_s: Floats, num_bytes: Ints, expiry_s: Floats
    ) -> tuple[Floats, Ints, NDArray[np.bool_]]:
        """Sends one message on each of some links.

        ``begin = max(ready, free)``, ``free' = `` the end of the transfer, ``arrival = free' + rtt
        / 2``. A message that could not begin before it expires is not sent. One that has begun is
        sent to its end.

        Args:
            rows: ``[k]``, without repeats.
            ready_s: ``[k]``.
            num_bytes: ``[k]``, above 0.
            expiry_s: ``[k]``.

        Returns:
            Arrival ``[k]`` (inf for what never arrives), bytes that were sent again, and whether
            each was sent.
        """
        begin_s = np.maximum(ready_s, self.free_s[rows])
        sent = begin_s < expiry_s
        arrival_s, again = np.full(len(rows), np.inf), np.zeros(len(rows), np.int64)
        go = rows[sent]
        free_s, again[sent] = self.channel.hold_s(
            go, begin_s[sent], num_bytes[sent], self._num_sent[go]
        )
        self.free_s[go] = free_s
        self._num_sent[go] += 1
        arrival_s[sent] = free_s + self.channel.rtt_s[go] / 2
        return arrival_s, again, sent
