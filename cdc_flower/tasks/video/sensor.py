"""Statistics that a device keeps of its clips: how they look to the deployed model."""

import numpy as np
import torch
from numpy.typing import NDArray

from cdc_flower.core.saveable import Arrays, Saved, part_of, prefixed
from cdc_flower.models.layers import Parameters
from cdc_flower.models.video.ranking import CLIPS_PER_CHUNK, VideoModel
from cdc_flower.tasks.sensing import Ints, Past, device_rows, directions, rows_of_devices
from cdc_flower.tasks.video.stream import VideoStream


class ClipSensor:
    """Compares the clips of devices as the deployed stem sees them.

    A clip is the mean over its frames, in standard units.

    Args:
        stream: The devices' data.
        model: Of the devices.
        static: Its deployed layers.
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
        """Measures 1 − cosine of each new clip and the running mean of those before it.

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
        """Takes ``[k, d]``, the mean feature of the frames of each clip, in standard units."""
        parts = [
            self.model.frame_features(self.static, self.model.frames(part)).mean(1)
            for part in torch.from_numpy(clip_ids).split(CLIPS_PER_CHUNK)
        ]
        return np.asarray((torch.cat(parts).numpy() - self._mean) / self._scale, np.float32)
