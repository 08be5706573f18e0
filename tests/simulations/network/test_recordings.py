import gzip
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

import cdc_flower
from cdc_flower.core.errors import UserError
from cdc_flower.simulations.network.formats import trace_formats
from cdc_flower.simulations.network.formats.g_nettrack import read_5g_csv
from cdc_flower.simulations.network.formats.mahimahi import read_mahimahi
from cdc_flower.simulations.network.formats.oboe import read_oboe
from cdc_flower.simulations.network.formats.pensieve import read_pensieve
from cdc_flower.simulations.network.recordings import part_of, read_recordings
from cdc_flower.study.fleet_setup import network_of

HEAD = "Timestamp,State,DL_bitrate,UL_bitrate\n"
ROW = "2019.12.16_13.40.{:02d},{},{},{}\n"
REAL = Path(os.environ.get("CDC_FLOWER_DATA", "/nowhere")) / "net"


def test_pensieve_by_hand() -> None:
    trace = read_pensieve("0.0 9\n2.0 1.5\n5.0 0.5\n", "t").down
    assert trace.edges_s.tolist() == [0, 2, 5]
    assert trace.rates_bps.tolist() == [1.5e6, 0.5e6]  # the rate of a line is that until its time
    assert trace.mean_bps == pytest.approx(0.9e6)


def test_oboe_by_hand() -> None:
    trace = read_oboe("137.0 437\n3137.0 437\n4137 900\n", "t").down
    np.testing.assert_allclose(trace.edges_s, [0, 3, 4])
    assert trace.rates_bps.tolist() == [437e3, 900e3]


def test_mahimahi_by_hand() -> None:
    trace = read_mahimahi("1\n1\n4\n", "Link").down
    np.testing.assert_allclose(trace.edges_s, [0, 0.001, 0.003, 0.004])
    assert trace.rates_bps.tolist() == [24e6, 0, 12e6]


def test_a_5g_log_by_hand_has_both_ways_and_idle_rows_do_not_count() -> None:
    rows = [(0, "D", 100, 10), (0, "D", 300, 30), (1, "I", 0, 0), (3, "D", 50, 0)]
    read = read_5g_csv(HEAD + "".join(ROW.format(*row) for row in rows), "t")
    assert read.down.edges_s.tolist() == [0, 3, 4]
    assert read.down.rates_bps.tolist() == [200e3, 50e3]
    assert read.up.rates_bps.tolist() == [20e3, 0]


@pytest.mark.parametrize(
    ("format", "text", "place"),
    [
        ("mahimahi", "", "line 1: a trace must not be empty"),
        ("mahimahi", "\n \n", "line 1: a trace must not be empty"),
        ("mahimahi", "0\n0\n", "line 2: a trace must last longer"),
        ("mahimahi", "5\n3\n", "line 2: times must not go back"),
        ("mahimahi", "-1\n3\n", "line 1: a time must be >= 0"),
        ("mahimahi", "1\n\nfast\n", "line 3: a line must be a whole number"),
        ("mahimahi", "1\n2.5\n", "line 2: a line must be a whole number"),
        ("pensieve", "", "line 1: a trace must not be empty"),
        ("pensieve", "0 1\n", "line 1: a trace must have at least two lines"),
        ("pensieve", "0 0\n1 0\n2 0\n", "lines 1 to 3: a trace must carry something"),
        ("pensieve", "0 1\n2 1\n1 1\n", "line 3: times must ascend"),
        ("pensieve", "0 1\n0 1\n", "line 2: a trace must have at least two lines"),
        ("pensieve", "0 1\n1 -2\n", "line 2: a rate must be a number >= 0, got '-2'"),
        ("pensieve", "0 1\n1 nan\n", "line 2: a rate must be a number >= 0, got 'nan'"),
        ("pensieve", "0 1\n1 inf\n", "line 2: a rate must be a number >= 0, got 'inf'"),
        ("pensieve", "0 1\n1 fast\n", "line 2: a rate must be a number >= 0, got 'fast'"),
        ("pensieve", "0 1\n1\n", "line 2: a line must be a time and a rate"),
        ("oboe", "0 1\n-5 1\n", "line 2: a time must be a number >= 0"),
        ("5g_csv", "", "a trace must not be empty"),
        ("5g_csv", "a,b\n", "line 1: the header must have Timestamp"),
        ("5g_csv", HEAD, "must have rows below its header"),
        ("5g_csv", HEAD + ROW.format(5, "I", 1, 1), "rows that are not idle"),
        (
            "5g_csv",
            HEAD + "2019.12.16_13.40.04,D,x,1\n",
            "line 2: DL_bitrate must be a number >= 0, got 'x'",
        ),
        ("5g_csv", HEAD + "yesterday,D,1,1\n", "line 2: Timestamp must be a date that exists"),
        ("5g_csv", HEAD + "2019.12.16_13.40.04,D,1\n", "line 2: a row must have 4 fields"),
        (
            "5g_csv",
            HEAD + ROW.format(5, "D", 1, 1) + ROW.format(4, "D", 1, 1),
            "line 3: times must not go back",
        ),
        ("5g_csv", HEAD + ROW.format(5, "D", 0, 0), "a trace must carry something"),
    ],
)
def test_a_mistake_is_one_error_with_file_and_line(
    format: str, text: str, place: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.trace").write_text(text)
    with pytest.raises(UserError) as error:
        read_recordings(tmp_path, format)
    assert str(error.value).startswith("bad.trace") and place in str(error.value)
    assert "\n" not in str(error.value)


def write_two(folder: Path) -> None:
    folder.mkdir()
    (folder / "a").write_text("0 1\n1 2\n2 3\n")
    (folder / "b").write_text("0 1\n1 5\n2 6\n")
    (folder / "same-as-a").write_text("0.0 1.0\n1.0 2.0\n2.0 3.0\n")


def test_a_folder_and_archives_give_the_same_and_repeats_count_once(tmp_path: Path) -> None:
    write_two(tmp_path / "d")
    with tarfile.open(tmp_path / "t.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "d", "d")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as packed:
        for path in (tmp_path / "d").iterdir():
            packed.write(path, path.name)
        packed.writestr("__MACOSX/._a", "junk")
    read = [read_recordings(tmp_path / name, "pensieve") for name in ("d", "t.tar.gz", "z.zip")]
    assert [len(pairs) for pairs in read] == [2, 2, 2]
    assert len({tuple(pair.content_hash() for pair in pairs) for pairs in read}) == 1
    assert len(read_recordings(tmp_path / "d" / "b", "pensieve")) == 1


def test_the_parts_are_disjoint_and_do_not_depend_on_names(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
    for k in range(40):
        text = "".join(f"{t} {rng.uniform(0.1, 9):.3f}\n" for t in range(5))
        (tmp_path / "one" / f"{k}").write_text(text)
        (tmp_path / "other" / f"x{39 - k}").write_text(text)
    hashes = {
        (folder, part): [
            pair.content_hash()
            for pair in read_recordings(tmp_path / folder, "pensieve", part=part)
        ]
        for folder in ("one", "other")
        for part in ("tune", "report", "all")
    }
    assert hashes["one", "tune"] == hashes["other", "tune"]
    assert not set(hashes["one", "tune"]) & set(hashes["other", "report"])
    assert sorted(hashes["one", "tune"] + hashes["one", "report"]) == hashes["one", "all"]
    assert 4 <= len(hashes["one", "tune"]) <= 20
    assert all(part_of(key) == "tune" for key in hashes["one", "tune"])


def profile(name: str) -> dict[str, object]:
    folder = Path(cdc_flower.__file__).parent / "configs" / "network"
    return yaml.safe_load((folder / f"{name}.yaml").read_text())


def write_some(folder: Path, count: int) -> None:
    rng = np.random.default_rng(1)
    folder.mkdir()
    for k in range(count):
        rows = (f"{second} {rng.uniform(0.1, 9):.3f}\n" for second in range(5))
        (folder / f"{k}").write_text("".join(rows))


def test_all_recordings_of_ones_own_are_used_and_named_collections_are_in_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_some(tmp_path / "own", 20)
    for k in range(20):
        assert network_of({**profile("traces"), "path": str(tmp_path / "own" / f"{k}")}).traces
    assert len(network_of({**profile("traces"), "path": str(tmp_path / "own")}).traces) == 20
    capsys.readouterr()
    named = network_of({**profile("oboe"), "format": "pensieve", "path": str(tmp_path / "own")})
    assert 5 < len(named.traces) < 20
    told = f"{len(named.traces)} of 20 recordings are of the part report; network.part=all reads"
    assert told in capsys.readouterr().err


def test_a_part_that_has_nothing_names_the_way_out(tmp_path: Path) -> None:
    write_some(tmp_path / "own", 20)
    tuned = read_recordings(tmp_path / "own", "pensieve", part="tune")[0].name
    with pytest.raises(UserError, match=r"no recording of the part 'report'.*network\.part=all"):
        read_recordings(tmp_path / "own" / tuned, "pensieve", part="report")


def test_the_part_of_a_recording_does_not_depend_on_its_pings(tmp_path: Path) -> None:
    head = HEAD.replace("\n", ",PINGAVG\n")
    (tmp_path / "own").mkdir()
    for k in range(12):
        rows = "".join(ROW.format(s, "D", 100 * k + 1, 50 + s) for s in (1, 2))
        (tmp_path / "own" / f"{k}").write_text(head + rows.replace("\n", f",{k + 9}\n"))
    reports = [
        read_recordings(tmp_path / "own", "5g_csv", part="report", measured=measured)
        for measured in (False, True)
    ]
    names = [{pair.name for pair in pairs} for pairs in reports]
    assert names[0] == names[1] and 0 < len(names[0]) < 12


def test_directions_of_one_link_belong_together_and_a_missing_one_is_a_share_of_the_other(
    tmp_path: Path,
) -> None:
    (tmp_path / "L.up.gz").write_bytes(gzip.compress(b"10\n20\n"))
    (tmp_path / "L.down.gz").write_bytes(gzip.compress(b"5\n"))
    (tmp_path / "M.down").write_text("4\n")
    pairs = {pair.name: pair for pair in read_recordings(tmp_path, "mahimahi", up_ratio=0.25)}
    assert pairs["L.up.gz"].up.duration_s == 0.02 and pairs["L.up.gz"].down.duration_s == 0.005
    assert pairs["M.down"].up.mean_bps == pytest.approx(0.25 * pairs["M.down"].down.mean_bps)


def test_a_bad_file_can_be_skipped_and_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_two(tmp_path / "d")
    (tmp_path / "d" / "z").write_text("0 x\n")
    assert len(read_recordings(tmp_path / "d", "pensieve", on_error="skip")) == 2
    assert "1 malformed file skipped, first z, line 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"format": "pensive"}, "did you mean 'pensieve'"),
        ({"part": "test"}, "unknown part"),
        ({"up_ratio": 0}, "up_ratio must be > 0"),
        ({"files": "nothing*"}, "has no recording of the part 'all' that matches 'nothing*'"),
        (
            {"path": "/nowhere/at/all"},
            "must be an existing path, got ./nowhere/at/all",
        ),
    ],
)
def test_a_wrong_setting_is_one_error(change: dict, rule: str, tmp_path: Path) -> None:
    write_two(tmp_path / "d")
    with pytest.raises(UserError, match=rule.replace("*", r"\*")):
        read_recordings(**{"path": tmp_path / "d", "format": "pensieve", **change})


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="CDC_FLOWER_DATA names no folder with net/")
@pytest.mark.parametrize(
    ("name", "format", "count"),
    [
        ("mahimahi", "mahimahi", 7),
        ("comyco_hsdpa_fcc.tar.gz", "pensieve", 269),
        ("oboe.tar.gz", "oboe", 427),
        ("5G-production-dataset.zip", "5g_csv", 83),
    ],
)
def test_real_recordings(name: str, format: str, count: int) -> None:
    pairs = read_recordings(REAL / name, format, on_error="skip")
    assert len(pairs) == count and format in trace_formats
    assert all(1e3 < pair.down.mean_bps < 1e9 for pair in pairs)


def test_a_file_is_read_once_for_all_runs_of_a_process_until_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    config = {
        "name": "traces",
        "path": str(path),
        "format": "pensieve",
        "part": "all",
        "rtt_s": 0.1,
    }
    path.write_text("0 1\n1 2\n")
    first = network_of(config)
    assert network_of(config).traces[0] is first.traces[0]
    assert network_of({**config, "up_ratio": 0.5}).traces[0] is not first.traces[0]
    path.write_text("0 1\n1 5\n")
    os.utime(path, ns=(0, 0))
    assert network_of(config).traces[0].down.mean_bps == 5e6
    with pytest.raises(UserError, match="must be an existing path"):
        network_of({**config, "path": str(tmp_path / "nothing")})
