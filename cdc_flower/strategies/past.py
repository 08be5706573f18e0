"""Makes what devices would have reported at historical examples, for training in the cloud.

Online a device reports when a segment starts, and uses the layers made from that report to its end:
at the k-th event of the segment they are k events old. In training a report is as old, and as long,
as it will be then.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.devices.told import Told
from cdc_flower.training.cloud import Cloud, History
from cdc_flower.training.fit import Batch

#: The value of ``max_lag`` that takes the events of a segment.
AUTO = "auto"


class NumberedBatch(Batch, Protocol):
    """Labelled examples with their numbers in the history."""

    @property
    def rows(self) -> NDArray[np.int64]:
        """``[B]``."""


@dataclass(frozen=True)
class Examples:
    """Labelled examples, each with the sequence that its layers are generated from.

    Attributes:
        history: ``[B, L]``.
        candidates: ``[B, C]``, the true one first.
        reported: ``[B, R]``, the history itself, or what the device told some events earlier.
    """

    history: Tensor
    candidates: Tensor
    reported: Tensor


@dataclass(frozen=True)
class ReportedPast:
    """Reports that devices would have made in the past.

    Attributes:
        history_length: Items that the device model reads.
        told: The part of its log that a device tells.
        max_lag: Largest age of a report, in events; 0: all reports are of the very moment.
    """

    history_length: int
    told: Told = field(default_factory=Told)
    max_lag: int = 0

    @staticmethod
    def of(cloud: Cloud, told: Told, max_lag: int | str) -> "ReportedPast":
        """Finds how old reports are.

        Args:
            cloud: With the historical data.
            told: The part of its log that a device tells.
            max_lag: In events; ``auto``: as many as a device has in a segment.
        """
        lag = events_per_segment(cloud.train) if max_lag == AUTO else int(max_lag)
        return ReportedPast(cloud.model.history_length, told, lag)

    @property
    def settings(self) -> dict[str, object]:
        """Lists all that training depends on, as plain values."""
        return {
            "report_length": self.told.num_items(self.history_length),
            "report_stride": self.told.stride,
            "max_lag": self.max_lag,
        }

    def at(
        self, history: History, rows: NDArray[np.int64], lag: NDArray[np.int64] | None = None
    ) -> Tensor:
        """Makes the reports ``[B, R]`` of examples, so many events earlier.

        Args:
            history: Of the examples.
            rows: ``[B]``, which examples.
            lag: ``[B]``; None: of the very moment.
        """
        lag = np.zeros_like(rows) if lag is None else lag
        return torch.from_numpy(self.told.lagged(history, rows, lag, self.history_length)).long()

    def lags(self, num_examples: int, draws: np.random.Generator) -> NDArray[np.int64]:
        """Draws the age of each report, uniform in 0 to ``max_lag``."""
        return draws.integers(0, self.max_lag + 1, num_examples)

    def examples(
        self, history: History, batches: Iterable[NumberedBatch], draws: np.random.Generator
    ) -> Iterator[Examples]:
        """Adds to batches what the devices would have reported, which is all that is read of them.

        Args:
            history: Whose batches they are.
            batches: With ``rows``, ``history`` and ``candidates``.
            draws: Of the lags.
        """
        for batch in batches:
            reported = self.at(history, batch.rows, self.lags(len(batch.rows), draws))
            yield examples_of(batch, reported)

    def of_batch(self, history: History, batch: NumberedBatch) -> Tensor:
        """Makes the reports ``[B, R]`` of the very moment of each example of a batch."""
        if self.told.is_read(self.history_length):
            return torch.from_numpy(batch.history).long()
        return self.at(history, batch.rows)


def examples_of(batch: Batch, reported: Tensor) -> Examples:
    """Makes examples of a historical batch and the sequences ``[B, R]`` to generate from."""
    history, candidates = (
        torch.from_numpy(ids).long() for ids in (batch.history, batch.candidates)
    )
    return Examples(history, candidates, reported)


def events_per_segment(history: object) -> int:
    """Counts the events of a device in a segment, as far as the historical data tell; else 0.

    Where devices report of what they are asked about, as on video, there is no such number.
    """
    return int(getattr(history, "events_per_segment", 0))
