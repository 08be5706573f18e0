import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cdc_flower.core.errors import UserError
from cdc_flower.core.opening import limits
from cdc_flower.tasks.video import arrays, one_array
from cdc_flower.tasks.video.features import read_features
from cdc_flower.tasks.video.problems import Problems

RAISE = Problems.of("raise")
VALUES = {
    f"clip{k}": np.random.default_rng(k).normal(size=(7, 5)).astype(np.float32) for k in range(3)
}
NAMES = list(VALUES)


def write_ids(path: Path, ids: object = None, key: str = "feat") -> None:
    h5py = pytest.importorskip("h5py", reason="pip install 'cdc-flower[video]'")
    with h5py.File(path, "w") as archive:
        archive["ids"] = [name.encode() for name in NAMES] if ids is None else ids
        archive[key] = np.stack(list(VALUES.values()))


def write_groups(path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="pip install 'cdc-flower[video]'")
    with h5py.File(path, "w") as archive:
        for name, values in VALUES.items():
            archive[f"v_{name}/c3d_features"] = values


def write_each(
    suffix: str, write: Callable[[Path, np.ndarray], None], prefix: str = ""
) -> Callable[[Path], None]:
    def all_of(path: Path) -> None:
        path.mkdir()
        for name, values in VALUES.items():
            write(path / f"{prefix}{name}{suffix}", values)

    return all_of


def tensor(path: Path, values: np.ndarray) -> None:
    torch.save(torch.from_numpy(values), path)


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "ids.h5": write_ids,
    "groups.hdf5": write_groups,
    "tensors.pt": lambda path: torch.save(
        {name: torch.from_numpy(values) for name, values in VALUES.items()}, path
    ),
    "arrays.NPZ": lambda path: path.write_bytes(_npz(path)) and None,
    "a folder of .pt": write_each(".pt", tensor),
    "a folder of .pth": write_each(
        ".mp4.pth",
        lambda path, values: torch.save({"features": torch.from_numpy(values)}, path),
    ),
    "an old form of .pt": write_each(
        ".pt",
        lambda path, values: torch.save(
            torch.from_numpy(values), path, _use_new_zipfile_serialization=False
        ),
    ),
    "v_NAME": write_each(".npy", lambda path, values: np.save(path, values), "v_"),
    "capitals": write_each(
        ".NPY", lambda path, values: path.write_bytes(_npy(path, values)) and None
    ),
    "columns first": write_each(
        ".npy", lambda path, values: np.save(path, np.asfortranarray(values))
    ),
    "several arrays": write_each(
        ".npz", lambda path, values: np.savez(path, mask=np.ones(7), features=values)
    ),
}


def _npy(path: Path, values: np.ndarray) -> bytes:
    small = path.with_suffix(".small.npy")
    np.save(small, values)
    data = small.read_bytes()
    small.unlink()
    return data


def _npz(path: Path) -> bytes:
    small = path.with_suffix(".small.npz")
    np.savez_compressed(small, **{f"{name}.MOV": values for name, values in VALUES.items()})
    return small.read_bytes()


def read(path: Path, problems: Problems = RAISE) -> dict[str, np.ndarray]:
    return read_features(str(path), NAMES, 7, problems)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_features(layout: str, tmp_path: Path) -> None:
    path = tmp_path / layout
    LAYOUTS[layout](path)
    found = read(path)
    size = np.sqrt(np.mean([np.square(values).mean() for values in VALUES.values()]))
    assert list(found) == NAMES
    for name, values in VALUES.items():
        np.testing.assert_allclose(found[name], values / size, rtol=1e-5)


@pytest.mark.parametrize("layout", ["npy", "pt", "ids"])
def test_one_vector_stands_for_all_frames_of_a_clip(layout: str, tmp_path: Path) -> None:
    pooled = {name: values.mean(0) for name, values in VALUES.items()}
    path = tmp_path
    for name, values in pooled.items():
        if layout == "npy":
            np.save(tmp_path / f"{name}.npy", values)
        elif layout == "pt":
            tensor(tmp_path / f"{name}.pt", values)
    if layout == "ids":
        h5py = pytest.importorskip("h5py", reason="pip install 'cdc-flower[video]'")
        path = tmp_path / "all.h5"
        with h5py.File(path, "w") as archive:
            archive["feat"] = np.stack(list(pooled.values()))
            archive.create_dataset("ids", data=NAMES, dtype=h5py.string_dtype())
    found = read_features(str(path), NAMES, 3, RAISE)
    assert {name: values.shape for name, values in found.items()} == dict.fromkeys(NAMES, (3, 5))
    scale = found["clip1"][0] / pooled["clip1"]
    np.testing.assert_allclose(scale, scale[0], rtol=1e-5)
    np.testing.assert_array_equal(found["clip1"][0], found["clip1"][2])


def test_numbers_as_ids_are_names(tmp_path: Path) -> None:
    write_ids(tmp_path / "all.h5", np.array([7, 8, 12]))
    found = read_features(str(tmp_path / "all.h5"), ["12", "8"], 2, RAISE)
    assert list(found) == ["12", "8"]
    assert found["12"][0, 0] / found["8"][0, 0] == pytest.approx(
        VALUES["clip2"][1, 0] / VALUES["clip1"][1, 0], rel=1e-5
    )


@pytest.mark.parametrize(
    ("ids", "key", "message"),
    [
        ([b"a", b"b", b"a"], "feat", r"must name each row of feat once, got 'a' twice"),
        ([b"a", b"b"], "feat", r"must have a row of feat for each of ids, got 3 and 2"),
        ([1.5, 2.5, 3.5], "feat", r"ids are texts or numbers, not float"),
        ([b"\xff", b"b", b"c"], "feat", r"must be a whole .*\('utf-8' codec can't decode"),
    ],
)
def test_ids_that_tell_no_rows_are_refused(
    ids: object, key: str, message: str, tmp_path: Path
) -> None:
    write_ids(tmp_path / "all.h5", ids, key)
    with pytest.raises(UserError, match=r"all\.h5: .*" + message):
        read(tmp_path / "all.h5")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((3, 5), 1e300), r"must hold numbers up to 1e\+15, got 1e\+300"),
        (np.full((3, 5), -3e38, np.float32), r"must hold numbers up to 1e\+15, got 3e\+38"),
        (np.array([[1.0, np.nan]]), r"must hold finite numbers only"),
        (np.array([[1.0, -np.inf]], np.float16), r"must hold finite numbers only"),
        (np.zeros((3, 0)), r"must hold \[frames, width\] numbers, or one vector, got shape \(3, 0"),
        (np.zeros((0, 5)), r"got shape \(0, 5\) of float64"),
        (np.zeros((2, 3, 4)), r"got shape \(2, 3, 4\) of float64"),
        (np.array(3.0), r"got shape \(\) of float64"),
        (np.ones((2, 5), bool), r"got shape \(2, 5\) of bool"),
        (np.ones((2, 5), complex), r"got shape \(2, 5\) of complex128"),
        (np.array([["a", "b"]]), r"must be a whole feature file \(numbers are wanted, not <U1"),
        (np.ones(3, [("a", "f4")]), r"numbers are wanted"),
    ],
)
def test_numbers_that_cannot_be_used_are_refused_and_skip_counts_them(
    values: np.ndarray, message: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "clip0.npy", values)
    np.save(tmp_path / "clip1.npy", VALUES["clip1"])
    with pytest.raises(UserError, match=r"clip0\.npy: .*" + message):
        read(tmp_path)
    problems = Problems.of("skip")
    assert list(read(tmp_path, problems)) == ["clip1"]
    assert problems.counts == {"feature file": 1}


KINDS = (
    *("pickle.npy", "shape.npy", "minus.npy", "brackets.npy", "noise.npy", "noise.h5"),
    *("pickle.pt", "list.pt", "expanded.pt", "noise.pt"),
    *("two.npz", "none.npz", "four.npz", "flipped.npz", "encrypted.npz", "noise.npz"),
    "checksum.npz",
)


def damaged(path: Path, kind: str) -> None:
    if kind == "pickle.npy":
        np.save(path, np.array([{}], object), allow_pickle=True)
    elif kind == "shape.npy":
        header = {"descr": "<f8", "fortran_order": False, "shape": (9_999_999_999, 9)}
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
    elif kind == "minus.npy":
        header = {"descr": "<f8", "fortran_order": False, "shape": (-1, 9)}
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
    elif kind == "brackets.npy":
        text = b"{'descr': '<f4', 'shape': " + b"(" * 9_000
        path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    elif kind == "pickle.pt":
        torch.save({"a": Path("x")}, path)
    elif kind == "list.pt":
        torch.save([torch.ones(2, 5)], path)
    elif kind == "expanded.pt":
        torch.save(torch.ones(1, 1).expand(2**30, 5), path)
    elif kind == "two.npz":
        np.savez(path, a=np.ones((2, 5)), b=np.ones((2, 5)))
    elif kind == "none.npz":
        np.savez(path)
    elif kind == "four.npz":
        path.write_bytes(b"PK\x03\x04")
    elif kind == "flipped.npz":
        np.savez(path, a=np.ones((2, 5)))
        data = bytearray(path.read_bytes())
        data[data.index(b"NUMPY") + 200] ^= 1
        path.write_bytes(data)
    elif kind == "checksum.npz":
        np.savez_compressed(path, a=np.ones((20_000, 5)))
        data = bytearray(path.read_bytes())
        data[data.index(b"PK\x01\x02") + 16] ^= 1
        path.write_bytes(data)
    elif kind == "encrypted.npz":
        np.savez(path, a=np.ones((2, 5)))
        data = bytearray(path.read_bytes())
        data[data.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(data)
    else:
        path.write_bytes(b"\x00\x01 nothing " * 9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_one_line_and_skip_counts_it(kind: str, tmp_path: Path) -> None:
    if kind.endswith("h5"):
        pytest.importorskip("h5py", reason="pip install 'cdc-flower[video]'")
    damaged(tmp_path / f"clip0.{kind.split('.')[1]}", kind)
    np.save(tmp_path / "clip1.npy", VALUES["clip1"])
    with pytest.raises(UserError, match=r"clip0\.\w+: must ") as error:
        read(tmp_path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    problems = Problems.of("skip")
    assert list(read(tmp_path, problems)) == ["clip1"]
    assert problems.counts == {"feature file": 1}


def test_lengths_of_hdf5_are_not_believed(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="pip install 'cdc-flower[video]'")
    file = tmp_path / "all.h5"
    with h5py.File(file, "w") as archive:
        ids = archive.create_dataset("ids", data=NAMES, dtype=h5py.string_dtype())
        archive["feat"] = np.stack(list(VALUES.values()))
        start = ids.id.get_offset()
    assert list(read(file)) == NAMES
    data = bytearray(file.read_bytes())
    data[start + 3] = 0x7F  # a text of two billion bytes
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"all\.h5: .*a text of 2,130,706,437 bytes where"):
        read(file)
    for name, values in (
        ("clip0", h5py.Empty("f4")),
        ("clip1", ["a", "b"]),
    ):
        with h5py.File(tmp_path / f"{name}.h5", "w") as archive:
            archive[name] = values
    with h5py.File(tmp_path / "clip3.h5", "w") as archive:
        archive.create_dataset("a", (2, 5), "f4", chunks=(2**13, 2**17), maxshape=(None, None))
    for name, message in {
        "clip0": r"got shape \(\)|is no|must be",
        "clip1": r"numbers are wanted, not object",
        "clip3": r"shape \(8192, 131072\) is over the limit",
    }.items():
        with pytest.raises(UserError, match=rf"{name}\.h5: .*({message})"):
            read_features(str(tmp_path), [name], 3, RAISE)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    made = tmp_path / "made"

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(made),)

    torch.save(Trap(), tmp_path / "clip0.pt")
    with pytest.raises(UserError, match=r"clip0\.pt: must be a whole feature file"):
        read(tmp_path)
    assert not made.exists()


def test_an_archive_that_expands_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_array, "MOST_ARRAY_BYTES", 10_000)
    monkeypatch.setattr(arrays, "MOST_TENSOR_BYTES", 10_000)
    np.savez_compressed(tmp_path / "clip0.npz", a=np.zeros((400, 5)))
    with pytest.raises(UserError, match=r"clip0\.npz: .*over the limit of 10,000 bytes"):
        read(tmp_path)
    (tmp_path / "clip0.npz").unlink()
    with zipfile.ZipFile(tmp_path / "clip0.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(20_000))
    with pytest.raises(UserError, match=r"clip0\.pt: .*20,000 bytes are over the limit of 10,000"):
        read(tmp_path)


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "clip0.npy")
    with pytest.raises(UserError, match=r"got none in .*, which holds nothing; sought clip0"):
        read(tmp_path)
    with pytest.raises(UserError, match=r"data\.features must be a folder or a file, got a pipe"):
        read(tmp_path / "clip0.npy")
    with pytest.raises(UserError, match=r"data\.features must be .*, got a device: '/dev/zero'"):
        read(Path("/dev/zero"))
    with pytest.raises(UserError, match=r"data\.features must be an existing path, got .*gone"):
        read(tmp_path / "gone")
    with pytest.raises(UserError, match=r"data\.features must be readable, got 'aaa"):
        read(Path("a" * 9000))


def test_where_no_features_are_found_it_is_said_what_was_sought_and_what_is_there(
    tmp_path: Path,
) -> None:
    (tmp_path / "clip0.txt").write_text("1 2 3")
    message = (
        r"NAME or v_NAME with \.npy, \.npz, \.h5, \.hdf5, \.pt, \.pth, .*got none in .*"
        r"which holds clip0\.txt; sought clip0, clip1, clip2"
    )
    with pytest.raises(UserError, match=message):
        read(tmp_path)
    np.savez(tmp_path / "all.npz", other=np.ones((2, 5)))
    with pytest.raises(UserError, match=r"which holds other; sought clip0"):
        read(tmp_path / "all.npz")
    np.save(tmp_path / "all.npy", np.ones((2, 5)))
    with pytest.raises(UserError, match=r"which holds one array without a name; sought clip0"):
        read(tmp_path / "all.npy")
    np.savez(tmp_path / "twice.npz", **{"clip0.avi": np.ones(5), "clip0.mp4": np.ones(5)})
    with pytest.raises(UserError, match=r"twice\.npz: must hold features of clip0 once"):
        read(tmp_path / "twice.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "all.npz").read_bytes()[:90])
    with pytest.raises(UserError, match=r"1 feature file skipped, first .*cut\.npz: must be"):
        read(tmp_path / "cut.npz", Problems.of("skip"))
    message = r"but nothing is left to read in .*cut\.npz'; 1 feature file skipped"
    with pytest.raises(UserError, match=message):
        read(tmp_path / "cut.npz", Problems.of("skip"))


@pytest.mark.parametrize("name", ["all.npz", "all.pt"])
def test_features_that_expand_beyond_the_multiple_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / name
    if name == "all.npz":
        np.savez_compressed(file, clip0=np.zeros((2**10, 2**8), np.float32))
    else:
        torch.save({"clip0": torch.zeros(2**10, 2**8)}, file)
        with zipfile.ZipFile(file) as saved, zipfile.ZipFile(tmp_path / "small", "w", 8) as small:
            for info in saved.infolist():
                small.writestr(info.filename, saved.read(info))
        (tmp_path / "small").replace(file)
    size = file.stat().st_size
    assert size < 2**13
    assert np.isfinite(read(file)["clip0"]).all()
    monkeypatch.setattr(limits, "FREE_BYTES", 2**17)
    with pytest.raises(UserError, match=rf"must expand to at most 100 times its {size:,} bytes"):
        read(file)
