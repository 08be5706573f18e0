"""The base of tasks: everything that differs between one task and another.

A task says what its devices tell, how they are scored, and how scores of all devices are pooled;
how stream and model are made of a configuration; and what a request policy may look at. A class of
your own derives from :class:`Task` and is registered; see :mod:`cdc_flower.tasks.registry`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.registry import Registry
from cdc_flower.core.stream import SegmentBatch
from cdc_flower.devices.state import DeviceStates
from cdc_flower.devices.task import Columns
from cdc_flower.models.base import DeviceModel
from cdc_flower.tasks.data.registry import OwnStream
from cdc_flower.tasks.sensing import Ask, Doubt, Sensor
from cdc_flower.training.cloud import Cloud
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records

if TYPE_CHECKING:
    import pandas as pd

Config = Mapping[str, Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ReferenceFacts:
    """Facts of a reference line.

    Attributes:
        default_place: Its place in ``references: [auto]``, from 1 on; 0: it is played where it is
            named.
        needs_law: Whether it needs data whose law is known.
    """

    default_place: int = 0
    needs_law: bool = False


#: Of tasks that have none.
NO_REFERENCES: Registry[Callable[..., object], ReferenceFacts] = Registry(
    "reference", "no_references", ReferenceFacts
)


class Deployed(Protocol):
    """Says what is deployed before the first round."""

    def deployment(self) -> Arrays:
        """Gives all layers by name."""


@dataclass(frozen=True)
class Built:
    """All that a task makes of a configuration.

    Attributes:
        stream: Data of every device, with their historical part.
        model: Of the devices.
        task: The task on these data.
    """

    stream: OwnStream
    model: DeviceModel
    task: "Task"


@dataclass(frozen=True)
class Bounds:
    """Bounds what a device can tell; replies beyond are left out.

    Attributes:
        ids: Largest id by key of what devices tell; the smallest is 0.
        values: Largest sum of a metric for each thing that it counts, by its name; the smallest is
            0. A metric that is not listed may be any finite number.
        counts: Largest number by key of scores, for each event.
    """

    ids: Mapping[str, int] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, float] = field(default_factory=dict)


class Task(ABC):
    """Reports and scores on devices, and metrics over all of them."""

    #: Names of what devices tell of their recent data; a strategy plays the task if it reads one.
    tells: frozenset[str] = frozenset()
    #: Metrics that are sums over events of a device, in the order of the columns of ``value-sum``.
    metrics: tuple[str, ...]
    #: Metrics that need the events of all devices; see :meth:`pool`.
    pooled: tuple[str, ...] = ()
    #: Lines that can stand beside the strategies; see :meth:`reference_rows`.
    references: ClassVar[Registry[Callable[..., object], ReferenceFacts]] = NO_REFERENCES

    @classmethod  # noqa: B027
    def check(cls, config: Config) -> None:
        """Refuses what only another task has, before data are read. By default there is nothing.

        Raises:
            UserError: If there is something.
        """

    @classmethod
    @abstractmethod
    def build(cls, config: Config) -> Built:
        """Reads or draws the data of a checked configuration, and makes the device model for them.

        Raises:
            UserError: If a value does not fit the data, a file is missing or a row is malformed.
        """

    def report(
        self,
        model: DeviceModel,
        stream: OwnStream,
        states: DeviceStates,
        segment: int,
        lag: int = 0,
    ) -> tuple[Columns, Columns]:
        """Makes the reports of devices; see :class:`~cdc_flower.devices.task.DeviceTask`.

        Args:
            model: Of the devices.
            stream: Their data.
            states: Of the ``n`` devices.
            segment: Which one starts.
            lag: Events by which the report is earlier. 0 is the present.

        Raises:
            ValueError: If devices tell nothing, as by default.
        """
        raise ValueError("task must be one whose devices tell something")

    def uncertainty(
        self, model: DeviceModel, stream: OwnStream, states: DeviceStates, segment: int
    ) -> NDArray[np.float64]:
        """Tells how unsure devices are; see :class:`~cdc_flower.devices.task.DeviceTask`.

        Args:
            model: Of the devices.
            stream: Their data.
            states: Of the ``n`` devices.
            segment: Which one starts.

        Raises:
            ValueError: If devices have answered nothing of which they could be unsure, as by
                default.
        """
        raise ValueError("task must be one in which devices answer questions")

    @abstractmethod
    def score(self, logits: NDArray[np.float32], data: SegmentBatch) -> tuple[Columns, Columns]:
        """Scores devices; see :class:`~cdc_flower.devices.task.DeviceTask` and :func:`facts_of`."""

    def pool(self, scores: Columns, points: Columns) -> tuple[Floats, Floats]:
        """Makes sums and counts ``[n, P]`` of the pooled metrics from all replies of a segment."""
        nothing = np.empty((len(scores[records.NUM_EXAMPLES]), 0))
        return nothing, nothing

    def bounds(self, stream: OwnStream) -> Bounds:
        """Says what no reply of a device on these data can exceed; nothing by default."""
        return Bounds()

    def can_be_read(self, stream: OwnStream, key: str, runs: NDArray) -> NDArray[np.bool_]:
        """Tells which runs of bytes ``[n, L]`` in reports are what they must be; all by default.

        Args:
            stream: Data of the devices.
            key: Of the report.
            runs: Of ``n`` devices.
        """
        return np.ones(len(runs), np.bool_)

    def sensor(self, stream: OwnStream, cloud: Cloud, deployed: Arrays) -> Sensor:
        """Makes the statistics that devices keep of their own data, for policies that go by them.

        Args:
            stream: Of the devices.
            cloud: Of the strategy.
            deployed: Layers of the model before the first round.

        Raises:
            UserError: If devices of the task keep none, as by default.
        """
        raise UserError("policy must be one without statistics of devices: this task has none")

    def doubt_estimate(
        self, stream: OwnStream, cloud: Cloud, strategy: Deployed, epochs: int, ask: Ask
    ) -> Doubt:
        """Makes the estimate by which devices are unsure of the parameters that they use.

        Args:
            stream: Of the devices.
            cloud: Of the strategy.
            strategy: Prepared.
            epochs: Of training the estimate, where it is trained.
            ask: Asks devices; see :meth:`doubt`.

        Raises:
            UserError: If the task has no such estimate, as by default.
        """
        raise UserError("policy must be one without an estimate of doubt: this task has none")

    def reference_rows(
        self,
        names: Sequence[str],
        stream: OwnStream,
        labels: Mapping[str, str | float],
        train: Callable[[], Cloud],
    ) -> Iterator["pd.DataFrame"]:
        """Scores reference lines on the whole stream, in rows as those of strategies.

        Args:
            names: Of ``references``.
            stream: Of the devices.
            labels: As for :func:`cdc_flower.study.play.play`, without ``strategy``.
            train: Gives the trained cloud, for those lines that ask for it.
        """
        return iter(())

    def base_notes(self, cloud: Cloud) -> list[str]:
        """Says what the trained base model falls short of on held-out data; by default nothing.

        Args:
            cloud: With the base model.
        """
        return []


def facts_of(
    data: SegmentBatch, context_id: NDArray[np.int64], is_shift: NDArray[np.bool_]
) -> Columns:
    """Makes the columns of scores that all tasks have.

    Args:
        data: The scored segment of ``n`` devices.
        context_id: ``[n]``, as a metric read it.
        is_shift: ``[n]``, likewise.
    """
    return {
        records.NUM_EXAMPLES: data.num_events,
        records.DEVICE_ID: data.device_ids,
        "context-id": context_id.astype(np.int64),
        "is-shift": is_shift.astype(np.int64),
    }
