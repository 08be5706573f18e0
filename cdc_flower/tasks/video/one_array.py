"""One array of a file of features: which of several it is, and whether it may be read."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from numpy.typing import NDArray

from cdc_flower.core.opening.damage import DamagedFile
from cdc_flower.tasks.video.reading import held

#: What a file must be, in errors.
KIND = "feature file"
#: Bytes of one array, unpacked.
MOST_ARRAY_BYTES = 2**30
#: Names of the array of features where a file has several.
FEATURES = ("features", "feature", "feat", "feats")
#: Reads an array.
Reading = Callable[[], NDArray]


def only(file: Path, arrays: Mapping[str, Reading]) -> NDArray:
    """Reads the one array of a file, or of several the one that is named as features.

    Raises:
        DamagedFile: If there is none, or no telling which.
    """
    name = features_of(list(arrays))
    if name is None:
        raise DamagedFile(
            f"{file}: must hold one array, or one called {FEATURES[0]}, but {held(list(arrays))}"
        )
    return arrays[name]()


def features_of(names: Sequence[str]) -> str | None:
    """Finds the name of the array of features among those of a file; None if it cannot be told."""
    return names[0] if len(names) == 1 else next((n for n in FEATURES if n in names), None)


def check_size(shape: tuple[int, ...], itemsize: int, most: int | None = None) -> int:
    """Counts the bytes of an array.

    Args:
        shape: Of the array.
        itemsize: Bytes of a number.
        most: Bytes; None: as many as features may have.

    Raises:
        ValueError: If they are more than are read.
    """
    limit = MOST_ARRAY_BYTES if most is None else most
    count = math.prod(shape) * itemsize
    if min(shape, default=0) < 0 or count > limit:
        raise ValueError(f"shape {shape} is over the limit of {limit:,} bytes")
    return count


def each(names: Mapping[str, str], read: Callable[[str], NDArray]) -> dict[str, Reading]:
    """Makes the reading of each array by the name that a video has.

    Args:
        names: Of the file's arrays by those that they are asked for with.
        read: Reads an array by its name in the file.
    """

    def later(name: str) -> Reading:
        return lambda: read(name)

    return {shown: later(name) for shown, name in names.items()}
