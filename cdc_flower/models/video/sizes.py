"""Device models for video by name: one encoder, in sizes that a configuration gives."""

from dataclasses import dataclass

from cdc_flower.core.options import check_options, option
from cdc_flower.models.registry import models
from cdc_flower.models.video.clips import Clips
from cdc_flower.models.video.ranking import VideoModel, VideoQA, VideoRetrieval


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """Sizes of a device model for video."""

    name: str = option("", doc="of the model")
    width: int = option(48, least=1, doc="of tokens, and of what the cloud is told")
    depth: int = option(1, least=1, doc="blocks; the last one is for the pooled token alone")
    heads: int = option(4, least=1, doc="of attention; they divide the width")
    patch: int = option(8, least=1, doc="side of a patch in pixels; it divides that of a frame")
    stem: int = option(64, least=1, doc="width between the two maps of a patch")
    projection: int = option(96, least=1, doc="inputs of the adaptive layer")
    match_width: int = option(
        32, least=1, doc="of the space in which clips and captions meet (video_retrieval)"
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.width % self.heads:
            raise ValueError(f"heads must divide the width {self.width}, got {self.heads}")


@models.register(
    "video_all_in_one_ti", reads="clips", given=("clips", "num_answers"), options=VideoOptions
)
@models.register("video_tiny", reads="clips", given=("clips", "num_answers"), options=VideoOptions)
def video_model(
    clips: Clips, num_answers: int, *, match_width: int = 32, **sizes: int
) -> VideoModel:
    """Makes the model that answers questions about clips, or the one that finds them by captions.

    Args:
        clips: The clips and queries of all devices.
        num_answers: To choose from; 0 where clips are searched.
        match_width: Of the space in which clips and captions meet.
        sizes: The other options.
    """
    if num_answers:
        return VideoQA(clips, num_answers, **sizes)
    return VideoRetrieval(clips, match_width, **sizes)
