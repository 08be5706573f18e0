"""Frames of video files as pixels, by PyAV: those that a player shows, the way up it shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.opening.damage import DamagedFile, whole
from cdc_flower.core.opening.places import existing, files_in
from cdc_flower.tasks.video.clip_names import PREFIX, VIDEO_SUFFIXES, aliases, by_name
from cdc_flower.tasks.video.containers import is_cut_off
from cdc_flower.tasks.video.orientation import shown
from cdc_flower.tasks.video.problems import Problems
from cdc_flower.tasks.video.reading import nothing_found

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

KEY = "data.videos"
KIND = "video file"
MOST_BYTES = 2**32  # of a clip
MOST_PIXELS = 2**26  # of a frame
#: Ticks of the clock between frames from which rounding to ticks does not hide a steady rate.
_FINE = 3
_STILLS = ("bmp", "mjpeg", "png", "tiff", "webp")  # covers are coded so
TICKS_PER_SECOND = 1_000_000  # of the duration of a container
_SLACK_S = 0.5  # by which sound or words may end before the container says


def spread_over(num_rows: int, num_frames: int) -> NDArray[np.int64]:
    """``[num_frames]`` rows, evenly spread: the middle of each of as many equal parts."""
    return ((np.arange(num_frames) + 0.5) * num_rows / num_frames).astype(np.int64)


def spread_in_time(times: list[int | None], last: int, num_frames: int) -> NDArray[np.int64]:
    """``[num_frames]`` rows: those shown in the middle of each of as many equal parts of the time.

    At a steady rate they are :func:`spread_over`, and also where times are missing or do not rise,
    as in some AVI files.

    Args:
        times: When each frame begins, in ticks of any clock.
        last: Ticks that the last one lasts; 0: as long as the others on average.
        num_frames: To choose.
    """
    known = [time for time in times if time is not None]
    gaps = [later - earlier for earlier, later in pairwise(known)]
    if len(known) < len(times) or min(gaps, default=0) <= 0 or _is_steady(known, gaps):
        return spread_over(len(times), num_frames)
    start = known[0]
    length = Fraction(known[-1] - start) + (last or Fraction(known[-1] - start, len(gaps)))
    middles = [
        start + length * Fraction(2 * part + 1, 2 * num_frames) for part in range(num_frames)
    ]
    return np.array([sum(time <= middle for time in known) - 1 for middle in middles])


def _is_steady(times: list[int], gaps: list[int]) -> bool:
    """Tells whether frames follow one another evenly, but for rounding to ticks."""
    if max(gaps) == min(gaps):
        return True
    rate = Fraction(times[-1] - times[0], len(gaps))
    return min(gaps) >= _FINE and all(
        abs(time - times[0] - rate * number) <= 1 for number, time in enumerate(times)
    )


def read_videos(
    path: str, names: list[str], num_frames: int, size: int, problems: Problems
) -> dict[str, NDArray[np.uint8]]:
    """Decodes pixels ``[num_frames, size, size, 3]`` of the video files that are there.

    Args:
        path: A folder of video files.
        names: Of the videos, without the suffix.
        num_frames: Of a video, spread evenly over its time.
        size: Side of a frame in pixels.
        problems: What becomes of files that cannot be used.

    Raises:
        UserError: If PyAV or the folder is missing, or a file is truncated or no video.
    """
    place = existing(path, KEY, ("a folder",))
    there = files_in(place, KEY)
    files = by_name(there, VIDEO_SUFFIXES)
    found = {}
    for name in names:
        file = next((place / files[alias] for alias in aliases(name) if alias in files), None)
        if file is None:
            continue
        try:
            found[name] = decode(file, num_frames, size)
        except DamagedFile as error:
            problems.report("video file", str(error))
    if not found:
        raise nothing_found(
            f"{KEY} must hold at least one annotated video, NAME or {PREFIX}NAME "
            f"with {', '.join(VIDEO_SUFFIXES)}",
            path,
            there,
            names,
            problems,
        )
    return found


def decode(file: Path, num_frames: int, size: int) -> NDArray[np.uint8]:
    """Decodes frames ``[num_frames, size, size, 3]`` spread evenly in time, scaled to a square.

    Args:
        file: Of the video.
        num_frames: Spread evenly over it.
        size: Side of a frame in pixels.

    Raises:
        UserError: If PyAV is missing.
        DamagedFile: If the file is truncated or no video.
    """
    _check_installed()
    with whole(file, KIND):
        if file.stat().st_size > MOST_BYTES:
            raise DamagedFile(f"{file}: must have at most {MOST_BYTES:,} bytes")
        if is_cut_off(file):
            raise DamagedFile(
                f"{file}: must be a whole video file, got less than its own sizes say"
            )
        rows = _rows(file, num_frames)
        pictures: dict[int, NDArray[np.uint8]] = {}
        with _opened(file) as (container, stream):
            for row, frame in enumerate(container.decode(stream)):
                if row in rows:
                    pictures[row] = _picture(frame, size)
                if row == max(rows):
                    break
        return np.stack([pictures[row] for row in rows])


def _rows(file: Path, num_frames: int) -> list[int]:
    """Chooses frames of a video by their times; all are decoded to know that it is whole."""
    times: list[int | None] = []
    last = 0
    end = Fraction(0)
    with _opened(file) as (container, stream):
        for packet in container.demux():
            if packet.pts is not None and packet.time_base:
                end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
            if packet.stream.index != stream.index:
                continue
            for frame in stream.decode(packet):
                times.append(frame.pts)
                last = frame.duration or 0
        declared = stream.frames
        if container.format.name.startswith("mov"):
            # What an edit list leaves out is in the file to be decoded, not to be shown.
            declared = sum(not entry.is_discard for entry in stream.index_entries)
        missing_s = Fraction(container.duration or 0, TICKS_PER_SECOND) - end
        if container.format.name.startswith("matroska") and missing_s > _SLACK_S:
            raise DamagedFile(
                f"{file}: must be a whole video file, got {float(end):.1f} s "
                f"of {float(end + missing_s):.1f}"
            )
    if not times:
        raise DamagedFile(f"{file}: must hold at least one frame, got none")
    if len(times) < declared - 1:
        raise DamagedFile(
            f"{file}: must be a whole video file, got {len(times)} of {declared} frames"
        )
    return spread_in_time(times, last, num_frames).tolist()


@contextmanager
def _opened(file: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Opens a file at its video, which is no cover picture."""
    import av

    # No other file and no address that a file may name is opened.
    options = {"protocol_whitelist": "file"}
    with av.open(str(file), options=options, metadata_errors="replace") as container:
        yield container, _video_of(file, container)


def _video_of(file: Path, container: InputContainer) -> VideoStream:
    """Chooses the first video of a file, sooner one that is no series of single pictures."""
    streams = container.streams.video
    moving = [s for s in streams if not s.disposition & type(s.disposition).attached_pic]
    if not moving:
        kinds = sorted({s.type.replace("audio", "sound") for s in container.streams} - {"video"})
        got = [*kinds, *(["a cover picture"] if streams else [])]
        raise DamagedFile(f"{file}: must hold a video, got {' and '.join(got) or 'nothing'} alone")
    known = [stream for stream in moving if stream.codec_context is not None]
    if not known:
        raise DamagedFile(f"{file}: must hold a video whose coding PyAV knows")
    stream = min(known, key=lambda stream: stream.codec_context.name in _STILLS)
    _check_pixels(stream.codec_context.width, stream.codec_context.height)
    return stream


def _picture(frame: VideoFrame, size: int) -> NDArray[np.uint8]:
    """Scales a frame to a square, the way up that a player shows it."""
    from av.buffer import Buffer

    _check_pixels(frame.width, frame.height)
    pixels = frame.reformat(width=size, height=size, format="rgb24").to_ndarray()
    sides: Mapping[str, object] = frame.side_data
    data = sides.get("DISPLAYMATRIX")
    matrix = bytes(data) if isinstance(data, Buffer) else None
    return shown(
        pixels.astype(np.uint8, copy=False),
        None if matrix is None else np.frombuffer(matrix, np.int32),
    )


def _check_pixels(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise ValueError(f"{width} x {height} is over the limit of {MOST_PIXELS:,} pixels")


def _check_installed() -> None:
    if find_spec("av") is None:
        raise UserError("data.videos: video files need PyAV; pip install 'cdc-flower[video]'")
