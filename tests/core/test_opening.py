"""Files that others made: one way of opening them, and one limit, for all readers."""

import ast
import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest

import cdc_flower
from cdc_flower.core.errors import UserError
from cdc_flower.core.opening import limits
from cdc_flower.core.opening.archives import unpacked_files
from cdc_flower.core.opening.compressed import check_whole, opened, packing
from cdc_flower.core.opening.damage import DamagedFile, whole
from cdc_flower.core.opening.places import existing, files_in, first_bytes
from cdc_flower.core.opening.texts import decoded, read_text

TEXT = b"".join(b"%d %d\n" % (k, k * 7919 % 9973) for k in range(400))


def zipped(raw: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", raw)
    return packed.getvalue()


def tarred(raw: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        info = tarfile.TarInfo("a")
        info.size = len(raw)
        archive.addfile(info, io.BytesIO(raw))
    return packed.getvalue()


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda raw: gzip.compress(raw, mtime=0),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda raw: bytes(pyarrow.compress(raw, "zstd", True)),
    "zip": zipped,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "made"


def contents(path: Path) -> dict[str, bytes | UserError]:
    return dict(unpacked_files(path, "data.path"))


@pytest.mark.parametrize("kind", PACK)
def test_a_packed_file_is_read_as_what_is_in_it_by_both_ways_of_opening(
    file: Path, kind: str
) -> None:
    file.write_bytes(PACK[kind](TEXT))
    assert packing(file) == kind
    with opened(file) as stream:
        assert stream.read() == TEXT
    assert [*contents(file).values()] == [TEXT]
    check_whole(file)


@pytest.mark.parametrize("kind", PACK)
def test_each_cut_of_a_packed_file_is_damage_of_that_file(file: Path, kind: str) -> None:
    packed = PACK[kind](TEXT)
    for length in (7, len(packed) // 2, len(packed) - 6):
        file.write_bytes(packed[:length])
        with pytest.raises(DamagedFile, match=rf"made: must be a whole {kind} file \(.+\)$"):
            check_whole(file)
        (found,) = contents(file).values()
        assert isinstance(found, DamagedFile) and f"must be a whole {kind} file" in str(found)


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("depth", [1, 2])
def test_what_expands_beyond_the_multiple_is_refused_also_within_an_archive(
    file: Path, kind: str, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FREE_BYTES", 2**18)
    bomb = PACK[kind](b"12345678" * 2**17)
    file.write_bytes(zipped(bomb) if depth == 2 else bomb)
    size = file.stat().st_size
    assert size < 2**13
    (found,) = [each for each in contents(file).values() if isinstance(each, UserError)] or [None]
    if depth == 2 and kind == "zip":
        return  # archives in archives are not opened
    assert isinstance(found, DamagedFile)
    assert f"must expand to at most 100 times its {size:,} bytes, or to 262,144 bytes" in str(found)
    if depth == 1:
        with pytest.raises(DamagedFile, match="must expand to at most 100 times"):
            check_whole(file)


def test_a_file_that_expands_to_less_than_the_multiple_or_the_free_bytes_is_read(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros = bytes(2**20)
    file.write_bytes(gzip.compress(zeros))
    monkeypatch.setattr(limits, "FREE_BYTES", 2**20)
    check_whole(file)
    monkeypatch.setattr(limits, "FREE_BYTES", 2**20 - 1)
    with pytest.raises(DamagedFile, match="must expand"):
        check_whole(file)
    monkeypatch.setattr(limits, "FREE_BYTES", 0)
    monkeypatch.setattr(limits, "MOST_TIMES", 2**20 // file.stat().st_size + 1)
    check_whole(file)


def test_the_members_of_an_archive_share_one_limit(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FREE_BYTES", 2**20)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "abcd":
            archive.writestr(name, bytes(2**19 - 1))
    found = contents(file)
    assert [*found] == ["a", "b", "c"], "after what is too much nothing is opened"
    assert isinstance(found["c"], DamagedFile) and len(found["b"]) == 2**19 - 1  # type: ignore[arg-type]


def test_zeros_that_a_tar_archive_leaves_out_count(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sparse member of 512 bytes may say that it is a gigabyte."""
    monkeypatch.setattr(limits, "FREE_BYTES", 2**20)
    info = tarfile.TarInfo("hole")
    info.type = tarfile.GNUTYPE_SPARSE
    info.size = 0
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[483:495] = b"%011o\0" % (2**28 - 1)  # the size with its zeros
    head[148:156] = b"%06o\0 " % (sum(head[:148]) + 8 * 32 + sum(head[156:512]))
    file.write_bytes(bytes(head) + bytes(1024))
    (found,) = contents(file).values()
    assert isinstance(found, DamagedFile) and "must expand to at most" in str(found)


def test_an_encrypted_member_is_told_as_such(file: Path) -> None:
    packed = bytearray(zipped(TEXT))
    packed[6] |= 1
    packed[packed.index(b"PK\1\2") + 8] |= 1
    file.write_bytes(packed)
    with pytest.raises(DamagedFile, match=r"made: must not be encrypted$"):
        check_whole(file)
    assert "a in made: must not be encrypted" in str(contents(file)["a"])


def test_of_several_members_one_must_be_named(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("x/a.csv", "b.csv", "__MACOSX/a.csv", ".c"):
            archive.writestr(name, name)
    with pytest.raises(UserError, match=r"one file, or data.files name which, got x/a.csv, b.csv$"):
        opened(file)
    check_whole(file, ["a.csv"])
    with opened(file, ["c.csv", "a*"]) as stream:
        assert stream.read() == b"x/a.csv"
    with pytest.raises(UserError, match=r"must hold one of d.csv, got x/a.csv, b.csv$") as told:
        check_whole(file, ["d.csv"])
    assert not isinstance(told.value, DamagedFile), "what is not there is no damage"


def test_pipes_devices_and_what_is_not_there_are_refused_unopened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "a pipe"), (Path("/dev/zero"), "a device")):
        with pytest.raises(UserError, match=f"data.path must be a file or a folder, got {kind}"):
            existing(path, "data.path")
        with pytest.raises(UserError, match=f"{path}: must be a file, got {kind}"):
            first_bytes(path)
        with pytest.raises(UserError, match=f"got {kind}"):
            contents(path)
    with pytest.raises(UserError, match=r"data.path must be an existing path, got '/gone'"):
        existing("/gone", "data.path")
    with pytest.raises(UserError, match=r"data.path must be readable, got 'aaa"):
        existing("a" * 5_000, "data.path")
    with pytest.raises(UserError, match=r"must be readable, got 'a\\x00b' \(embedded null byte\)"):
        existing("a\0b", "data.path")
    assert files_in(tmp_path, "data.path") == []


def test_a_tilde_is_the_home_directory_only_before_a_slash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~lock.csv").touch()
    assert existing("~/~lock.csv", "data.path") == tmp_path / "~lock.csv"
    assert existing("~lock.csv", "data.path") == Path("~lock.csv")


@pytest.mark.parametrize(
    ("raw", "encoding", "words"),
    [
        (b"a\nb\xff", None, "made:2: must be utf-8 text, got byte 0xff"),
        (b"a\xe9", "utf-8", r"made:1: must be utf-8 text \(data.encoding\), got byte 0xe9"),
        (b"a\n\n\0", None, "made:3: must be text, got a zero byte, as binary files have"),
        (b"\x89HDF\r\n", None, "must be utf-8 text, got byte 0x89; it looks like HDF5"),
    ],
)
def test_what_is_no_text_is_told_with_its_line(
    raw: bytes, encoding: str | None, words: str
) -> None:
    with pytest.raises(DamagedFile, match=words):
        decoded(raw, "made", encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_text_is_read_with_and_without_marks(
    file: Path, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    file.write_bytes(pack("é\n".encode(encoding)))
    assert read_text(file) == "é\n"


def test_any_error_of_a_library_is_damage_and_one_of_the_user_stays() -> None:
    words = r"^f: must be a whole npz file \(a b\)$"
    with pytest.raises(DamagedFile, match=words), whole("f", "npz file"):
        raise ValueError("a\n  b")
    with pytest.raises(UserError, match=r"^mine$") as told, whole("f", "npz file"):
        raise UserError("mine")
    assert not isinstance(told.value, DamagedFile)


def test_no_other_room_opens_archives_by_itself() -> None:
    """PyTorch's and NumPy's files are zip archives whose members the shared room reads."""
    package = Path(cdc_flower.__file__).parent
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import)
        if {alias.name for alias in node.names} & {"gzip", "bz2", "lzma", "tarfile", "zipfile"}
    }
    assert found == {
        "core/opening/archives.py",
        "core/opening/compressed.py",
        "tasks/video/arrays.py",
    }
