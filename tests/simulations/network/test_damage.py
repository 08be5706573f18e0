"""Files that are damaged, hostile or in the way: one sentence with their name, and no waiting."""

import bz2
import gzip
import io
import lzma
import os
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest

from cdc_flower.core.errors import UserError
from cdc_flower.core.opening import limits
from cdc_flower.simulations.network.recordings import read_recordings

GOOD = "0 1\n1 2\n2 3\n"
OTHER = "0 1\n1 7\n2 3\n"
HEAD = "Timestamp,State,DL_bitrate,UL_bitrate\n"
ROW = "2019.12.16_13.40.05,D,{},1\n"


def zipped() -> bytearray:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", GOOD * 1 + "".join(f"{k} {k * 7919 % 97}\n" for k in range(3, 90)))
        archive.writestr("b", OTHER)
    return bytearray(packed.getvalue())


def changed(place: int, flip: int) -> bytes:
    packed = zipped()
    packed[place] ^= flip
    return bytes(packed)


def encrypted() -> bytes:
    packed = zipped()
    packed[packed.index(b"PK\1\2") + 8] |= 1
    return bytes(packed)


def tarred(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


#: Damage -> its bytes, the format that is asked for, the name and the rule that are told.
DAMAGE: dict[str, tuple[bytes, str, str]] = {
    "two bytes of gzip": (b"\x1f\x8b", "pensieve", "bad: must be a whole gzip file (it ends "),
    "gzip of ff bytes": (
        gzip.compress(b"", mtime=0)[:10] + b"\xff" * 40,
        "pensieve",
        "bad: must be a whole gzip file (",
    ),
    "text that is gone": (
        gzip.compress(b"\xff" * 40, mtime=0),
        "pensieve",
        "bad:1: must be utf-8 text, got byte 0xff",
    ),
    "half of gzip": (
        gzip.compress(GOOD.encode(), mtime=0)[:-9],
        "pensieve",
        "bad: must be a whole gzip file (it ends too soon)",
    ),
    "half of bzip2": (
        bz2.compress(GOOD.encode())[:-9],
        "pensieve",
        "bad: must be a whole bzip2 file (it ends too soon)",
    ),
    "half of xz": (
        lzma.compress(GOOD.encode())[:-9],
        "pensieve",
        "bad: must be a whole xz file (it ends too soon)",
    ),
    "zip with a wrong magic": (
        changed(0, 0xFF),
        "pensieve",
        "a in bad: must be a whole zip file (",
    ),
    "zip with a changed byte": (
        changed(60, 0xFF),
        "pensieve",
        "a in bad: must be a whole zip file (",
    ),
    "encrypted zip": (encrypted(), "pensieve", "a in bad: must not be encrypted"),
    "half of tar": (
        tarred(a=os.urandom(9000))[:4000],
        "pensieve",
        "bad: must be a whole gzip file (it ends too soon)",
    ),
    "binary": (b"\0\0bud", "pensieve", "bad:1: must be text, got a zero byte"),
    "parquet": (
        b"PAR1\x15\0\x15",
        "pensieve",
        "bad:1: must be text, got a zero byte, as binary fil",
    ),
    "late packet": (b"1\n9223372036854775807\n", "mahimahi", "bad, line 2: a time must be at most"),
    "later packet": (b"1\n" + b"9" * 30 + b"\n", "mahimahi", "bad, line 2: a time must be at most"),
    "late": (b"0 1\n1e308 1\n", "pensieve", "bad, line 2: a time must be a number >= 0 and at"),
    "fast": (b"0 1\n1 1e303\n", "pensieve", "bad, line 2: a rate must be a number >= 0"),
    "slow": (b"0 1e-320\n1 1e-320\n", "oboe", "bad, lines 1 to 2: the highest rate must be in"),
    "short": (b"0 1\n1e-320 1\n", "pensieve", "bad, lines 1 to 2: a trace must last"),
    "long field": (f"{HEAD}{ROW.format('1' * 131_073)}".encode(), "5g_csv", "bad, line 2: a line"),
    "far year": (
        f"{HEAD}99999999999.02.20_10.00.00,D,1,1\n".encode(),
        "5g_csv",
        "bad, line 2: Tim",
    ),
    "no time": (f"{HEAD}2019.02.20_99.99.99,D,1,1\n".encode(), "5g_csv", "bad, line 2: Timestamp"),
    "no day": (f"{HEAD}2019.02.30_10.00.00,D,1,1\n".encode(), "5g_csv", "bad, line 2: Timestamp"),
    "fast phone": (f"{HEAD}{ROW.format('1e303')}".encode(), "5g_csv", "bad, line 2: DL_bitrate mu"),
    "slow answers": (
        b"tc qdisc add dev a root netem rate 1mbit delay " + b"9" * 305 + b"s\nsleep 5\n",
        "tc",
        "bad, line 1: a delay must be at most 50000 s",
    ),
    "answers beyond numbers": (
        b"time_s,down_mbps,rtt_s\n0,1,1e308\n1,1,1e308\n",
        "csv",
        "bad, line 2: rtt_s must be a number >= 0 and at most 100000",
    ),
    "slow pings": (
        b"Timestamp,State,DL_bitrate,UL_bitrate,PINGAVG\n" + b"2019.12.16_13.40.05,D,1,1,1e300\n",
        "5g_csv",
        "bad, line 2: PINGAVG must be a number >= 0 and at most",
    ),
    "empty": (b"", "pensieve", "bad, line 1: a trace must not be empty"),
}


@pytest.mark.parametrize("kind", sorted(DAMAGE))
def test_damage_is_one_sentence_with_its_place(kind: str, tmp_path: Path) -> None:
    content, format, rule = DAMAGE[kind]
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(UserError) as told:
        read_recordings(tmp_path / "bad", format)
    assert str(told.value).startswith(rule) and "\n" not in str(told.value)


@pytest.mark.parametrize("kind", sorted(kind for kind in DAMAGE if DAMAGE[kind][1] == "pensieve"))
def test_damage_can_be_skipped_and_is_counted(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "bad").write_bytes(DAMAGE[kind][0])
    (tmp_path / "good").write_text("0 5\n1 4\n")
    pairs = read_recordings(tmp_path, "pensieve", on_error="skip")
    whole = {"bad/b"} if kind.startswith(("zip", "encrypted")) else set()
    assert {pair.name for pair in pairs} == {"good", *whole}
    told = capsys.readouterr().err
    assert re.search(
        r"1 (damaged|malformed) file skipped, first bad|1 damaged file skipped, first a in", told
    )
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    "pack",
    [gzip.compress, bz2.compress, lzma.compress, lambda data: pyarrow.compress(data, "zstd", True)],
    ids=["gzip", "bzip2", "xz", "zstd"],
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
def test_compressed_text_is_read_whatever_its_name(
    pack: Callable[[bytes], bytes], mark: bytes, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(pack(mark + GOOD.encode()))
    (tmp_path / "b").write_text(GOOD, encoding="utf-16")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("c.gz", pack(mark + GOOD.encode()))
    (pair,) = read_recordings(tmp_path, "pensieve")  # the same content in each
    assert pair.down.rates_bps.tolist() == [2e6, 3e6]


def test_what_expands_without_end_is_refused_at_a_multiple(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FREE_BYTES", 2**20)
    zeros = b"0" * 2**21
    (tmp_path / "a.gz").write_bytes(gzip.compress(zeros))
    (tmp_path / "b.tgz").write_bytes(tarred(x=zeros))
    (tmp_path / "c.zip").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "c.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", zeros[: 2**19])
        archive.writestr("y", zeros[: 2**19] + b"1")
        archive.writestr("z", zeros)
    for name in ("a.gz", "b.tgz"):
        with pytest.raises(
            UserError, match=rf"{name}: must expand to at most 100 times its [\d,]+ bytes"
        ):
            read_recordings(tmp_path / name, "pensieve")
    words = (
        r"nothing is left to read in .*c.zip: 1 damaged file and 1 malformed file skipped, first"
    )
    with pytest.raises(UserError, match=words):
        read_recordings(tmp_path / "c.zip", "pensieve", on_error="skip")
    (tmp_path / "fine.gz").write_bytes(gzip.compress(GOOD.encode() + b"3 " + b"1" * 2**16))
    with pytest.raises(UserError, match="line 4: a line must have at most"):
        read_recordings(tmp_path / "fine.gz", "pensieve")


def test_a_sparse_file_and_a_long_member_are_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(20 * 2**30)
    with pytest.raises(UserError, match=r"sparse: a file must have at most 268,435,456 bytes"):
        read_recordings(tmp_path / "sparse", "pensieve")


def test_pipes_and_devices_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(
            UserError, match=r"network.path must be a file or a folder, got a (pipe|device)"
        ):
            read_recordings(path, "pensieve")
    (tmp_path / "good").write_text(GOOD)
    assert len(read_recordings(tmp_path, "pensieve")) == 1


@pytest.mark.parametrize("year", ["0001", "3005"])
def test_a_year_beyond_nanoseconds_is_a_time_like_any_other(year: str, tmp_path: Path) -> None:
    rows = "".join(f"{year}-01-01T00:00:0{second},{second + 1}\n" for second in range(3))
    (tmp_path / "made").write_text(f"time,down_mbps\n{rows}")
    (pair,) = read_recordings(tmp_path / "made", "csv")
    assert pair.down.rates_bps.tolist() == [1e6, 2e6, 3e6]


def test_what_lies_beside_recordings_is_left_out_of_folders_and_archives(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "mixed"
    (folder / ".git").mkdir(parents=True)
    (folder / ".git" / "config").write_text("x")
    (folder / ".DS_Store").write_bytes(b"\0\0bud")
    (folder / "README.md").write_text("# traces\n")
    (folder / "norway_bus_1").write_text(GOOD)
    (pair,) = read_recordings(folder, "pensieve")
    assert pair.name == "norway_bus_1" and "no recordings: README.md" in capsys.readouterr().err
    with tarfile.open(tmp_path / "mixed.tar", "w") as archive:
        archive.add(folder, ".")
    (again,) = read_recordings(tmp_path / "mixed.tar", "pensieve")
    assert again.content_hash() == pair.content_hash()


def test_archives_in_a_folder_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(bytes(zipped()))
    (tmp_path / "b.tgz").write_bytes(tarred(x=b"0 9\n1 9\n"))
    names = {pair.name for pair in read_recordings(tmp_path, "pensieve")}
    assert names == {"a.zip/a", "a.zip/b", "b.tgz/x"}
