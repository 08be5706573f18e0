"""The registry of reference lines on video, which need places that are known."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.registry import Registry
from cdc_flower.core.stream import SegmentBatch, TruthReader
from cdc_flower.tasks.protocol import ReferenceFacts
from cdc_flower.tasks.video.moving_digits import DrawnClips
from cdc_flower.tasks.video.stream import VideoStream
from cdc_flower.training.cloud import Cloud

#: A batch -> a logit of each candidate ``[T, C]``.
Line = Callable[[SegmentBatch], NDArray[np.float32]]


@dataclass(frozen=True)
class Known(TruthReader):
    """Holds all that a reference line may know.

    Attributes:
        stream: Of the devices.
        train: Trains the cloud, or gives it where it is trained.
    """

    stream: VideoStream
    train: Callable[[], Cloud]

    @property
    def clips(self) -> DrawnClips:
        """Gives the clips, which know their places.

        Raises:
            UserError: If nobody knows where they were taken.
        """
        found = self.stream.table.clips
        if not isinstance(found, DrawnClips):
            raise UserError("references need data whose places are known, such as moving_digits")
        return found


#: Functions of what is known that make a :data:`Line`.
references: Registry[Callable[..., object], ReferenceFacts] = Registry(
    "reference", "video_references", ReferenceFacts, "cdc_flower.tasks.video.references"
)
