"""Files of every layout into events."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layout_cases import FULL, JSON, LINES, PAIRS, TAB, message, read, read_events
from omegaconf import OmegaConf

import cdc_flower
from cdc_flower.core.errors import UserError

SETS = (
    "amazon_beauty amazon_grocery amazon_instant_video amazon_videogames interactions "
    "letter_beauty ml_100k ml_1m"
)
CONFIGS = [
    Path(cdc_flower.__file__).parent / "configs" / "data" / f"{name}.yaml" for name in SETS.split()
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.txt"


def test_movielens_rows_become_events_in_time_order(file: Path) -> None:
    table = read(file, "196\t242\t3\t20\n22\t377\t1\t5\n196\t377\t4\t10\n", TAB)
    assert table.device_names == ["22", "196"] and table.item_names == ["242", "377"]
    assert table.offsets.tolist() == [0, 1, 3] and table.items.tolist() == [2, 2, 1]
    assert table.times_s is not None and table.times_s.tolist() == [5.0, 10.0, 20.0]
    assert table.source == str(file) and table.num_skipped == 0


@pytest.mark.parametrize("sep", ["\t", "::", ",", " ", "|", None, "\\t", "\\t|\\t"])
def test_every_separator_gives_the_same_events(file: Path, sep: str | None) -> None:
    written = " \t " if sep is None else sep.replace("\\t", "\t")
    content = "".join(
        written.join(row) + "\n" for row in (["a", "x", "1", "7.5"], ["b", "y", "2", "8"])
    )
    table = read(file, content, TAB, sep=sep)
    assert table.device_names == ["a", "b"] and table.item_names == ["x", "y"]
    assert table.times_s is not None and table.times_s.tolist() == [7.5, 8.0]


def test_a_colon_at_the_end_of_a_field_belongs_to_the_leftmost_separator(file: Path) -> None:
    assert read(file, "a::b:\nc::d\n", PAIRS, sep="::").item_names == ["b:", "d"]


def test_ignored_columns_may_hold_anything_and_time_may_be_absent(file: Path) -> None:
    table = read(file, "junk,1,,2\n?,3,nan,4\n", TAB, sep=",", columns=["_", "item", "_", "user"])
    assert (
        table.device_names == ["2", "4"]
        and table.item_names == ["1", "3"]
        and table.times_s is None
    )


def test_without_times_the_order_of_the_rows_is_kept(file: Path) -> None:
    assert read(file, "1 9\n2 8\n1 3\n1 5\n", PAIRS).items.tolist() == [4, 1, 2, 3]


def test_user_lines_keep_the_order_of_the_items(file: Path) -> None:
    table = read(file, "2 30 10\n1 20\n\n2 20\n", LINES)
    assert table.device_names == ["1", "2"] and table.offsets.tolist() == [0, 1, 4]
    assert table.items.tolist() == [2, 3, 1, 2] and table.times_s is None


def test_json_lists_take_integers_and_strings_and_keep_both_of_two_equal_users(file: Path) -> None:
    table = read(file, '{"2": [30, "10"], "1": [20],\n "2": [20]}', JSON)
    assert table.device_names == ["1", "2"] and table.items.tolist() == [2, 3, 1, 2]


def test_the_three_layouts_of_the_same_events_are_equal(file: Path) -> None:
    tables = [
        read(file, "1 5\n1 6\n2 5\n", PAIRS),
        read(file, "1 5 6\n2 5\n", LINES),
        read(file, '{"1": [5, 6], "2": [5]}', JSON),
    ]
    assert len({table.content_hash() for table in tables}) == 1


def test_gzip_is_known_by_content_and_not_by_name(file: Path) -> None:
    plain = read(file, "1 2\n", PAIRS)
    assert (
        read(file, gzip.compress(b"1 2\n", mtime=0), PAIRS).content_hash() == plain.content_hash()
    )
    assert read(file.with_name("plain.gz"), "1 2\n", PAIRS).content_hash() == plain.content_hash()


def test_line_ends_of_windows_a_byte_order_mark_and_a_missing_last_newline_change_nothing(
    file: Path,
) -> None:
    plain = read(file, "1 2\n1 3\n", PAIRS).content_hash()
    assert read(file, b"\xef\xbb\xbf1 2\r\n1 3", PAIRS, sep=" ").content_hash() == plain


def test_latin_1_is_read_when_it_is_asked_for(file: Path) -> None:
    assert read(file, b"1 caf\xe9\n", PAIRS, encoding="latin-1").item_names == ["café"]
    assert (
        message(file, b"1 2\n1 caf\xe9\n", PAIRS)
        == ":2: must be utf-8 text (data.encoding), got byte 0xe9"
    )


# Headers.


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("user_id\titem_id\tstars\twhen", FULL),
        ("userId\tmovieId\trating\ttimestamp", FULL),
        ("user_id:token\titem_id:token\trating:float\ttimestamp:float", FULL),
        ("USER\tItem", ["user", "item"]),
        ("reviewer\tasin", ["user", "item"]),
    ],
)
def test_a_header_is_recognised(file: Path, header: str, columns: list[str]) -> None:
    row = "1\t2\t3\t4"[: 2 * len(columns) - 1]
    table = read(file, f"\n{header}\n{row}\n", TAB, columns=columns)
    assert table.num_events == 1 and table.item_names == ["2"]


def test_names_of_users_and_items_are_no_header(file: Path) -> None:
    assert read(file, "ann book\nbob film\n", PAIRS).num_events == 2
    assert read(file, "ann book\n", PAIRS).num_events == 1


def test_what_the_config_says_of_the_header_is_believed(file: Path) -> None:
    assert read(file, "1 2\n3 4\n", PAIRS, header=True).device_names == ["3"]
    assert read(file, "user item\n3 4\n", PAIRS, header=False).num_events == 2
    assert read(file, "user items\n3 4\n", LINES).num_events == 1
    assert read(file, "user items\n3 4\n", LINES, header=False).num_events == 2


# Laws.

ID = st.text("abz019:é", min_size=1, max_size=4)
SEPARATORS = st.sampled_from(["\t", "::", ",", " ", None])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(ID, ID, st.integers(0, 10**10)), min_size=1, max_size=20), st.data())
def test_the_reader_equals_a_naive_loop(
    tmp_path_factory, rows: list[tuple[str, str, int]], data
) -> None:
    sep = data.draw(st.sampled_from(["\t", ",", " ", None]))
    blank = data.draw(st.sampled_from(["", "\n", "\r\n"]))
    content = "".join(
        (sep or "  ").join([user, item, "3.5", str(time)]) + "\n" + blank
        for user, item, time in rows
    )
    table = read(tmp_path_factory.mktemp("naive") / "f", content, TAB, sep=sep, header=False)
    naive: dict[str, list[tuple[int, str]]] = {}
    for user, item, time in rows:
        naive.setdefault(user, []).append((time, item))
    for device, name in enumerate(table.device_names):
        events = slice(table.offsets[device], table.offsets[device + 1])
        expected = sorted(naive.pop(name), key=lambda event: event[0])
        assert [table.item_names[item - 1] for item in table.items[events]] == [
            item for _, item in expected
        ]
        assert table.times_s is not None and table.times_s[events].tolist() == [
            time for time, _ in expected
        ]
    assert not naive


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(st.binary(max_size=60), st.text('19 \t,:\n\r.-_e[]{}"\x1f\x85', max_size=60)),
    st.data(),
)
def test_any_bytes_give_events_or_one_line(tmp_path_factory, content: str | bytes, data) -> None:
    base = data.draw(st.sampled_from([TAB, PAIRS, LINES, JSON]))
    keys = {
        "sep": data.draw(SEPARATORS),
        "on_error": data.draw(st.sampled_from(["raise", "skip"])),
        "encoding": data.draw(st.sampled_from(["utf-8", "latin-1", "utf-16", "ascii"])),
    }
    try:
        table = read(tmp_path_factory.mktemp("any") / "f", content, base, **keys)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert table.items.min() >= 1 and table.items.max() == table.num_items
        assert (np.diff(table.offsets) > 0).all() and table.offsets[-1] == table.num_events
        assert all(name.strip() == name != "" for name in table.device_names + table.item_names)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_config_says_how_to_run_it_and_reads_a_file_of_its_layout(
    config: Path, tmp_path: Path
) -> None:
    lines = config.read_text().splitlines()
    assert lines[1].startswith(f"#   cdc-flower data={config.stem} data.path=") and lines[
        2
    ].startswith("# ")
    loaded = OmegaConf.load(config)
    assert OmegaConf.is_missing(loaded, "path") and loaded.name == config.stem
    loaded.path = str(tmp_path / (loaded.files[0] if loaded.files else "f"))
    data: Any = OmegaConf.to_container(loaded)
    if data["format"] == "json_lists":
        content = json.dumps({"1": [7, 8]}, indent=4)
    elif data["format"] == "user_lines":
        content = "1 7 8\n"
    else:
        fields = {
            "user": ["1", "1"],
            "item": ["7", "8"],
            "rating": ["5", "4"],
            "time": ["10", "20"],
        }
        columns, sep = data["columns"] or fields, data["sep"] or " "
        rows = zip(*(fields[name] for name in columns), strict=True)
        content = "".join((" " if sep == "auto" else sep).join(row) + "\n" for row in rows)
    Path(data["path"]).write_text(content)
    table = read_events(data)
    has_times = data["format"] == "auto" or "time" in data.get("columns", [])
    assert table.items.tolist() == [1, 2] and (table.times_s is not None) == has_times
    assert data["cut"] in ("events", "calendar") and (
        data["cut"] == "events" or table.times_s is not None
    )
    assert 0 < data["historical_fraction"] < 1 and data["segment_s"] > 0
