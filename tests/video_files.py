"""Small video files made by PyAV, and changes of their bytes."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

av = pytest.importorskip("av", reason="pip install 'cdc-flower[video]'")

#: Height and width of a coded picture, and how much brighter each is than the one before.
SHAPE = (48, 64)
STEP = 9
#: Display matrices as files have them: 16 bits after the point, the last column 30.
ONE = 1 << 16


def picture(number: int) -> NDArray[np.uint8]:
    """Draws a picture: as bright as its number, with one corner of it white, another black."""
    pixels = np.full((*SHAPE, 3), 20 + STEP * number, np.uint8)
    pixels[:12, :16] = 255
    pixels[-12:, :16] = 0
    return pixels


def write_clip(
    path: Path,
    count: int = 24,
    times_ms: Sequence[int] | None = None,
    codec: str = "mpeg4",
    b_frames: int = 0,
) -> Path:
    """Writes a video of 12 pictures a second, or of pictures at times of their own.

    Args:
        path: Its suffix says the container.
        count: Of pictures.
        times_ms: When each begins; None: at a steady rate.
        codec: Of the pictures.
        b_frames: Pictures in a row that are coded by those on both sides.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=12)
        stream.height, stream.width = SHAPE
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.bit_rate = 2_000_000
        stream.codec_context.gop_size = 6
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            if times_ms is not None:
                frame.pts = times_ms[number]
                frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(path: Path, with_cover: bool) -> Path:
    """Writes a second of silence, with a cover picture or without one."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16_000)
        if with_cover:
            cover = container.add_stream("mjpeg", rate=1)
            cover.height, cover.width = SHAPE
            cover.pix_fmt = "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
            container.mux(cover.encode(av.VideoFrame.from_ndarray(picture(9), format="rgb24")))
            container.mux(cover.encode())
        for number in range(16):
            samples = np.zeros((1, 1024), np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate = 16_000
            frame.pts = 1024 * number
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    return path


def brightness(pixels: NDArray[np.uint8]) -> list[int]:
    """Tells the numbers of pictures by the brightness of their right half."""
    half = pixels[:, :, pixels.shape[2] // 2 :].mean((1, 2, 3))
    return [round(value) for value in (half - 20) / STEP]


def with_matrix(data: bytes, a: int, b: int, c: int, d: int) -> bytes:
    """Gives an MP4 file whose pictures are shown at x' = a x + c y and y' = b x + d y."""
    start = data.index(b"tkhd") + 4 + 40
    matrix = struct.pack(">9i", *(ONE * a, ONE * b, 0, ONE * c, ONE * d, 0, 0, 0, 1 << 30))
    return data[:start] + matrix + data[start + 36 :]


def with_edit(data: bytes, first_s: float, length_s: float, rate: int = 12_288) -> bytes:
    """Gives an MP4 file of which a part is shown, as a cut without coding leaves it.

    Args:
        data: With an edit list, as files with ``b_frames`` have it.
        first_s: Where the part begins.
        length_s: Of the part.
        rate: Ticks of the track a second.
    """
    start = data.index(b"elst") + 4 + 8
    _, begin = struct.unpack(">ii", data[start : start + 8])
    edit = struct.pack(">ii", round(1000 * length_s), begin + round(rate * first_s))
    return data[:start] + edit + data[start + 8 :]
