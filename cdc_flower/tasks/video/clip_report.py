"""Reports a clip to the cloud: all frames or one anchor frame, as pixels or as features.

A form is ``raw`` (the numbers of a frame: uint8 pixels, or float32 where the stream has features),
``png`` or ``jpeg`` (bytes of a real encoder), or ``feature`` (what the device's own static layers
make of a frame).
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.core.seeds import hashed_integers
from cdc_flower.devices.task import Columns
from cdc_flower.models.layers import Parameters
from cdc_flower.models.video.ranking import VideoModel
from cdc_flower.wire import records

WHAT, FORMS, ANCHORS = (
    ("anchor", "frames"),
    ("raw", "png", "jpeg", "feature"),
    ("middle", "first", "random", "medoid"),
)
#: Settings that are deployed with the model, and keys of the report.
REPORT_WHAT, REPORT_FORM, REPORT_ANCHOR = "report-what", "report-form", "report-anchor"
FRAMES, FEATURES, PICTURE = records.FRAMES, "features", "picture-"
JPEG_QUALITY = 90


@dataclass(frozen=True)
class ClipReport:
    """Configures how a clip is told.

    Args:
        what: ``anchor``, one frame; or ``frames``, all of them.
        form: ``raw``, ``png``, ``jpeg`` or ``feature``.
        anchor: Which frame: ``middle``, ``first``, ``random``, or ``medoid``, the one whose
            features are nearest to those of the others.

    Raises:
        ValueError: If a value is unknown.
    """

    what: str = "anchor"
    form: str = "raw"
    anchor: str = "middle"

    def __post_init__(self) -> None:
        """Checks the values."""
        for name, known in (("what", WHAT), ("form", FORMS), ("anchor", ANCHORS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
                )

    @staticmethod
    def from_settings(settings: Mapping[str, object]) -> "ClipReport":
        """Reads it from what was deployed; without, all frames as they are, as DUET reads them."""
        return ClipReport(
            str(settings.get(REPORT_WHAT, "frames")),
            str(settings.get(REPORT_FORM, "raw")),
            str(settings.get(REPORT_ANCHOR, "middle")),
        )

    def to_settings(self) -> dict[str, bool | int | float | str]:
        """Gives it as a Flower configuration."""
        return {REPORT_WHAT: self.what, REPORT_FORM: self.form, REPORT_ANCHOR: self.anchor}

    @torch.no_grad()
    def make(
        self, model: VideoModel, static: Parameters, clip_ids: NDArray[np.int64], seed: int
    ) -> tuple[Columns, Columns]:
        """Makes the report on clips ``[n]``, and counts the work of the device.

        Args:
            model: Of the devices.
            static: Its static layers.
            clip_ids: ``[n]``.
            seed: Of the run.

        Raises:
            ValueError: If pixels are to be encoded and the clips are features.
        """
        frames = model.clips.frames(clip_ids)
        features: Tensor | None = None
        if self.form == "feature" or (self.what == "anchor" and self.anchor == "medoid"):
            features = model.frame_features(static, torch.from_numpy(frames))
        if self.what == "anchor":
            chosen = choose(self.anchor, features, clip_ids, model.clips.num_frames, seed)[:, None]
        else:
            chosen = np.broadcast_to(np.arange(model.clips.num_frames), frames.shape[:2])
        rows = np.arange(len(clip_ids))[:, None]
        if self.form == "feature":
            assert features is not None
            report: Columns = {FEATURES: features.numpy()[rows, chosen]}
        elif self.form == "raw":
            report = {FRAMES: frames[rows, chosen]}
        else:
            if not model.encoder.has_pixels:
                raise ValueError(
                    f"form must be raw or feature where clips are features, got {self.form!r}"
                )
            report = encoded(frames[rows, chosen], self.form)
        if features is None:
            return report, {}
        return report, {
            records.FLOPS: np.full(len(clip_ids), model.frame_flops() * frames.shape[1])
        }


def choose(
    anchor: str, features: Tensor | None, clip_ids: NDArray[np.int64], num_frames: int, seed: int
) -> NDArray[np.int64]:
    """Chooses the anchor frame of each clip ``[k]``; of two in the middle it is the later one.

    Args:
        anchor: Way of choosing; see :class:`ClipReport`.
        features: ``[k, n, d]`` of the frames, where the choice needs them.
        clip_ids: ``[k]``.
        num_frames: ``n``, of a clip.
        seed: Of the run.
    """
    if anchor == "random":
        return hashed_integers(seed, "anchor", clip_ids, high=num_frames)
    if anchor == "medoid":
        assert features is not None
        return torch.cdist(features, features).sum(-1).argmin(-1).numpy()
    return np.full(len(clip_ids), num_frames // 2 if anchor == "middle" else 0)


def encoded(frames: NDArray[np.uint8], form: str) -> Columns:
    """Packs frames ``[n, m, height, width, 3]`` as ``picture-0``, ``picture-1``, ... in bytes.

    Each is an object array ``[n]`` of uint8 arrays.
    """
    from PIL import Image

    report: Columns = {}
    options = {"quality": JPEG_QUALITY} if form == "jpeg" else {}
    for index in range(frames.shape[1]):
        texts = np.empty(len(frames), object)
        for row, picture in enumerate(frames[:, index]):
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, form.upper(), **options)
            texts[row] = np.frombuffer(buffer.getvalue(), np.uint8)
        report[f"{PICTURE}{index}"] = texts
    return report


def decoded(text: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``[height, width, 3]`` from the bytes of a picture."""
    from PIL import Image

    with Image.open(io.BytesIO(text.tobytes())) as picture:
        return np.asarray(picture.convert("RGB"))


def is_picture(text: NDArray[np.uint8], shape: tuple[int, ...]) -> bool:
    """Tells whether bytes are a picture of this shape ``(height, width, 3)``, whatever they are."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(text.tobytes())) as picture:
            is_small = picture.size == (shape[1], shape[0])  # in its header: nothing is decoded yet
        return is_small and decoded(text).shape == shape
    except Exception:  # of many classes; see docs/decisions.md
        return False


@torch.no_grad()
def read_report(model: VideoModel, static: Parameters, report: Mapping[str, NDArray]) -> Tensor:
    """Reads reports ``[n, ...]`` in the cloud: features ``[n, m, d]`` of the frames that were told.

    Args:
        model: Of the devices.
        static: Its static layers.
        report: Arrays ``[n, ...]`` by name.

    Raises:
        ValueError: If the report holds no frame.
    """
    if FEATURES in report:
        return torch.from_numpy(np.array(report[FEATURES]))
    if FRAMES in report:
        frames = np.array(report[FRAMES])
    else:
        names = sorted(
            (name for name in report if name.startswith(PICTURE)),
            key=lambda name: int(name[len(PICTURE) :]),
        )
        if not names:
            raise ValueError(
                "a report must hold frames, features or pictures, "
                f"got {', '.join(report) or 'nothing'}"
            )
        columns = [[decoded(text) for text in report[name]] for name in names]
        frames = np.stack([np.stack(pictures) for pictures in columns], 1)
    parts = torch.from_numpy(frames).split(256)
    return torch.cat([model.frame_features(static, part) for part in parts])
