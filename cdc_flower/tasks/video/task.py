"""Video tasks: devices tell an anchor frame of their newest clip, and answer or find clips."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.registry import Registry
from cdc_flower.core.stream import SegmentBatch, TruthReader
from cdc_flower.devices.state import DeviceStates
from cdc_flower.devices.task import Columns
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.registry import model_of
from cdc_flower.models.video.ranking import VideoModel
from cdc_flower.tasks.data import StreamShape, data_of
from cdc_flower.tasks.protocol import (
    Bounds,
    Built,
    Config,
    Deployed,
    ReferenceFacts,
    Task,
    facts_of,
)
from cdc_flower.tasks.recommendation.metrics import WORST_LOSS, ranks, worst_for_nan
from cdc_flower.tasks.registry import tasks
from cdc_flower.tasks.sensing import Ask
from cdc_flower.tasks.video.clip_report import PICTURE, ClipReport, is_picture
from cdc_flower.tasks.video.doubt import NUM_ANSWERS, OwnAnswers, entropy, held_out_doubts
from cdc_flower.tasks.video.references import Known, references
from cdc_flower.tasks.video.references.frames import reference_frames
from cdc_flower.tasks.video.sensor import ClipSensor
from cdc_flower.tasks.video.stream import VideoHistory, VideoStream
from cdc_flower.training.cloud import Cloud
from cdc_flower.training.scoring import Arrays, Scorer, tensors
from cdc_flower.wire import records

if TYPE_CHECKING:
    import pandas as pd


class VideoTask(Task, TruthReader):
    """Reports a clip, and ranks answers or clips: the base of question answering and retrieval."""

    tells = frozenset({records.FRAMES})
    references: ClassVar[Registry[Callable[..., object], ReferenceFacts]] = references
    #: Whether clips are searched by captions.
    captions: ClassVar[bool] = False

    @classmethod
    def check(cls, config: Config) -> None:
        """Refuses to hold out the last event of each device.

        Raises:
            UserError: If the configuration says so.
        """
        validation = config["cloud"]["validation"]
        if validation != "devices":
            raise UserError(
                f"cloud.validation must be devices with task={config['task']}, got {validation}"
            )

    @classmethod
    def build(cls, config: Config) -> Built:
        """Reads or draws clips and queries, and makes the model that ranks for them.

        Raises:
            UserError: If a value does not fit the data, or a file is missing or damaged.
        """
        shape = StreamShape(
            config["num_segments"],
            config["seed"],
            config["fleet"]["num_devices"],
            captions=cls.captions,
        )
        stream: VideoStream = data_of(config["data"]).stream(shape)
        table = stream.table
        model = model_of(config["model"], clips=table.clips, num_answers=table.num_answers)
        return Built(stream, model, cls.of(stream))

    @classmethod
    @abstractmethod
    def of(cls, stream: VideoStream) -> "VideoTask":
        """Makes the task for the queries of a stream."""

    def report(
        self,
        model: DeviceModel,
        stream: VideoStream,
        states: DeviceStates,
        segment: int,
        lag: int = 0,
    ) -> tuple[Columns, Columns]:
        """Tells the newest clip of devices as their settings say; see :meth:`Task.report`.

        Args:
            model: For video.
            stream: With the clips of devices.
            states: Of the ``n`` devices, with these settings.
            segment: Which one starts.
            lag: Queries by which the report is earlier. 0 is the present.
        """
        assert isinstance(model, VideoModel)
        how = ClipReport.from_settings(states.settings)
        clip_ids, _ = stream.opening(states.device_ids, segment, lag)
        static = {name: torch.from_numpy(np.array(value)) for name, value in states.static.items()}
        return how.make(model, static, clip_ids, stream.seed)

    def uncertainty(
        self, model: DeviceModel, stream: VideoStream, states: DeviceStates, segment: int
    ) -> NDArray[np.float64]:
        """Computes the mean entropy ``[n]`` of the newest answers, in nats.

        None of the segment has been asked yet.

        Args:
            model: For video.
            stream: With the queries of devices.
            states: Of the ``n`` devices.
            segment: Which one starts.
        """
        history, candidates = stream.asked(states.device_ids, segment, NUM_ANSWERS)
        scorer = Scorer(model, states.static, [states.pool])
        logits = scorer.score(np.repeat(states.in_use, NUM_ANSWERS), history, candidates)
        return entropy(logits).reshape(-1, NUM_ANSWERS).mean(1)

    def bounds(self, stream: VideoStream) -> Bounds:
        table = stream.table
        ids = {records.WORDS: table.clips.num_words - 1}
        if table.num_answers:
            ids[records.CANDIDATES] = table.num_answers - 1
        return Bounds(ids=ids)

    def can_be_read(self, stream: VideoStream, key: str, runs: NDArray) -> NDArray[np.bool_]:
        """Tells which pictures of reports are pictures of the clips' size.

        Args:
            stream: With the size of frames.
            key: Of the report; pictures are encoded under one key alone.
            runs: ``[n, L]``, encoded pictures.
        """
        if not key.startswith(PICTURE):
            return super().can_be_read(stream, key, runs)
        shape = stream.table.clips.frame_shape
        return np.array([is_picture(text, shape) for text in runs], np.bool_)

    def sensor(self, stream: VideoStream, cloud: Cloud, deployed: Arrays) -> ClipSensor:
        """Makes statistics of what clips of devices look like, against those of history.

        Args:
            stream: Of the devices.
            cloud: With the model and the historical clips.
            deployed: Layers of the model before the first round.
        """
        model = video_model_of(cloud)
        historical = np.unique(model.clips.clip_of(video_history(cloud.train).queries))
        return ClipSensor(stream, model, tensors(deployed), historical)

    def doubt_estimate(
        self, stream: VideoStream, cloud: Cloud, strategy: Deployed, epochs: int, ask: Ask
    ) -> OwnAnswers:
        """Takes the entropy of the devices' own answers; nothing is trained.

        Args:
            stream: Not read.
            cloud: With the model and held-out queries, whose doubts set the scale.
            strategy: Prepared.
            epochs: Not read.
            ask: Asks devices.
        """
        held_out = video_history(cloud.validation)
        doubts = held_out_doubts(video_model_of(cloud), strategy.deployment(), held_out)
        return OwnAnswers(doubts, ask)

    def reference_rows(
        self,
        names: Sequence[str],
        stream: VideoStream,
        labels: Mapping[str, str | float],
        train: Callable[[], Cloud],
    ) -> Iterator["pd.DataFrame"]:
        """Scores reference lines on the whole stream; see :meth:`Task.reference_rows`.

        Args:
            names: Of the lines.
            stream: Of the devices.
            labels: Of the rows, without ``strategy``.
            train: Gives the trained cloud.
        """
        return reference_frames(self, names, Known(stream, train), labels)


def video_model_of(cloud: Cloud) -> VideoModel:
    """Gives the device model of a cloud that is trained on video.

    Raises:
        TypeError: If the model is another.
    """
    if not isinstance(cloud.model, VideoModel):
        raise TypeError(f"model must be one for video, got {type(cloud.model).__name__}")
    return cloud.model


def video_history(history: object) -> VideoHistory:
    """Gives a history that is one of clips.

    Raises:
        TypeError: If it is another.
    """
    if not isinstance(history, VideoHistory):
        raise TypeError(f"history must be of clips, got {type(history).__name__}")
    return history


def true_ranks(scores: NDArray[np.float32], true_column: NDArray[np.int64]) -> NDArray[np.float64]:
    """Ranks the true candidate ``[T]``: 1 is the top, ties count by half.

    A score that is no number counts as the worst.

    Args:
        scores: ``[T, C]``.
        true_column: ``[T]``.
    """
    scores, _ = worst_for_nan(np.asarray(scores, np.float32), true_column)
    return ranks(scores, scores[np.arange(len(scores)), true_column])


@tasks.register("video_qa", reads="clips", is_companion=True, shows_exchange=True)
class VideoAnswers(VideoTask):
    """Measures accuracy of the highest answer, over all questions and by type, and the log loss.

    Args:
        kinds: Names of the types of questions, which ``SegmentBatch.kind`` counts.
        has_unseen: Whether answer 0 stands for all that the device model does not know. Questions
            with such a true answer are never answered rightly, and the log loss leaves them out.
    """

    def __init__(self, kinds: Sequence[str], has_unseen: bool = False) -> None:
        self.has_unseen = has_unseen
        self.metrics = ("accuracy", "log_loss", *(f"accuracy: {kind}" for kind in kinds))
        self._num_kinds = len(kinds)

    @classmethod
    def of(cls, stream: VideoStream) -> "VideoAnswers":
        """Makes the task for the questions of a stream."""
        return cls(stream.table.kinds, stream.table.has_unseen)

    def bounds(self, stream: VideoStream) -> Bounds:
        values = {name: WORST_LOSS if name == "log_loss" else 1.0 for name in self.metrics}
        return replace(super().bounds(stream), values=values)

    def score(self, logits: NDArray[np.float32], data: SegmentBatch) -> tuple[Columns, Columns]:
        true_column, context_id, is_shift = data.truth.read(self)
        n, row = len(data.device_ids), data.row
        is_told = (true_column != 0) | (not self.has_unseen)
        is_right = (true_ranks(logits, true_column) == 1) & is_told
        exact = logits.astype(np.float64)
        with np.errstate(invalid="ignore"):  # of scores that are not finite
            loss = np.logaddexp.reduce(exact, 1) - exact[np.arange(len(row)), true_column]
        loss = np.minimum(np.nan_to_num(loss, nan=np.inf, posinf=np.inf), WORST_LOSS)
        num_events = np.bincount(row, minlength=n).astype(np.float64)
        kind: NDArray[np.int64] = data.kind  # type: ignore[attr-defined]
        cell, size = row * self._num_kinds + kind, n * self._num_kinds
        right_of = np.bincount(cell, is_right, size).reshape(n, -1)
        asked_of = np.bincount(cell, minlength=size).reshape(n, -1).astype(np.float64)
        value_sum = np.column_stack(
            [
                np.bincount(row, is_right, n),
                np.bincount(row, np.where(is_told, loss, 0.0), n),
                right_of,
            ]
        )
        value_count = np.column_stack([num_events, np.bincount(row, is_told, n), asked_of])
        sums = {"value-sum": value_sum, "value-count": value_count}
        return {**facts_of(data, context_id, is_shift), **sums}, {}


@tasks.register("video_retrieval", reads="clips", shows_exchange=True)
class VideoSearch(VideoTask):
    """Measures R@1, R@5, R@10, mean and median rank of the clip that a caption describes.

    It is ranked among the clips of its gallery. The median is that over the queries of all devices
    of a segment, and a mean of those over segments.
    """

    captions: ClassVar[bool] = True
    metrics: tuple[str, ...] = ("r@1", "r@5", "r@10", "mean_rank")
    pooled: tuple[str, ...] = ("median_rank",)

    @classmethod
    def of(cls, stream: VideoStream) -> "VideoSearch":
        """Makes the task; all captions are of one kind."""
        return cls()

    def bounds(self, stream: VideoStream) -> Bounds:
        values = {name: float(name != "mean_rank") for name in self.metrics}
        values["mean_rank"] = float(stream.table.clips.num_clips)
        return replace(super().bounds(stream), values=values)

    def score(self, logits: NDArray[np.float32], data: SegmentBatch) -> tuple[Columns, Columns]:
        true_column, context_id, is_shift = data.truth.read(self)
        n, row = len(data.device_ids), data.row
        rank = true_ranks(logits, true_column)
        columns = [*(rank <= k for k in (1, 5, 10)), rank]
        num_events = np.bincount(row, minlength=n).astype(np.float64)
        most = int(data.num_events.max()) if n else 0
        each = np.full((n, most), np.nan, np.float32)
        each[row, data.slot] = rank
        sums = {
            "value-sum": np.stack([np.bincount(row, column, n) for column in columns], 1),
            "value-count": np.repeat(num_events[:, None], len(columns), 1),
        }
        return {**facts_of(data, context_id, is_shift), **sums}, {"rank": each}

    def pool(
        self, scores: Columns, points: Columns
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        count = np.asarray(scores[records.NUM_EXAMPLES], np.float64)[:, None]
        rank = points["rank"]
        if not np.isfinite(rank).any():
            return np.zeros_like(count), np.zeros_like(count)
        return float(np.nanmedian(rank)) * count, count
