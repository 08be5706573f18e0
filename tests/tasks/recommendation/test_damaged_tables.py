"""Damaged, dangerous and foreign files: one line, and no traceback, hang or flood of memory."""

import bz2
import gzip
import io
import json
import lzma
import os
import random
import resource
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from mutants import Mutants
from reading_cases import events, message, options_of, read

from cdc_flower.core.errors import UserError
from cdc_flower.core.opening import limits
from cdc_flower.study.data_files import data_facts
from cdc_flower.tasks.recommendation.event_files import read_parts

ROWS = b"user_id,item_id,rating,timestamp\n" + b"".join(
    b"%d,%d,3.5,%d\n" % (number % 7, number % 11, 10**9 + number) for number in range(60)
)


def zipped(raw: bytes) -> bytes:
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ratings.csv", raw)
    return found.getvalue()


def zstandard(raw: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(raw)
    return bytes(sink.getvalue())


def parquet(raw: bytes) -> bytes:
    found = io.BytesIO()
    pd.read_csv(io.BytesIO(raw)).to_parquet(found)
    return found.getvalue()


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda raw: gzip.compress(raw, mtime=0),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard,
    "zip": zipped,
    "parquet": parquet,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.txt"


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_damaged_archive_is_told_in_one_line(file: Path, kind: str, on_error: str) -> None:
    nothing = f": nothing is left to read (1 damaged file skipped, first {file}"
    start = nothing if on_error == "skip" else ""
    whole = PACK[kind](ROWS)
    for cut in (len(whole) // 2, len(whole) - 6, 7):
        told = message(file, whole[:cut], on_error=on_error)
        assert told.startswith(f"{start}: must be a whole {kind} file (")
    if kind in ("zip", "parquet", "zstd"):
        return  # a few bytes of these concern nothing, and zstd has no checksum
    middle = len(whole) // 2
    damaged = whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :]
    assert message(file, damaged, on_error=on_error).startswith(f"{start}:")


def test_an_encrypted_zip_is_told(file: Path) -> None:
    raw = bytearray(zipped(ROWS))
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    assert message(file, bytes(raw)) == ": must not be encrypted"


def test_damaged_parts_are_skipped_and_counted(tmp_path: Path) -> None:
    for number, raw in enumerate((b"user,item\na,1\n", b"user,item\nb,2\n", b"user,item\nc,3\n")):
        packed = gzip.compress(raw, mtime=0)
        (tmp_path / f"part-{number}.csv.gz").write_bytes(packed[:-9] if number == 1 else packed)
    with pytest.raises(
        UserError, match=r"part-1.csv.gz: must be a whole gzip file \(it ends too soon\)"
    ):
        read_parts(options_of(tmp_path))
    found = read_parts(options_of(tmp_path, on_error="skip"))
    assert events(found) == [("a", "1", None), ("c", "3", None)]
    (note,) = (note for note in found.notes if "damaged" in note)
    part = tmp_path / "part-1.csv.gz"
    assert note.startswith(f"1 damaged file skipped, first {part}: must be a whole gzip file (")


def test_a_zip_of_several_files_asks_which(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.csv", "user,item\na,1\n")
        archive.writestr("b/c.csv", "user,item\nb,1\n")
    raw = file.read_bytes()
    assert "one file, or data.files name which, got a.csv, b/c.csv" in message(file, raw)
    assert "must hold one of d.csv, got a.csv" in message(file, raw, files=["d.csv"])
    assert events(read(file, raw, files=["c.csv"])) == [("b", "1", None)]


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd", "zip"])
@pytest.mark.parametrize("line", [b"1 2 3 4\n", b"12345678"])
def test_a_bomb_is_refused_before_it_fills_the_memory(
    file: Path, kind: str, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FREE_BYTES", 2**18)
    bomb = PACK[kind](line * 2**17)
    assert len(bomb) < 2**12
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = message(file, bomb)
    assert f": must expand to at most 100 times its {len(bomb):,} bytes, or to 262,144" in told
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_a_sparse_file_of_20_gb_is_no_text(file: Path) -> None:
    with file.open("wb") as out:
        out.truncate(20 * 10**9)
    with pytest.raises(UserError, match=r":1: must be text, got a zero byte"):
        read_parts(options_of(file))


def test_pipes_devices_and_folders_in_folders_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "pipe"), (Path("/dev/zero"), "device")):
        with pytest.raises(UserError, match=f"data.path must be a file or a folder, got a {kind}"):
            read_parts(options_of(path))
    (tmp_path / "inner").mkdir()
    with pytest.raises(UserError, match="got no file in the directory"):
        read_parts(options_of(tmp_path))


def test_a_folder_of_parts_is_one_table_without_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "part-0.csv").write_text("user,item,time\na,1,5\n")
    (tmp_path / "part-1.csv").write_text("user,item,time\na,2,4\n")
    (tmp_path / ".DS_Store").write_bytes(b"\0\1")
    (tmp_path / "_SUCCESS").touch()
    assert events(read_parts(options_of(tmp_path))) == [("a", "2", 4), ("a", "1", 5)]
    (tmp_path / "titles.txt").write_text("x\n")
    with pytest.raises(UserError, match=r"files of 2 kinds \(.csv, .txt\)"):
        read_parts(options_of(tmp_path))
    assert read_parts(options_of(tmp_path, files=["part-*.csv"])).events.num_events == 2
    (facts,) = data_facts(
        [{"data": {"path": str(tmp_path), "files": ["part-*.csv"]}, "network": {}}]
    )
    assert facts["files"] == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "looks like HDF5"),
        (b"SQLite format 3\0" + b"\0" * 99, "looks like SQLite"),
        (b"\x93NUMPY\x01\0v\0", "looks like NumPy"),
        (b"PAR1" + b"\0" * 99, "must be a whole parquet file"),
        (b'[{"user": 1, "item": 2}]', "looks like a JSON list; an object a line is read"),
    ],
)
def test_a_file_of_another_kind_is_named(file: Path, content: bytes, words: str) -> None:
    assert words in message(file, content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"reviewerID": "A", "asin": "B", "unixReviewTime": 5}\n' * 2, "JSON lines"),
        ("{'user_id': 'A', 'item_id': 'B'}\n", "lines of Python dictionaries"),
        ('{"1": [2, 3], "4": [5]}', "a JSON object of lists"),
        ("1:\n5,3,2005-09-06\n", "Netflix's blocks of ratings"),
    ],
)
def test_an_error_names_the_format_that_the_file_looks_like(
    file: Path, content: str, words: str
) -> None:
    told = message(file, content, format="delimited", columns=["user", "item"], sep="\t")
    assert f"; it looks like {words} (data.format=" in told
    read(file, content)


MALFORMED = {
    "json_lines": (
        '{"user": "a", "item": "b", "time": 5}\n',
        [
            *("{", "[1]", '{"user": 1.5, "item": 2}', '{"user": "a"}', "[" * 10**5, "9" * 5000),
            *('{"user": "a", "item": "", "time": 5}', '{"user": "a", "item": "b", "time": "x"}'),
        ],
    ),
    "python_lines": ("{'user': 'a', 'item': 'b'}\n", ["{", "(" * 10**5, "f()", "{'user': []}"]),
    "netflix": ("1:\n5,3,2005-09-06\n", ["5,3", "5,3,2005-13-06", ",3,2005-09-06", "x"]),
}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [(name, good, bad) for name, (good, rows) in MALFORMED.items() for bad in rows],
    ids=lambda value: str(value)[:12],
)
def test_a_malformed_line_of_other_formats_is_told_with_its_line_or_skipped(
    file: Path, name: str, good: str, bad: str
) -> None:
    number = good.count("\n") + 1
    told = message(file, f"{good}{bad}\n", format=name)
    assert told.startswith(f":{number}: ") and len(told) < 300
    found = read(file, f"{good}{bad}\n{good}", format=name, on_error="skip")
    assert found.events.num_skipped == 1 and found.events.num_events == 2


def test_a_parquet_file_with_missing_values_is_told_or_skipped(file: Path) -> None:
    rows = pd.DataFrame({"user": [1, None, 3], "item": ["a", "b", "c"], "time": [1.5, 2.5, None]})
    rows.to_parquet(file)
    told = message(file, file.read_bytes())
    assert "row 1 and after: user and item must be texts or whole numbers" in told
    found = read(file, file.read_bytes(), on_error="skip")
    assert events(found) == [("1", "a", 1.5)] and found.events.num_skipped == 2


def test_devices_that_are_not_asked_for_are_dropped_while_reading(file: Path) -> None:
    rows = b"user,item,time\n" + b"".join(b"%d,%d,%d\n" % (9 - n % 7, n % 5, n) for n in range(99))
    whole = read(file, rows).events
    for num_devices in (1, 3, 7):
        part = read_parts(options_of(file), num_devices).events
        assert part.content_hash() == whole.first_devices(num_devices).content_hash()
        assert part.device_names == whole.device_names[:num_devices]
        assert part.item_names == whole.item_names


def test_names_that_turn_from_numbers_to_words_do_not_change_which_devices_are_first(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdc_flower.tasks.recommendation.readers.blocks.BLOCK_BYTES", 16)
    rows = b"user,item\n9,1\n2,1\n10,1\n5,1\n7,1\n8,1\n9,2\n10,3\na,4\nb,5\n"
    whole = read(file, rows).events
    part = read_parts(options_of(file), 1).events
    assert whole.device_names[0] == part.device_names[0] == "10"
    assert part.first_devices(1).content_hash() == whole.first_devices(1).content_hash()


def test_blocks_of_any_size_give_the_same_events(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 'user,item,time,\na,1,5,"a\nb"\r\n"c ""d""",é,6,\n\n7,"x,y",7,\n'.encode()
    wanted = events(read(file, rows))
    assert len(wanted) == 3
    for size in (1, 2, 3, 5, 8, 64):
        monkeypatch.setattr("cdc_flower.tasks.recommendation.readers.blocks.BLOCK_BYTES", size)
        assert events(read(file, rows)) == wanted
        told = message(file, rows + b"\xff,1,8,\n")
        assert told == ":7: must be utf-8 text (data.encoding), got byte 0xff"


@pytest.mark.parametrize("year", ["0001", "1005", "3005", "9999"])
def test_years_beyond_nanoseconds_are_told_as_they_are(file: Path, year: str) -> None:
    found = read(file, f"1:\n5,3,2005-09-06\n6,3,{year}-09-06\n")
    assert f"{year}-09-06 00:00:00" in found.size and "2005-09-06 00:00:00" in found.size


def test_of_a_folder_of_archives_with_several_files_the_wanted_one_tells_what_is_damaged(
    tmp_path: Path,
) -> None:
    for number in range(2):
        with zipfile.ZipFile(tmp_path / f"part-{number}.zip", "w") as archive:
            archive.writestr("ratings.csv", f"user,item\n{number},1\n")
            archive.writestr("movies.csv", "id,title\n1,x\n")
    keys = {"files": ["part-*.zip", "ratings.csv"], "on_error": "skip"}
    found = read_parts(options_of(tmp_path, **keys))
    assert events(found) == [("0", "1", None), ("1", "1", None)] and not found.notes


# Mutations.

SEEDS: dict[str, bytes] = {
    "delimited": ROWS,
    "quoted": b'"user";"item";"time"\r\n' + b'"a";"b, ""c""";"5"\r\n' * 9,
    "spaces": b"1 2 3 4\n5  6\t7 8\n" * 9,
    "json_lines": b'{"user_id": "a", "parent_asin": "b", "timestamp": 1588687728923}\n' * 5,
    "python_lines": b"{u'username': u'a', u'product_id': u'b', u'date': u'2017-12-17'}\n" * 5,
    "json_lists": json.dumps({"1": [2, 3], "4": [5, "6"]}).encode(),
    "netflix": b"1:\n5,3,2005-09-06\n6,1,2005-09-07\n2:\n5,3,2005-09-06\n",
    **{kind: pack(ROWS) for kind, pack in PACK.items()},
}
_BITS = (b"\n", b'"', b",", b"\t", b"\0", b"\xff", b"::", b"nan", b"-1", b"1e308", b"{", b"[", b":")


def mutated(raw: bytes, rng: random.Random) -> bytes:
    """Changes a few bytes: flips, cuts, copies, and what readers look for."""
    data = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        place, kind = rng.randrange(len(data) + 1), rng.randrange(5)
        if kind == 0 and data:
            data[place % len(data)] = rng.randrange(256)
        elif kind == 1:
            del data[place : place + rng.randint(1, 20)]
        elif kind == 2:
            data[place:place] = data[: rng.randint(1, 30)]
        elif kind == 3:
            data[place:place] = rng.choice(_BITS)
        else:
            data[place:place] = struct.pack("<Q", rng.getrandbits(64))
    return bytes(data)


@pytest.mark.parametrize(
    ("start", "count"),
    [
        (0, 30),
        *(pytest.param(part * 500, 500, marks=pytest.mark.long) for part in range(1, 9)),
    ],
)
@pytest.mark.parametrize("name", SEEDS)
def test_a_mutated_file_gives_events_or_one_line(
    file: Path, name: str, start: int, count: int, mutants: Mutants
) -> None:
    for seed in range(start, start + count):
        rng = random.Random(f"{name} {seed}")
        keys = {"on_error": rng.choice(["raise", "skip"])}
        with mutants.one():
            found = read(file, mutated(SEEDS[name], rng), **keys)
            assert found.events.num_events > 0, seed
