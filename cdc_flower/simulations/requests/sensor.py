"""What a device knows of its own data without a label: how its recent items or clips look to the deployed model."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from cdc_flower.core.saveable import (
    ANY,
    Arrays,
    Saveable,
    Saved,
    part_of,
    prefixed,
    taken,
)
from cdc_flower.core.stream import Stream
from cdc_flower.models.layers import Parameters
from cdc_flower.models.video.ranking import CLIPS_PER_CHUNK, VideoModel
from cdc_flower.tasks.video.stream import VideoStream

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
#: Weight of the past in the running mean that a new item is compared with.
MEMORY = 0.9


class Sensor(Saveable, Protocol):
    """Statistics of devices before a segment starts."""

    def surprises(self, device_ids: Ints, segment: int) -> list[list[float]]:
        """For each device what is new since the segment before: how far each thing is from those before it."""


class HistorySensor:
    """The recent items of devices.

    Args:
        stream: The devices' data.
        embedding: ``[num_items + 1, d]``, of the deployed model.
    """

    def __init__(self, stream: Stream, embedding: NDArray[np.float32]) -> None:
        self.stream, self.embedding = stream, embedding
        self._directions = directions(embedding)
        self._past = Past()

    def pooled(self, device_ids: Ints, segment: int) -> NDArray[np.float32]:
        """The mean embedding of the items in each history; padding does not count."""
        return pool(self.embedding, self.stream.recent(device_ids, segment))

    def surprises(self, device_ids: Ints, segment: int) -> list[list[float]]:
        """1 − cosine of each new item and the running mean of those before it. At most a history's length is known."""
        recent = self.stream.recent(device_ids, segment)
        num_new = (
            self.stream.num_events(device_ids, segment - 1) if segment else (recent != 0).sum(1)
        )
        out = []
        for device, items, new in zip(device_ids.tolist(), recent, num_new.tolist(), strict=True):
            known = items[items != 0]
            out.append(
                self._past.surprises(device, self._directions[known[max(0, len(known) - new) :]])
            )
        return out

    def to_arrays(self) -> Arrays:
        """Takes the running means."""
        return self._past.to_arrays()

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on from saved running means."""
        self._past.from_arrays(arrays)


class ClipSensor:
    """The clips of devices, as the deployed stem sees them: the mean over the frames, in standard units.

    Args:
        stream: The devices' data.
        model: Of the devices; ``static``: its deployed layers.
        known: Historical clips ``[k]`` of the cloud, which give mean and scale of each feature: two
            numbers of each are deployed with the model. Without them clips differ less than they
            have in common.
    """

    def __init__(
        self, stream: VideoStream, model: VideoModel, static: Parameters, known: Ints
    ) -> None:
        self.stream, self.model, self.static = stream, model, static
        self._mean, self._scale = np.float32(0), np.ones(model.width, np.float32)
        features = self.features(known)
        self._mean, self._scale = features.mean(0), np.maximum(features.std(0), 1e-6)
        self._next: dict[int, int] = {}  # device -> the first query that it has not counted yet
        self._past = Past()

    def surprises(self, device_ids: Ints, segment: int) -> list[list[float]]:
        """1 − cosine of each new clip and the running mean of those before it.

        The newest is the one that the segment opens with; in the first segment the historical clips
        are new too.
        """
        _, opening = self.stream.opening(device_ids, segment)
        out = []
        for device, last in zip(device_ids.tolist(), opening.tolist(), strict=True):
            first = self._next.get(device, int(self.stream.table.bounds[device, 0]))
            queries = np.arange(first, last + 1)
            self._next[device] = max(first, last + 1)
            clip_ids = np.array(
                list(dict.fromkeys(self.model.clips.clip_of(queries).tolist())), np.int64
            )
            out.append(self._past.surprises(device, directions(self.features(clip_ids))))
        return out

    def to_arrays(self) -> Arrays:
        """Takes the running means, and up to where each device has counted."""
        counted = {device: np.array(first, np.int64) for device, first in self._next.items()}
        return {**self._past.to_arrays(), **prefixed("next", device_rows(counted))}

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on from saved running means."""
        self._past.from_arrays(arrays)
        counted = rows_of_devices(part_of(arrays, "next"))
        self._next = {device: int(first) for device, first in counted.items()}

    @torch.no_grad()
    def features(self, clip_ids: Ints) -> NDArray[np.float32]:
        """``[k, d]``, the mean feature of the frames of each clip, in standard units."""
        parts = [
            self.model.frame_features(self.static, self.model.frames(part)).mean(1)
            for part in torch.from_numpy(clip_ids).split(CLIPS_PER_CHUNK)
        ]
        return np.asarray((torch.cat(parts).numpy() - self._mean) / self._scale, np.float32)


class Past:
    """A running mean of the directions that each device has seen."""

    def __init__(self) -> None:
        self._mean: dict[int, NDArray[np.floating]] = {}

    def surprises(self, device: int, new: NDArray[np.floating]) -> list[float]:
        """1 − cosine of each new direction ``[k, d]`` and the mean of those before it."""
        values, mean = [], self._mean.get(device)
        for direction in new:
            if mean is None:
                mean = direction
            norm = float(np.linalg.norm(mean))
            values.append(1.0 - float(direction @ mean) / norm if norm > 0 else 0.0)
            mean = MEMORY * mean + (1 - MEMORY) * direction
        if mean is not None:
            self._mean[device] = mean
        return values

    def to_arrays(self) -> Arrays:
        """Takes the mean of each device."""
        return device_rows(self._mean)

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on from saved means."""
        self._mean = rows_of_devices(arrays)


def device_rows(values: Mapping[int, NDArray[Any]]) -> Arrays:
    """Holds an array of each of some devices, in their order: ids ``[k]`` and rows ``[k, ...]``."""
    rows = {"rows": np.stack([*values.values()])} if values else {}
    return {"device_ids": np.array([*values], np.int64), **rows}


def rows_of_devices(arrays: Saved) -> dict[int, NDArray[Any]]:
    """Reads what :func:`device_rows` holds."""
    device_ids = taken(arrays, "device_ids", np.int64, (ANY,)).tolist()
    rows = taken(arrays, "rows") if device_ids else np.empty(0)
    return dict(zip(device_ids, rows, strict=True))


def directions(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """``[k, d]`` of length one, but for zeros."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1), np.float32)


def pool(embedding: NDArray[np.float32], history: NDArray[np.int32]) -> NDArray[np.float32]:
    """Histories ``[B, L]`` -> mean embeddings of their items ``[B, d]``; zeros for an empty one."""
    counts = (history != 0).sum(1)
    total = np.where((history != 0)[..., None], embedding[history], 0).sum(1)
    return np.asarray(total / np.maximum(counts, 1)[:, None], np.float32)
