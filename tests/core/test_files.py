"""Files that are whole or not there."""

import hashlib
from pathlib import Path

import pytest

from cdc_flower.core.files import (
    CannotWrite,
    sealed,
    sha256_of,
    unsealed,
    whole_file,
    write_folder,
    write_whole,
)


def test_a_file_is_replaced_as_a_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_whole(path, b"one")
    with pytest.raises(CannotWrite, match="disk full"), whole_file(path) as half:
        half.write_text("ha")
        raise OSError("disk full")
    assert path.read_text() == "one" and list(path.parent.iterdir()) == [path]
    write_whole(path, b"two")
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_is_there_with_all_its_files_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with pytest.raises(CannotWrite):
        write_folder(folder, {"a": b"one", "no/such/folder": b"two"})
    assert list(tmp_path.iterdir()) == []
    write_folder(folder, {"a": b"one", "b": b"two"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a": b"one", "b": b"two"}


def test_a_sealed_object_with_another_value_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "seal.json"
    path.write_bytes(sealed({"segment": 12}))
    assert unsealed(path) == {"segment": 12}
    path.write_bytes(path.read_bytes().replace(b"12", b"13"))
    assert unsealed(path) is None


def test_the_hash_of_a_file_is_that_of_its_bytes_however_long_it_is(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000  # more than one piece
    (tmp_path / "file").write_bytes(content)

    assert sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()
