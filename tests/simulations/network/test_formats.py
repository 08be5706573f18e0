"""Every format gives the rates that were written in it, and its line in the docs reads it."""

import gzip
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from plugin_cases import config_of
from trace_cases import BOTH_WAYS, DOWN, UP, WRITERS

import cdc_flower
from cdc_flower.core.errors import UserError
from cdc_flower.simulations.network.formats import trace_formats
from cdc_flower.simulations.network.formats.reading import read_links
from cdc_flower.simulations.network.recordings import read_recordings
from cdc_flower.simulations.network.trace import Trace
from cdc_flower.study.fleet_setup import network_of

DOCS = (Path(__file__).parents[3] / "docs" / "network.md").read_text()
TRACES = yaml.safe_load(
    (Path(cdc_flower.__file__).parent / "configs" / "network" / "traces.yaml").read_text()
)
LINES = dict(re.findall(r"^\| `(\w+)` \|.*`(network=traces [^`]*)` \|$", DOCS, re.M))


def carried(trace: Trace) -> list[float]:
    """Mbit of each whole second."""
    total = np.append(0.0, np.cumsum(np.diff(trace.edges_s) * trace.rates_bps)) / 1e6
    seconds = np.arange(round(trace.duration_s) + 1)
    return np.diff(np.interp(seconds, trace.edges_s, total)).tolist()


def test_each_format_of_the_package_is_made_here_and_has_a_line_in_the_docs() -> None:
    own = {name for name in trace_formats if "cdc_flower" in trace_formats[name].value.__module__}
    assert own == set(WRITERS) == set(LINES)


@pytest.mark.parametrize("format", sorted(WRITERS))
def test_the_rates_that_were_written_are_read(format: str) -> None:
    links = read_links(format, WRITERS[format](DOWN, UP), "made")
    down = links[0].down
    assert down is not None
    np.testing.assert_allclose(carried(down), DOWN, atol=0.012 if format == "mahimahi" else 1e-9)
    assert (links[0].up is not None) == (format in BOTH_WAYS)
    if links[0].up is not None:
        np.testing.assert_allclose(carried(links[0].up), UP)


@pytest.mark.parametrize("format", sorted(WRITERS))
def test_the_line_of_the_docs_reads_it(format: str, tmp_path: Path) -> None:
    (tmp_path / "FILE").write_text(WRITERS[format](DOWN, UP))
    changes = [word.split("=") for word in shlex.split(LINES[format])]
    assert changes.pop(0) == ["network", "traces"]
    config = {**TRACES, **{key.removeprefix("network."): value for key, value in changes}}
    traces = network_of({**config, "path": str(tmp_path / config["path"])}).traces
    several = format in ("availability", "lumos5g", "puffer")
    assert len(traces) == (2 if several else 1)
    assert several or carried(traces[0].down) == pytest.approx(list(DOWN), abs=0.012)


def test_a_line_of_the_docs_with_columns_is_one_of_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "FILE").write_text("t,bw\n0,3\n1,3\n")
    words = shlex.split(re.search(r"`('network\.columns=.*?')`", DOCS)[1])
    line = LINES["csv"].replace("FILE", str(tmp_path / "FILE")).split()
    (pair,) = network_of(config_of(*line, *words)["network"]).traces
    assert pair.down.mean_bps == 3e3 and pair.up.mean_bps == pytest.approx(600)


@pytest.mark.parametrize("format", sorted(set(WRITERS) - BOTH_WAYS))
def test_an_uplink_of_its_own_is_a_file_with_up_in_its_name(format: str, tmp_path: Path) -> None:
    (tmp_path / "bus.down.log").write_text(WRITERS[format](DOWN, UP))
    (tmp_path / "bus.up.log.gz").write_bytes(gzip.compress(WRITERS[format](UP, DOWN).encode()))
    for pair in read_recordings(tmp_path, format):
        assert pair.up.mean_bps != pytest.approx(pair.down.mean_bps * 0.2)
        assert "bus.up" in pair.up.name and "bus.down" in pair.down.name


def test_a_missing_uplink_is_told_with_its_ratio(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "a").write_text("0 1\n1 2\n")
    read_recordings(tmp_path, "pensieve", up_ratio=0.5)
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "1 of 1 recording has one direction: the rate up is 0.5 of that down" in told
    (tmp_path / "a").write_text(WRITERS["csv"](DOWN, UP))
    read_recordings(tmp_path, "csv")
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("format", "rtt_s", "loss"),
    [
        ("csv", 0.08, 0.02),
        ("5g_csv", 0.07, 0.25),
        ("iperf3_json", 0.07, None),
        ("iperf", None, 0.02),
        ("tc", 0.06, 0.02),
        ("puffer", 0.05, None),
        ("pensieve", None, None),
    ],
)
def test_round_trip_time_and_loss_are_those_of_the_file_on_request(
    format: str, rtt_s: float | None, loss: float | None, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text(WRITERS[format](DOWN, UP))
    (first, *_) = sorted(
        read_recordings(tmp_path, format, measured=True), key=lambda pair: pair.rtt_s or 0
    )
    assert first.rtt_s == (None if rtt_s is None else pytest.approx(rtt_s))
    assert first.loss == (None if loss is None else pytest.approx(loss))
    assert read_recordings(tmp_path, format)[0].rtt_s is None


def test_runs_and_sessions_and_devices_are_links_of_their_own(tmp_path: Path) -> None:
    for format in ("lumos5g", "puffer", "availability"):
        links = read_links(format, WRITERS[format](DOWN, UP), "made")
        assert len(links) == 2 and len({link.name for link in links}) == 2
    (_, second) = read_links("availability", WRITERS["availability"](DOWN, UP), "made")
    assert second.down is not None
    assert carried(second.down) == pytest.approx([1.5, 0, 0, 4, 0])  # as long as the first
    (_, half) = read_links("lumos5g", WRITERS["lumos5g"](DOWN, UP), "made")
    assert half.down is not None and carried(half.down) == pytest.approx([r / 2 for r in DOWN])


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("mahimahi", WRITERS["hsdpa_raw"](DOWN, UP)),
        ("pensieve", WRITERS["5g_csv"](DOWN, UP)),
        ("pensieve", WRITERS["iperf3_json"](DOWN, UP)),
        ("csv", WRITERS["lumos5g"](DOWN, UP)),
        ("oboe", WRITERS["tc"](DOWN, UP)),
        ("hsdpa_raw", WRITERS["pensieve"](DOWN, UP)),
    ],
)
def test_an_error_names_the_format_that_the_file_looks_like(
    format: str, text: str, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text(text)
    with pytest.raises(
        UserError, match=r"a, .*; it looks like (\w+).* \(network\.format\)"
    ) as told:
        read_recordings(tmp_path, format)
    named = re.search(r"it looks like (\w+)", str(told.value))
    assert named is not None and len(read_recordings(tmp_path, named[1])) >= 1


@pytest.mark.parametrize(
    ("format", "text", "rule"),
    [
        ("csv", "time_s,down\n0,1\n1,2\n", "line 1: the name of a column must say its unit, as"),
        ("csv", "time_s,speed\n0,1\n1,2\n", "line 1: the header must have a column for down, such"),
        (
            "csv",
            "time_s,dl_mbps,rate_mbps\n0,1,1\n1,2,2\n",
            "may both be down; say network",
        ),
        ("csv", "time_s,dl_mbps\n0,1\n1,x\n", "line 3: dl_mbps must be a number >= 0, got 'x'"),
        ("csv", "time_s,dl_mbps\n1,1\n0,2\n", "line 3: times must ascend"),
        (
            "csv",
            "time,dl_mbps\n2019-12-16T13:40:04,1\n2019-99-16T13:40:04,2\n",
            "line 3: time must",
        ),
        ("csv", "time_s,dl_mbps,loss\n0,1,2\n1,2,3\n", "line 2: loss must be a number >= 0 and at"),
        ("csv", "time_s,dl_mbps\n0,1,5\n1,2,5\n", "line 2: a row must have 2 fields"),
        (
            "availability",
            "device,start,end,rate_kbps\na,0,5,1\na,4,6,1\n",
            "line 3: intervals of",
        ),
        ("availability", "device,start,end,rate_kbps\na,5,5,1\n", "line 2: an end must be after"),
        ("tc", "tc qdisc add rate 5quux\nsleep 1\n", "line 1: a unit must be one of bit, kbit"),
        ("tc", "sleep 1\n", "line 1: a log of tc must have commands with a rate"),
        ("iperf", "hello\n", "line 1: a log of iperf must have intervals"),
        ("iperf3_json", "{", "line 1: must be JSON of iperf3 -J"),
        ("iperf3_json", '{"error": "unable to connect"}', "got 'unable to connect'"),
        ("iperf3_json", "[" * 100_000, "line 1: must be JSON of iperf3 -J"),
        ("hsdpa_raw", "1 1000 5 5 10 0\n2 2000 5 5 10 1000\n", "line 1: milliseconds that bytes"),
        ("lumos5g", "run_num,seq_num\n1,1\n", "line 1: the header must have Throughput"),
        ("puffer", "session_id,delivery_rate\na,1\n", "line 1: the header must have time (ns GMT)"),
        ("pensieve", "0 1\n1 2\n1500000000000 1\n", "line 3: a time must be a number >= 0 and at"),
    ],
)
def test_a_mistake_in_a_log_is_one_sentence_with_its_place(
    format: str, text: str, rule: str, tmp_path: Path
) -> None:
    (tmp_path / "bad").write_text(text)
    with pytest.raises(UserError) as told:
        read_recordings(tmp_path, format)
    assert str(told.value).startswith("bad") and rule in str(told.value)
    assert "\n" not in str(told.value)


def test_units_come_from_names_or_from_the_configuration() -> None:
    rates = {}
    for name, columns in (
        ("down_mbps", {}),
        ("Downlink (MB/s)", {}),
        ("Throughput [kbit/s]", {}),
        ("bandwidth", {"rate_unit": "Gbit/s"}),
        ("x y", {"down": "x y", "rate_unit": "bit/s"}),
    ):
        (link,) = read_links("csv", f"t,{name}\n0,8\n1,8\n", "made", columns)
        assert link.down is not None
        rates[name] = link.down.mean_bps
    assert list(rates.values()) == [8e6, 64e6, 8e3, 8e9, 8]


@pytest.mark.parametrize(
    ("times", "columns"),
    [
        ("2024-05-01T10:00:00Z 2024-05-01T10:00:02Z", {}),
        ("1700000000 1700000002", {}),
        ("1700000000000 1700000002000", {}),
        ("1700000000000000000 1700000002000000000", {}),
        ("0 2000", {"time_unit": "ms"}),
    ],
)
def test_times_may_be_dates_or_count_from_1970_in_any_unit(
    times: str, columns: dict[str, str]
) -> None:
    first, second = times.split()
    (link,) = read_links("csv", f"time,dl_mbps\n{first},1\n{second},2\n", "made", columns)
    assert link.down is not None and link.down.edges_s == pytest.approx([0, 2, 4])


def test_columns_are_refused_where_a_format_has_none_and_a_wrong_key_is_told(
    tmp_path: Path,
) -> None:
    (tmp_path / "a").write_text("0 1\n1 2\n")
    with pytest.raises(UserError, match="availability, csv take columns"):
        read_recordings(tmp_path, "pensieve", columns=(("down", "x"),))
    with pytest.raises(UserError, match="did you mean 'down'"):
        read_links("csv", "t,dl_mbps\n0,1\n1,1\n", "made", {"dowm": "dl_mbps"})


def test_iperf_reads_its_other_layouts() -> None:
    bidir = (
        "[  5][TX-C]   0.00-1.00   sec  1.25 MBytes  10.0 Mbits/sec    0   14.1 KBytes\n"
        "[  7][RX-C]   0.00-1.00   sec  1.25 MBytes  20.0 Mbits/sec\n"
        "[  5][TX-C]   1.00-2.00   sec  1.25 MBytes  30.0 Mbits/sec    0   14.1 KBytes (omitted)\n"
    )
    (link,) = read_links("iperf", bidir, "made")
    assert link.up is not None and link.up.mean_bps == 10e6 and link.up.duration_s == 1
    assert link.down is not None and link.down.mean_bps == 20e6
    second = (
        "[  3]  0.0- 1.0 sec  1.00 MBytes  1.00 MBytes/sec\n"
        "[  4]  0.0- 1.0 sec  1.00 MBytes  1.00 MBytes/sec\n"
        "[  3]  1.0- 2.0 sec  1.00 MBytes  3.00 MBytes/sec\n"
        "[  4]  1.0- 2.0 sec  1.00 MBytes  1.00 MBytes/sec\n"
        "[  3]  0.0- 2.0 sec  1.00 MBytes  9.00 MBytes/sec\n"
    )
    (link,) = read_links("iperf", second, "made")
    assert link.up is not None and carried(link.up) == pytest.approx([16.777216, 33.554432])
    udp = {"intervals": [{"sum": {"start": 0, "end": 1, "bits_per_second": 1, "lost_percent": 7}}]}
    (link,) = read_links("iperf3_json", json.dumps(udp), "made")
    assert link.loss == pytest.approx(0.07) and link.down is None


def test_tc_samples_of_a_queue_and_its_own_units() -> None:
    sample = (
        "{}\nqdisc netem 1: root refcnt 2\n Sent {} bytes {} pkt (dropped {}, overlimits 0)\n"
        " backlog 0b 0p requeues 0\n"
    )
    text = sample.format(100.0, 0, 0, 0) + sample.format(102.0, 250_000, 90, 10)
    (link,) = read_links("tc", text, "made")
    assert link.down is not None and link.down.mean_bps == 1e6 and link.down.duration_s == 2
    assert link.loss == pytest.approx(0.1)
    (link,) = read_links("tc", "tc class change dev eth0 htb rate 1mbps ceil 2mbit\nsleep 3\n", "m")
    assert link.down is not None and link.down.mean_bps == 8e6  # mbps is megabytes to tc


def test_a_repeated_second_is_averaged_and_told_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "a").write_text("0 1\n1 2\n1 4\n2 5\n")
    (pair,) = read_recordings(tmp_path, "pensieve")
    assert carried(pair.down) == [3, 5]
    assert "1 row with the time of the row before merged, the first in a, line 3" in (
        capsys.readouterr().err
    )
    with pytest.raises(UserError, match="a, line 3: times must ascend"):
        read_recordings(tmp_path, "pensieve", repeated="raise")
