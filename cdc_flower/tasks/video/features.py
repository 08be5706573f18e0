"""Precomputed features of real videos: a file for each in a folder, or one archive with all."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.opening.damage import DamagedFile
from cdc_flower.core.opening.places import existing, files_in
from cdc_flower.tasks.video.arrays import SUFFIXES, opened
from cdc_flower.tasks.video.clip_names import (
    PREFIX,
    VIDEO_SUFFIXES,
    aliases,
    by_name,
    split_suffix,
)
from cdc_flower.tasks.video.frames import spread_over
from cdc_flower.tasks.video.one_array import Reading, only
from cdc_flower.tasks.video.problems import Problems
from cdc_flower.tasks.video.reading import nothing_found

KEY = "data.features"
ARCHIVE = ".npz or HDF5 file, or one of tensors"
#: The largest number of a feature: squares of it are summed in 32 bits.
LARGEST = 1e15
#: Place and reading of the features of each name.
Source = Mapping[str, tuple[str, Reading]]


def read_features(
    path: str, names: list[str], num_frames: int, problems: Problems
) -> dict[str, NDArray[np.float32]]:
    """Reads features ``[num_frames, F]`` of videos, scaled to a root mean square of 1 over all.

    Args:
        path: A folder with one ``.npy``, ``.npz``, HDF5 or ``.pt`` file a video, or one such
            archive with all. HDF5 may have rows with ``ids``.
        names: Videos, without suffix.
        num_frames: ``n``, spread evenly over the rows of a file; one vector stands for all.
        problems: What to do with a file that cannot be used. Its width must be that of the first.

    Raises:
        UserError: If there is no such path, a file is damaged, or its features are not ``[rows,
            F]`` as the others.
    """
    place = existing(path, KEY, ("a folder", "a file"))
    found: dict[str, NDArray[np.float32]] = {}
    there: Sequence[str] = []
    try:
        with _source(place) as (there, source):
            width: int | None = None
            for name, (where, read) in _wanted(source, names):
                try:
                    values = checked(where, read(), width)
                except DamagedFile as error:
                    problems.report("feature file", str(error))
                    continue
                width = values.shape[1]
                rows = values[spread_over(len(values), num_frames)]
                found[name] = rows.astype(np.float32)
    except DamagedFile as error:
        problems.report("feature file", str(error))
    if not found:
        raise nothing_found(
            f"{KEY} must hold features of at least one annotated video, NAME or {PREFIX}NAME "
            f"with {', '.join(SUFFIXES)}, or be an archive of them by name",
            path,
            there,
            names,
            problems,
        )
    size = float(np.sqrt(np.mean([np.square(values).mean() for values in found.values()]))) or 1.0
    return {name: values / np.float32(size) for name, values in found.items()}


def checked(where: str, values: NDArray, width: int | None) -> NDArray:
    """Gives features ``[rows, F]``; one vector ``[F]`` is one row.

    Args:
        where: Of the values, for errors.
        values: As they were read.
        width: ``F`` of the others; None: these are the first.

    Raises:
        DamagedFile: If they are no finite numbers, too large, too few, or of another shape.
    """
    shape = values.shape
    if values.ndim == 1:
        values = values[None]
    if values.ndim != 2 or values.dtype.kind not in "iuf" or not values.size:
        raise DamagedFile(
            f"{where}: must hold [frames, width] numbers, or one vector, got shape {shape} "
            f"of {values.dtype}"
        )
    if width is not None and values.shape[1] != width:
        raise DamagedFile(
            f"{where}: must have the width {width} of the others, got {values.shape[1]}"
        )
    if not np.isfinite(values).all():
        raise DamagedFile(f"{where}: must hold finite numbers only")
    largest = max(float(values.max()), -float(values.min()))
    if largest > LARGEST:
        raise DamagedFile(f"{where}: must hold numbers up to {LARGEST:g}, got {largest:g}")
    return values


@contextmanager
def _source(place: Path) -> Iterator[tuple[Sequence[str], Source]]:
    """Opens a folder or archive: names of what lies there, and what can be read by name."""
    if place.is_dir():
        there = files_in(place, KEY)
        files = {name: place / file for name, file in by_name(there, SUFFIXES).items()}
        yield there, {name: (str(file), _only_of(file)) for name, file in files.items()}
        return
    with opened(place, ARCHIVE) as arrays:
        named = {key: (f"{place}: {key}", read) for key, read in arrays.items() if key}
        source = dict(named)
        for key, entry in named.items():
            bare, suffix = split_suffix(PurePosixPath(key).name, VIDEO_SUFFIXES)
            if suffix and source.setdefault(bare, entry) is not entry:
                raise DamagedFile(f"{place}: must hold features of {bare} once, got them twice")
        yield list(named) or ["one array without a name"], source


def _only_of(file: Path) -> Reading:
    def read() -> NDArray:
        with opened(file) as arrays:
            return only(file, arrays)

    return read


def _wanted(source: Source, names: list[str]) -> Iterator[tuple[str, tuple[str, Reading]]]:
    """Finds of each video what is there under its name."""
    for name in names:
        alias = next((alias for alias in aliases(name) if alias in source), None)
        if alias is not None:
            yield name, source[alias]
