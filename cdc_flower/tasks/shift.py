"""Schedules shifts: when the hidden context of a device changes, and how.

Contexts of a device follow each other in a chain ``..., c(-1), c(0), c(1), ...``; a kind of shift
says which link of the chain a segment is at, and which share of it already belongs to the next
link. Segments may be negative: then they lie before the stream, in the historical part.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.core.seeds import hashed_integers
from cdc_flower.tasks.data.registry import SHIFTS


@dataclass(frozen=True)
class ShiftSchedule:
    """Weighs the contexts of each device in each segment, from seed, device and segment alone.

    * ``abrupt``: jumps to another context once in every ``period`` segments, at a moment of the
      device's own.
    * ``gradual``: the share of events from the next context rises in steps over the second half of
      each period.
    * ``incremental``: the interest itself moves in a straight line to the next context, over a
      whole period.
    * ``recurring``: changes between two contexts every ``period`` segments.
    * ``none``: one context forever.

    With more than ``period`` segments every device shifts at least once, except under ``none``.

    Args:
        kind: One of the above.
        num_segments: How many segments to give weights for.
        num_contexts: How many contexts a device has; 1 means that nothing ever shifts.
        period: Segments between two shifts, on average.
        seed: Of the run.

    Raises:
        UserError: If the kind is unknown, or a number is below 1.
    """

    kind: str
    num_segments: int
    num_contexts: int
    period: int
    seed: int

    def __post_init__(self) -> None:
        """Checks the values."""
        if self.kind not in SHIFTS:
            raise unknown_name("shift", self.kind, SHIFTS, "data.shift")
        for key, value in (
            ("num_segments", self.num_segments),
            ("data.num_contexts", self.num_contexts),
        ):
            if value < 1:
                raise UserError(f"{key} must be >= 1, got {value}")
        if self.period < 1:
            raise UserError(f"data.period must be >= 1, got {self.period}")

    @property
    def blends(self) -> bool:
        """Tells whether weights blend the interests within an event, not choosing one for it."""
        return self.kind == "incremental"

    def weights(
        self, device_ids: NDArray[np.int64], *, first_segment: int = 0
    ) -> NDArray[np.float64]:
        """``[n, num_segments, num_contexts]``, rows sum to 1, from ``first_segment`` on."""
        old, new, share = self._chain(device_ids, first_segment)
        contexts = np.arange(self.num_contexts)
        from_old = (1 - share)[..., None] * (old[..., None] == contexts)
        return from_old + share[..., None] * (new[..., None] == contexts)

    def context_id(
        self, device_ids: NDArray[np.int64], *, first_segment: int = 0
    ) -> NDArray[np.int64]:
        """``[n, num_segments]``: the dominant context; at equal shares, the older one."""
        old, new, share = self._chain(device_ids, first_segment)
        return np.where(share > 0.5, new, old)

    def is_shift(
        self, device_ids: NDArray[np.int64], *, first_segment: int = 0
    ) -> NDArray[np.bool_]:
        """Tells ``[n, num_segments]`` whether the context is another than before."""
        context_id = self.context_id(device_ids, first_segment=first_segment)
        changed = np.zeros(context_id.shape, dtype=np.bool_)
        changed[:, 1:] = context_id[:, 1:] != context_id[:, :-1]
        return changed

    def _chain(
        self, device_ids: NDArray[np.int64], first_segment: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Finds the old context, the new one, and the share of it, ``[n, num_segments]``."""
        device = np.asarray(device_ids, dtype=np.int64)[:, None]
        segment = np.arange(first_segment, first_segment + self.num_segments)[None, :]
        link, share = self._links(device, segment)
        first = hashed_integers(self.seed, "shift-first-context", device, high=self.num_contexts)
        if self.kind == "recurring":
            second = first + self._step(device, np.array([[1]]))
            old, new = (
                np.where(link % 2 == 0, first, second),
                np.where(link % 2 == 0, second, first),
            )
        else:
            low, high = min(int(link.min(initial=0)), 0), max(int(link.max(initial=0)) + 1, 1)
            steps = self._step(device, np.arange(low + 1, high + 1)[None, :])
            chain = np.concatenate([np.zeros_like(device), np.cumsum(steps, axis=1)], axis=1)
            chain += first - chain[:, -low, None]
            old = np.take_along_axis(chain, link - low, axis=1)
            new = np.take_along_axis(chain, link - low + 1, axis=1)
        return old % self.num_contexts, new % self.num_contexts, share

    def _step(self, device: NDArray[np.int64], link: NDArray[np.int64]) -> NDArray[np.int64]:
        """Draws how far each context is from that before, never a multiple of ``num_contexts``."""
        return 1 + hashed_integers(
            self.seed, "shift-step", device, link, high=self.num_contexts - 1
        )

    def _links(
        self, device: NDArray[np.int64], segment: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Finds the link of the chain, and the share of the next, each ``[n, num_segments]``."""
        shape = np.broadcast_shapes(device.shape, segment.shape)
        still = np.zeros(shape, dtype=np.float64)
        if self.kind == "none":
            return np.zeros(shape, dtype=np.int64), still
        if (
            self.kind == "abrupt"
        ):  # one jump in segments 1..period, one in the next period, and so on
            block, place = np.divmod(segment - 1, self.period)
            jump = hashed_integers(self.seed, "shift-moment", device, block, high=self.period)
            return block + (place >= jump), still
        phase = hashed_integers(self.seed, "shift-phase", device, high=self.period)
        block, place = np.divmod(segment + phase, self.period)
        if self.kind == "recurring":
            return block, still
        if self.kind == "incremental":
            return block, place / self.period
        hold = max(1, self.period // 2)
        return block, np.maximum(place - hold + 1, 0) / (self.period - hold + 1)
