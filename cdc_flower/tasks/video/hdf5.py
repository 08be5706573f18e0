"""Arrays by name of an HDF5 file: a dataset or group for each video, or rows with their ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.opening.damage import DamagedFile, whole
from cdc_flower.tasks.video.hdf5_texts import MOST_BYTES, texts_of
from cdc_flower.tasks.video.one_array import FEATURES, KIND, Reading, check_size, each, features_of
from cdc_flower.tasks.video.reading import held

if TYPE_CHECKING:
    import h5py

#: Names of the dataset that names the rows of another.
IDS = ("ids", "video_ids", "video_id")


@contextmanager
def opened(file: Path, kind: str) -> Iterator[Mapping[str, Reading]]:
    """Opens a file whose datasets are read when they are asked for.

    Args:
        file: To open.
        kind: What it must be, in errors.

    Raises:
        UserError: If h5py is not installed.
        DamagedFile: If the file is not whole or its rows cannot be told by name.
    """
    library = _h5py()
    with whole(file, kind):
        archive = library.File(file, "r")
    with archive:
        with whole(file, kind):
            names = [str(name) for name in archive]
            ids = next((name for name in IDS if name in names), None)
            if ids is not None and len(names) > 1:
                arrays = _rows(file, archive, names, ids)
            else:
                arrays = _datasets(file, archive, names, library)
        yield arrays


def _datasets(
    file: Path, archive: h5py.File, names: list[str], library: ModuleType
) -> Mapping[str, Reading]:
    """Gives the dataset of each name; of a group the one that is for features."""

    def read(name: str) -> NDArray:
        with whole(file, KIND):
            item = archive[name]
            if isinstance(item, library.Group):
                members = [str(member) for member in item]
                chosen = features_of(members)
                if chosen is None:
                    raise ValueError(f"group {name} {held(members)}")
                item = item[chosen]
            if not isinstance(item, library.Dataset):
                raise ValueError(f"{name} is no dataset")
            _check_numbers(item, item.shape or ())
            return np.asarray(item)

    return each({name: name for name in names}, read)


def _rows(file: Path, archive: h5py.File, names: list[str], ids: str) -> Mapping[str, Reading]:
    """Finds rows of the dataset of features by the dataset of their names.

    Args:
        file: That is open.
        archive: The same, opened.
        names: Of its datasets.
        ids: Of them the one with the name of each row.
    """
    rows = _ids(file, archive[ids])
    number = {name: index for index, name in enumerate(rows)}
    chosen = features_of([name for name in names if name != ids])
    if chosen is None:
        raise DamagedFile(f"{file}: must hold {ids} and {FEATURES[2]}, but {held(names)}")
    dataset = archive[chosen]
    if len(dataset) != len(rows):
        raise DamagedFile(
            f"{file}: must have a row of {chosen} for each of {ids}, "
            f"got {len(dataset)} and {len(rows)}"
        )
    if len(number) < len(rows):
        twice = next(name for index, name in enumerate(rows) if number[name] != index)
        raise DamagedFile(f"{file}: must name each row of {chosen} once, got {twice[:60]!r} twice")

    def read(name: str) -> NDArray:
        with whole(file, KIND):
            _check_numbers(dataset, dataset.shape[1:])
            return np.asarray(dataset[number[name]])

    return each({name: name for name in rows}, read)


def _check_numbers(dataset: h5py.Dataset, shape: tuple[int, ...]) -> None:
    """Refuses what is no number, or more of them than are read, before memory is taken.

    Args:
        dataset: To be read, from whole chunks where it has them.
        shape: Of the part of it that is wanted.
    """
    if dataset.dtype.kind not in "biufc":
        raise ValueError(f"numbers are wanted, not {dataset.dtype}")
    for read in (shape, dataset.chunks or ()):
        check_size(read, dataset.dtype.itemsize)


def _ids(file: Path, dataset: h5py.Dataset) -> list[str]:
    """Reads the names of rows."""
    texts = texts_of(file, dataset) if dataset.dtype.hasobject else None
    if texts is None:
        check_size(dataset.shape, dataset.dtype.itemsize, MOST_BYTES)
        texts = np.asarray(dataset).reshape(-1).tolist()
    return [_name(text) for text in texts]


def _name(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"ids are texts or numbers, not {type(value).__name__}")
    return str(value)


def _h5py() -> ModuleType:
    try:
        import h5py
    except ImportError as error:
        raise UserError(
            "data.features: HDF5 files need h5py; pip install 'cdc-flower[video]'"
        ) from error
    return h5py
