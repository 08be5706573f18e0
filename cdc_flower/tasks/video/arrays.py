"""Arrays by name of one file: ``.npy``, ``.npz``, HDF5, or tensors saved by PyTorch.

Nothing is unpickled but tensors, nothing is read whose header lies about its size, and what a
library raises on damaged bytes is told as damage of the file.
"""

import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray

from cdc_flower.core.opening.compressed import member
from cdc_flower.core.opening.damage import whole
from cdc_flower.core.opening.limits import Budget
from cdc_flower.tasks.video import hdf5
from cdc_flower.tasks.video.one_array import KIND, Reading, check_size, each

TORCH = (".pt", ".pth")
SUFFIXES = (".npy", ".npz", ".h5", ".hdf5", *TORCH)
#: Bytes of all tensors of a PyTorch file, which is read as a whole.
MOST_TENSOR_BYTES = 2**34
_NUMPY_HEADER = 2**17


@contextmanager
def opened(file: Path, kind: str = KIND) -> Iterator[Mapping[str, Reading]]:
    """Opens a file of arrays; each is read when it is asked for.

    Args:
        file: Its suffix says the format; one with another suffix is HDF5.
        kind: What it must be, in errors.

    Yields:
        Arrays by name; of ``.npy`` and a bare tensor the name is "".

    Raises:
        UserError: If HDF5 is not installed.
        DamagedFile: If the file is not whole or holds something else.
    """
    suffix = file.suffix.lower()
    if suffix == ".npy":
        yield {"": lambda: _numpy_file(file)}
    elif suffix == ".npz":
        with _npz(file, kind) as arrays:
            yield arrays
    elif suffix in TORCH:
        yield _tensors(file, kind)
    else:
        with hdf5.opened(file, kind) as arrays:
            yield arrays


def _numpy_file(file: Path) -> NDArray:
    with whole(file, KIND), file.open("rb") as stream:
        return _numpy(stream)


def _numpy(stream: IO[bytes]) -> NDArray:
    """Reads an array in NumPy's format; its size is checked before memory is taken."""
    start = io.BytesIO(stream.read(_NUMPY_HEADER))
    version = np.lib.format.read_magic(start)
    headers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in headers:
        raise ValueError(f"version {version} of the format")
    shape, is_fortran, dtype = headers[version](start)
    if dtype.hasobject or dtype.kind not in "biufc":
        raise ValueError(f"numbers are wanted, not {dtype}")
    count = check_size(shape, dtype.itemsize)
    raw = start.read(count)
    raw += stream.read(count - len(raw))
    if len(raw) < count:
        raise ValueError(f"{len(raw):,} of {count:,} bytes")
    stream.read(1)  # at the end of a member of an archive its checksum is compared
    array: NDArray = np.frombuffer(raw, dtype).reshape(shape, order="F" if is_fortran else "C")
    return array


@contextmanager
def _npz(file: Path, kind: str) -> Iterator[Mapping[str, Reading]]:
    with whole(file, kind):
        archive = zipfile.ZipFile(file)

    num_bytes = file.stat().st_size

    def read(name: str) -> NDArray:
        info = archive.getinfo(name)
        with whole(file, KIND), member(archive, info, file, Budget(file, num_bytes)) as stream:
            return _numpy(stream)

    with archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        yield each({name.removesuffix(".npy"): name for name in names}, read)


def _tensors(file: Path, kind: str) -> Mapping[str, Reading]:
    """Loads the tensors of a file, and nothing else: no code of it is run."""
    with whole(file, kind):
        _check_unpacked(file)
        saved = torch.load(file, map_location="cpu", weights_only=True)
        by_name = saved if isinstance(saved, dict) else {"": saved}
        others = [type(value).__name__ for value in by_name.values() if not _is_tensor(value)]
        if others or not all(isinstance(name, str | int) for name in by_name):
            raise ValueError(f"a tensor, or tensors by name, is wanted, not {others[:1]}")
        tensors = {str(name): value.detach() for name, value in by_name.items()}

    def read(name: str) -> NDArray:
        with whole(file, KIND):
            tensor = tensors[name]
            check_size(tuple(tensor.shape), tensor.element_size())
            array: NDArray = (tensor.float() if _is_short(tensor) else tensor).numpy()
            return array

    return each({name: name for name in tensors}, read)


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


def _is_short(tensor: torch.Tensor) -> bool:
    """Tells whether a tensor has a type that NumPy does not know."""
    return tensor.is_floating_point() and tensor.dtype not in (
        torch.float16,
        torch.float32,
        torch.float64,
    )


def _check_unpacked(file: Path) -> None:
    """Refuses what would take more memory than is given to it, before it is loaded."""
    size = file.stat().st_size
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
        Budget(file, size).take(unpacked)
        size = max(size, unpacked)
    if size > MOST_TENSOR_BYTES:
        raise ValueError(f"{size:,} bytes are over the limit of {MOST_TENSOR_BYTES:,}")
