"""Real videos with published questions or captions; see ``tasks/video/annotated.py``."""

from dataclasses import dataclass
from typing import ClassVar

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.core.options import option
from cdc_flower.tasks.data.registry import DataOptions, data


@data.register("video_annotations", gives="clips", key="annotations")
@dataclass(frozen=True, kw_only=True)
class ClipFileOptions(DataOptions):
    """Options of reading annotated videos.

    Raises:
        UserError: If a value is out of its range.
    """

    builder: ClassVar[str] = "cdc_flower.tasks.video.annotated:stream_of"
    name: str = option("video_annotations", doc="of the data")
    format: str = option(doc="of the annotations")
    annotations: str = option(doc="folder of the annotation files")
    features: str | None = option(
        None, doc="folder, or one archive, of features by video (.npy, .npz, HDF5, .pt)"
    )
    videos: str | None = option(None, doc="or a folder of video files")
    msvd: str | None = option(None, doc="folder of MSVD with its names and captions")
    root: str | None = option(None, doc="folder of which other paths are made")
    split: str = option(
        "new_questions",
        choices=("new_questions", "new_clips"),
        doc="new questions about known clips, or the clips of the test split",
    )
    splits: tuple[str, ...] = option(("train", "val", "test"), doc="annotation files to read")
    num_frames: int = option(3, least=1, doc="of a clip, spread evenly over its time")
    size: int = option(32, least=8, doc="side of a frame in pixels, for video files")
    clips_per_device: int = option(4, least=1, doc="with new_questions")
    historical_fraction: float = option(
        0.6, above=0, below=1, doc="share of a clip's questions, with new_questions"
    )
    max_answers: int = option(1000, least=1, doc="the most frequent; any other is never right")
    max_words: int = option(16, least=1, doc="of a question; the rest is cut off")
    gallery: int = option(20, least=1, doc="clips among which a caption searches")
    on_error: str = option(
        "raise", choices=("raise", "skip"), doc="skip leaves out what cannot be used, and counts it"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.features is None) == (self.videos is None):
            raise UserError("data: one of data.features and data.videos must be given")
        from cdc_flower.tasks.video.annotations import FORMATS, SPLITS

        if self.format not in FORMATS:
            raise unknown_name("annotation format", self.format, FORMATS, "data.format")
        for split in self.splits:
            if split not in SPLITS:
                raise unknown_name("split", split, SPLITS, "data.splits")
