"""Parameters on their way to devices, and the age of those in use."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.saveable import (
    ANY,
    Arrays,
    Saved,
    part_of,
    prefixed,
    restore_fields,
    saved_fields,
    taken,
)
from cdc_flower.simulations.links.accounting import Floats, Ints, Usage
from cdc_flower.wire.batch import MessageBatch


@dataclass(frozen=True)
class Payload:
    """One payload for each of ``k`` devices.

    Attributes:
        batch: The records, without instruments.
        rows: ``[k]``, devices.
        tickets: ``[k]``, under which the links know each.
        made_s: ``[k]``, when each was asked for.
    """

    batch: MessageBatch
    rows: Ints
    tickets: Ints
    made_s: Floats

    def select(self, which: NDArray[np.bool_]) -> "Payload":
        """Selects the payloads of a mask ``[k]``."""
        return Payload(
            self.batch.select(which), self.rows[which], self.tickets[which], self.made_s[which]
        )


class InFlight:
    """Keeps payloads that wait on the downlinks, oldest first."""

    def __init__(self) -> None:
        self._payloads: list[Payload] = []

    def add(self, payload: Payload) -> None:
        """Puts payloads behind those that wait."""
        self._payloads.append(payload)

    def land(
        self,
        asked: NDArray[np.bool_],
        served: NDArray[np.bool_],
        before_s: float,
        arrival_of: Callable[[Ints], Floats],
    ) -> list[Payload]:
        """Takes off what arrives, the newest of each device, and drops what is older or never will.

        Args:
            asked: ``[n]``, devices that can be handed something now.
            served: ``[n]``, devices that have got something newer; those that land here are added.
            before_s: What arrives later stays.
            arrival_of: Tickets ``[k]`` -> when each arrives: inf for not known yet, -inf for never.
        """
        landed: list[Payload] = []
        waiting: list[Payload] = []
        for payload in reversed(self._payloads):
            arrival_s = arrival_of(payload.tickets)
            comes = arrival_s > -np.inf
            if not comes.all():
                payload, arrival_s = payload.select(comes), arrival_s[comes]
            lands = (arrival_s < before_s) & asked[payload.rows]
            newest = lands & ~served[payload.rows]
            served[payload.rows[newest]] = True
            if newest.any():
                landed.append(payload.select(newest))
            # what is overtaken by something newer never lands
            waits = ~lands & ~served[payload.rows]
            if waits.any():  # an empty payload goes too
                waiting.append(payload.select(waits))
        self._payloads = waiting[::-1]
        return landed

    def to_arrays(self) -> Arrays:
        """Takes all payloads, oldest first."""
        saved: Arrays = {"num_payloads": np.array(len(self._payloads))}
        for number, payload in enumerate(self._payloads):
            columns = saved_fields(payload, ("rows", "tickets", "made_s"))
            batch = prefixed("batch", payload.batch.to_arrays())
            saved |= prefixed(str(number), {**columns, **batch})
        return saved

    def from_arrays(self, arrays: Saved) -> None:
        """Replaces the payloads by saved ones."""
        count = int(taken(arrays, "num_payloads", np.int64, ()))
        parts = [part_of(arrays, str(number)) for number in range(count)]
        self._payloads = [
            Payload(
                MessageBatch.from_arrays(part_of(part, "batch")),
                taken(part, "rows", np.int64, (ANY,)),
                taken(part, "tickets", np.int64, (ANY,)),
                taken(part, "made_s", np.float64, (ANY,)),
            )
            for part in parts
        ]


#: Attributes of ages that change.
_CHANGING = ("_in_use_s", "_own_s", "own_ready_s")


class Ages:
    """Knows when each device's parameters were asked for: those in use, and those in the making.

    Args:
        num_devices: ``n``.
        start_s: When the deployed parameters begin to count.
    """

    def __init__(self, num_devices: int, start_s: float) -> None:
        self._in_use_s = np.full(num_devices, start_s)
        self._own_s = np.full(num_devices, start_s)
        self.own_ready_s = np.full(num_devices, -np.inf)  # -inf: the device is making none

    def to_arrays(self) -> Arrays:
        """Takes all ages."""
        return saved_fields(self, _CHANGING)

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on from saved ages of as many devices."""
        restore_fields(self, _CHANGING, arrays)

    def begin_own(self, rows: Ints, asked_s: float, ready_s: Floats) -> None:
        """Notes that devices make parameters of their own.

        Args:
            rows: ``[k]``.
            asked_s: When that was asked for.
            ready_s: ``[k]``, when they are ready.
        """
        self._own_s[rows] = asked_s
        self.own_ready_s[rows] = ready_s

    def own_made_s(self, rows: Ints) -> Floats:
        """Tells when the parameters that these devices make themselves were asked for, ``[k]``."""
        return self._own_s[rows]

    def pass_segment(
        self,
        rows: Ints,
        arrival_s: Floats,
        made_s: Floats,
        start_s: float,
        end_s: float,
        usage: Usage,
    ) -> None:
        """Counts latency and staleness of a segment in which parameters come into use.

        Args:
            rows: ``[k]``.
            arrival_s: ``[k]``, when they come into use; -inf where none do. After the segment: not
                in it.
            made_s: ``[k]``, when they were asked for.
            start_s: Of the segment.
            end_s: Of the segment.
            usage: Where to write.
        """
        arrived = np.isfinite(arrival_s) & (arrival_s < end_s)
        new = rows[arrived]
        usage.latency_s[new] = arrival_s[arrived] - made_s[arrived]
        switch_s = np.where(arrived, np.clip(arrival_s, start_s, end_s), end_s)
        share_old = (switch_s - start_s) / (end_s - start_s)
        age_old_s = start_s - self._in_use_s[rows]
        age_new_s = np.where(arrived, start_s - made_s, 0.0)
        usage.staleness_s[rows] = share_old * age_old_s + (1 - share_old) * age_new_s
        self._in_use_s[new] = made_s[arrived]
        self.own_ready_s[new] = -np.inf
