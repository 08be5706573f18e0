"""Frames of real videos: precomputed features of a folder or archive, or pixels of video files."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.tasks.video.annotations import Problems

FEATURE_SUFFIXES = (".npy", ".npz", ".h5", ".hdf5")
VIDEO_SUFFIXES = (".avi", ".mp4", ".mkv", ".webm", ".gif")


def spread_over(num_rows: int, num_frames: int) -> NDArray[np.int64]:
    """``[num_frames]`` rows, evenly spread: the middle of each of as many equal parts."""
    return ((np.arange(num_frames) + 0.5) * num_rows / num_frames).astype(np.int64)


def read_features(
    path: str, names: list[str], num_frames: int, problems: Problems
) -> dict[str, NDArray[np.float32]]:
    """Reads features ``[num_frames, F]`` of videos, scaled to a root mean square of 1 over all.

    Args:
        path: A folder with one ``.npy``, ``.npz`` or HDF5 file a video, or one ``.npz`` or HDF5
            file with all.
        names: Videos, without suffix.
        num_frames: ``n``, spread evenly over the rows of a file.
        problems: What to do with a file that cannot be used. Its width must be that of the first.

    Raises:
        UserError: If there is no such path, a file is damaged, or its features are not ``[rows,
            F]`` as the others.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise UserError(f"data.features must be an existing file or folder, got {path!r}")
    found: dict[str, NDArray[np.float32]] = {}
    width: int | None = None
    for name, where, values in _all_in(place, names, problems):
        if values.ndim != 2 or not len(values) or values.dtype.kind not in "iuf":
            problems.report(
                "feature files",
                f"{where}: must hold [frames, width] numbers, got shape {values.shape}",
            )
            continue
        width = values.shape[1] if width is None else width
        if values.shape[1] != width:
            problems.report(
                "feature files",
                f"{where}: must have the width {width} of the others, got {values.shape[1]}",
            )
            continue
        if not np.isfinite(values).all():
            problems.report("feature files", f"{where}: must hold finite numbers only")
            continue
        found[name] = values[spread_over(len(values), num_frames)].astype(np.float32)
    if not found:
        raise UserError(
            "data.features must hold features of at least one annotated video, "
            f"got none in {path!r}"
        )
    size = float(np.sqrt(np.mean([np.square(values).mean() for values in found.values()]))) or 1.0
    return {name: values / np.float32(size) for name, values in found.items()}


def _all_in(
    place: Path, names: list[str], problems: Problems
) -> Iterator[tuple[str, str, NDArray]]:
    """Name, place and array of each wanted video that is there."""
    if place.is_dir():
        for name in names:
            for suffix in (
                f"{part}{end}" for part in ("", ".avi", ".mp4") for end in FEATURE_SUFFIXES
            ):
                file = place / f"{name}{suffix}"
                if file.is_file():
                    values = _one(file, None, problems)
                    if values is not None:
                        yield name, str(file), values
                    break
        return
    keys = {Path(key).stem if key.endswith(VIDEO_SUFFIXES) else key: key for key in _keys(place)}
    for name in names:
        if name in keys:
            values = _one(place, keys[name], problems)
            if values is not None:
                yield name, f"{place}: {keys[name]}", values


def _keys(file: Path) -> list[str]:
    """Names of the arrays in an archive."""
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as archive:
                return list(archive.keys())
        with _h5py().File(file) as archive:
            return list(archive.keys())
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{file}: must be a whole .npz or HDF5 file ({error})") from error


def _one(file: Path, key: str | None, problems: Problems) -> NDArray | None:
    """One array; None after a problem that is skipped."""
    try:
        if file.suffix == ".npy":
            return np.asarray(np.load(file, allow_pickle=False))
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as archive:
                return np.asarray(archive[key or next(iter(archive.keys()))])
        with _h5py().File(file) as archive:
            return np.asarray(archive[key or next(iter(archive.keys()))])
    except (OSError, ValueError, EOFError, KeyError, StopIteration) as error:
        problems.report(
            "feature files", f"{file}: must be a whole feature file ({str(error)[:80]})"
        )
        return None


def _h5py() -> ModuleType:
    try:
        import h5py
    except ImportError as error:
        raise UserError(
            "data.features: HDF5 files need h5py; pip install 'cdc-flower[video]'"
        ) from error
    return h5py


def read_videos(
    path: str, names: list[str], num_frames: int, size: int, problems: Problems
) -> dict[str, NDArray[np.uint8]]:
    """Decodes pixels ``[num_frames, size, size, 3]`` of the video files that are there, by PyAV.

    Args:
        path: A folder of video files.
        names: Of the videos, without the suffix.
        num_frames: Of a video, spread evenly.
        size: Side of a frame in pixels.
        problems: What becomes of files that cannot be used.

    Raises:
        UserError: If PyAV or the folder is missing, or a file is truncated or no video.
    """
    place = Path(path).expanduser()
    if not place.is_dir():
        raise UserError(f"data.videos must be an existing folder, got {path!r}")
    found = {}
    for name in names:
        file = next(
            (f for f in (place / f"{name}{s}" for s in VIDEO_SUFFIXES) if f.is_file()), None
        )
        if file is None:
            continue
        try:
            found[name] = decode(file, num_frames, size)
        except UserError as error:
            problems.report("video files", str(error))
    if not found:
        raise UserError(f"data.videos must hold at least one annotated video, got none in {path!r}")
    return found


def decode(file: Path, num_frames: int, size: int) -> NDArray[np.uint8]:
    """Decodes frames ``[num_frames, size, size, 3]`` spread evenly, scaled to a square.

    Args:
        file: Of the video.
        num_frames: Spread evenly over it.
        size: Side of a frame in pixels.

    Raises:
        UserError: If PyAV is missing, or the file is truncated or no video.
    """
    try:
        import av
    except ImportError as error:
        raise UserError(
            "data.videos: video files need PyAV; pip install 'cdc-flower[video]'"
        ) from error
    try:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            declared = stream.frames
            pictures = [
                frame.reformat(width=size, height=size, format="rgb24").to_ndarray()
                for frame in container.decode(stream)
            ]
    except (av.FFmpegError, IndexError, OSError) as error:
        raise UserError(f"{file}: must be a whole video file ({error})") from error
    if not pictures:
        raise UserError(f"{file}: must hold at least one frame, got none")
    if declared and len(pictures) < declared - 1:
        raise UserError(
            f"{file}: must be a whole video file, got {len(pictures)} of {declared} frames"
        )
    return np.stack([pictures[k] for k in spread_over(len(pictures), num_frames)])
