"""Embedded video: devices that move between places; see ``tasks/video/moving_digits.py``."""

from dataclasses import dataclass
from typing import ClassVar

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import option
from cdc_flower.tasks.data.registry import SHIFTS, DataOptions, data

#: Devices where the configuration leaves it open.
NUM_DEVICES = 100


@data.register("moving_digits", gives="clips", knows_law=True)
@dataclass(frozen=True, kw_only=True)
class DigitsOptions(DataOptions):
    """Options of devices that move between places.

    Raises:
        UserError: If a value is out of its range.
    """

    builder: ClassVar[str] = "cdc_flower.tasks.video.moving_digits:stream_of"
    name: str = option("moving_digits", doc="of the data")
    shift: str = option("abrupt", choices=SHIFTS, doc="kind of shift; places do not blend")
    period: int = option(4, least=1, doc="segments between two shifts")
    clips_per_segment: int = option(8, least=1, doc="each with one question or caption")
    history_segments: int = option(18, least=1, doc="labelled segments before the stream")
    num_frames: int = option(3, least=1, doc="of a clip")
    num_contexts: int = option(3, least=1, neutral=1, doc="places among which a device moves")
    num_places: int = option(12, least=1, doc="places of all devices")
    num_namings: int = option(
        12, least=1, neutral=1, doc="ways to name digits and directions; 1: all places name alike"
    )
    unseen_from: int | None = option(
        None,
        least=0,
        doc="segment from which on devices are at places that no historical clip shows; "
        "null: never",
    )
    systematic: float = option(
        0.0,
        least=0,
        most=1,
        neutral=0,
        doc="share of places whose names and mirrors follow from their light; 0: all by chance",
    )
    white_balance: float = option(
        0.0,
        least=0,
        most=1,
        neutral=0,
        doc="how far cameras take the light out of the picture after the clip that a segment opens "
        "with; 1: only that clip shows it",
    )
    noise: float = option(0.06, least=0, neutral=0, doc="of cameras, as a share of white")
    flicker: float = option(0.8, least=0, neutral=0, doc="of the light from frame to frame")
    mix: float = option(
        0.7, least=0, neutral=0, doc="how much digits, motions and questions differ in frequency"
    )
    identical_frames: bool = option(False, doc="whether every frame of a clip is its first one")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_contexts > self.num_places:
            raise UserError(
                f"data.num_contexts must be <= data.num_places = {self.num_places}, "
                f"got {self.num_contexts}"
            )
