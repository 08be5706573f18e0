"""Files of every layout into events, and mistakes in them into one line."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import cdc_flower
from cdc_flower.core.errors import UserError
from cdc_flower.tasks.data import data_of
from cdc_flower.tasks.data.interactions import EventFileOptions
from cdc_flower.tasks.recommendation import event_files
from cdc_flower.tasks.recommendation.events import EventTable

FULL = ["user", "item", "rating", "time"]
TAB: dict[str, Any] = {"format": "delimited", "columns": FULL, "sep": "\t"}
PAIRS: dict[str, Any] = {"format": "delimited", "columns": ["user", "item"], "sep": None}
LINES: dict[str, Any] = {"format": "user_lines"}
JSON: dict[str, Any] = {"format": "json_lists"}
SETS = (
    "amazon_beauty amazon_grocery amazon_instant_video amazon_videogames interactions "
    "letter_beauty ml_100k ml_1m"
)
CONFIGS = [
    Path(cdc_flower.__file__).parent / "configs" / "data" / f"{name}.yaml" for name in SETS.split()
]


def read_events(node: dict[str, Any]) -> EventTable:
    """Reads what a configuration of data says."""
    options = data_of({"name": "of_a_test", **node})
    assert isinstance(options, EventFileOptions)
    return event_files.read_events(options)


def read(path: Path, content: str | bytes, base: dict[str, Any], **keys: Any):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_events({**base, "path": str(path), **keys})


def message(path: Path, content: str | bytes, base: dict[str, Any], **keys: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(path, content, base, **keys)
    text = str(caught.value)
    assert "\n" not in text
    return text.removeprefix(str(path))


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


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", ": must hold at least one event, got an empty file"),
        (b" \n\n", ": must hold at least one event, got an empty file"),
        (gzip.compress(b"", mtime=0), ": must hold at least one event, got an empty file"),
        (
            gzip.compress(b"1 2\n" * 99, mtime=0)[:-9],
            ": must be a whole gzip file (it ends too soon)",
        ),
        (b"\x1f\x8b\x00\x00", ": must be a whole gzip file (it ends too soon)"),
        (b"1 2\n\x00\x01", ":2: must be text, got a zero byte, as binary files have"),
        (b"1 2\n\x80\xff", ":2: must be utf-8 text (data.encoding), got byte 0x80"),
        (b"PK\x03\x04\x80\xff", ": must be a whole zip file (File is not a zip file)"),
    ],
)
@pytest.mark.parametrize("base", [PAIRS, LINES, JSON])
def test_a_file_that_is_no_text_is_told_in_one_line(
    file: Path, content: bytes, rule: str, base: dict[str, Any]
) -> None:
    assert message(file, content, base).startswith(rule)
    nothing = f": nothing is left to read (1 damaged file skipped, first {file}"
    start = nothing if "must be a whole" in rule else ""
    assert message(file, content, base, on_error="skip").startswith(start + rule)


# Malformed rows.

MALFORMED = [
    (
        "1\t2\t3",
        "row must have 4 fields (user, item, rating, time) separated by '\\t', got '1\\t2\\t3'",
    ),
    (
        "1\t2\t3\t4\t5",
        "row must have 4 fields (user, item, rating, time) separated by '\\t', "
        "got '1\\t2\\t3\\t4\\t5'",
    ),
    ("\t2\t3\t4", "user must not be empty, got ''"),
    ("1\t \t3\t4", "item must not be empty, got ''"),
    ("1\t2\tgood\t4", "rating must be a finite number, got 'good'"),
    ("1\t2\tinf\t4", "rating must be a finite number, got 'inf'"),
    ("1\t2\t3\t", "time must be a finite number of seconds >= 0, got ''"),
    ("1\t2\t3\tnan", "time must be a finite number of seconds >= 0, got 'nan'"),
    ("1\t2\t3\t1e999", "time must be a finite number of seconds >= 0, got '1e999'"),
    ("1\t2\t3\t-1", "time must be a finite number of seconds >= 0, got '-1'"),
    ("1\t2\t3\t1_000", "time must be a finite number of seconds >= 0, got '1_000'"),
    ("1\t2\t3\t٤", "time must be a finite number of seconds >= 0, got '٤'"),
    ("\t\t\t", "user must not be empty, got ''"),
]


@pytest.mark.parametrize(("row", "rule"), MALFORMED)
def test_a_malformed_row_is_told_with_its_line_in_the_file(file: Path, row: str, rule: str) -> None:
    content = f"user\titem\trating\ttime\n\n1\t2\t3\t4\n  \n{row}\n1\t2\t3\t5\nworse\n"
    assert message(file, content, TAB) == f":5: {rule}"
    assert (
        message(file, gzip.compress(content.replace("\n", "\r\n").encode()), TAB) == f":5: {rule}"
    )


@pytest.mark.parametrize(("row", "rule"), MALFORMED)
def test_a_malformed_row_is_skipped_and_counted_when_asked(file: Path, row: str, rule: str) -> None:
    table = read(
        file, f"{row}\n1\t2\t3\t4\n{row}\n\n1\t5\t3\t5\n", TAB, header=False, on_error="skip"
    )
    assert table.num_skipped == 2
    assert (
        table.items.tolist() == [1, 2]
        and table.times_s is not None
        and table.times_s.tolist() == [4.0, 5.0]
    )


def test_a_malformed_first_row_is_not_taken_for_a_header(file: Path) -> None:
    assert message(file, "1\t2\t3\tyesterday\n1\t2\t3\t4\n", TAB).startswith(":1: time must be")
    assert message(file, "A\tB\t5.0\tyesterday\n1\t2\t3\t4\n", TAB).startswith(":1: time must be")
    assert message(file, "A\tB\t\t\n1\t2\t3\t4\n", TAB).startswith(":1: rating must be")
    assert message(file, "a b c\n1 2\n", PAIRS).startswith(":1: row must have 2 fields")


def test_the_first_malformed_row_is_told_whatever_its_mistake(file: Path) -> None:
    assert message(file, "1\t2\t3\t4\n1\t2\t3\tx\n1\n", TAB).startswith(":2: time must be")
    assert message(file, "1\t2\t3\t4\n1\n1\t2\t3\tx\n", TAB).startswith(":2: row must have")


def test_a_file_with_nothing_but_malformed_rows_is_a_mistake(file: Path) -> None:
    expected = ": must hold at least one event, got none (2 malformed rows skipped)"
    assert message(file, "1\n2\n", PAIRS, on_error="skip") == expected
    assert message(file, "user item\n", PAIRS) == ": must hold at least one event, got none"


def test_a_long_row_is_cut_in_the_message(file: Path) -> None:
    assert len(message(file, "1 " * 5000 + "\n", PAIRS)) < 200


def test_a_user_line_without_items_is_told_with_its_line(file: Path) -> None:
    rule = "row must be a user and at least one item separated by white space, got '5'"
    assert message(file, "1 2\n\n5\n6\n", LINES) == f":3: {rule}"


def test_a_user_line_with_an_empty_item_is_told_or_skipped(file: Path) -> None:
    content = "1,2,3\n4,,5\n6,3\n"
    assert (
        message(file, content, LINES, sep=",") == ":2: user and items must not be empty, got '4,,5'"
    )
    table = read(file, content, LINES, sep=",", on_error="skip")
    assert (
        table.device_names == ["1", "6"]
        and table.items.tolist() == [1, 2, 2]
        and table.num_skipped == 1
    )


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (
            '{"1": [2],\n"5": [3, 4,\n 1.5]}',
            ":3: item must be an integer or a string that is not empty, got '1.5'",
        ),
        ('{"1": [2],\n"5": [{"a": [1]},\n null]}', ":2: item must be an integer or a string"),
        (
            '{"1": [2],\n"5": [3,\n"", 4]}',
            ":3: item must be an integer or a string that is not empty, got '\"\"'",
        ),
        (
            '{"1": [2],\n"5": [true]}',
            ":2: item must be an integer or a string that is not empty, got 'true'",
        ),
        (
            '{"1": [2], "x":\n [3],\n"5":\n 7}',
            ":4: user must have a list of at least one item, got '7'",
        ),
        ('{"1": [2],\n"5": []}', ":2: user must have a list of at least one item, got '[]'"),
        ('{"1": [2],\n"5": {}}', ":2: user must have a list of at least one item, got "),
        ('{"1": [2],\n\n" ": [3]}', ":3: user must not be empty, got ' '"),
    ],
)
def test_a_malformed_list_is_told_with_its_line_or_skipped(
    file: Path, content: str, rule: str
) -> None:
    assert message(file, content, JSON).startswith(rule)
    table = read(file, content, JSON, on_error="skip")
    assert table.num_skipped == 1 and table.device_names[0] == "1" and "5" not in table.device_names


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ('{"1": [2],\n"2": [3,,4]}', ":2: must be JSON (Expecting value), got '\"2\": [3,,4]}'"),
        (
            '{"1": [2],\n',
            ":2: must be JSON (Expecting property name enclosed in double quotes), got ''",
        ),
        ("[1, 2]", ":1: must be a JSON object of lists, got '[1, 2]'"),
        ("[" * 200_000, ": must be JSON of lists of items, got "),
        ('{"1": [' + "9" * 5000 + "]}", ": must be JSON of lists of items, got "),
        ("{}", ": must hold at least one event, got none"),
    ],
)
def test_what_is_no_object_of_lists_is_told_in_one_line(
    file: Path, content: str, rule: str
) -> None:
    assert message(file, content, JSON).startswith(rule)


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


# Paths and keys.


def test_a_directory_gives_the_first_file_that_exists_plain_before_gzip(tmp_path: Path) -> None:
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"1 2\n", mtime=0))
    data = {**PAIRS, "path": str(tmp_path), "files": ["a.txt", "b.txt"]}
    assert read_events(data).source == str(tmp_path / "b.txt.gz")
    (tmp_path / "b.txt").write_text("1 2\n")
    assert read_events(data).source == str(tmp_path / "b.txt")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"1 2\n", mtime=0))
    assert read_events(data).source == str(tmp_path / "a.txt.gz")


def test_a_directory_without_a_known_file_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_events({**PAIRS, "path": str(tmp_path), "files": ["a.txt", "b.gz"]})
    expected = (
        f"data.path must be a directory with one of a.txt, a.txt.gz, b.gz, got {str(tmp_path)!r}"
    )
    assert str(caught.value) == expected


@pytest.mark.parametrize("path", [None, "", "???", " "])
def test_a_path_that_is_not_given_is_told(path: str | None) -> None:
    with pytest.raises(
        UserError, match=r"data.path must (be a text|name a file or a directory .*), got "
    ):
        read_events({**PAIRS, "path": path})


def test_a_path_with_nothing_there_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / "a\0b", tmp_path / ("x" * 3000)):
        with pytest.raises(UserError, match=r"data.path must be "):
            read_events({**PAIRS, "path": str(path)})
    with pytest.raises(
        UserError, match=r"data.path must be a file, or a directory of parts .* got no file in the"
    ):
        read_events({**PAIRS, "path": str(tmp_path)})


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        (
            "format",
            "delimitd",
            r"data.format: unknown format 'delimitd'; did you mean 'delimited'\?",
        ),
        ("format", None, r"data.format must be a text, got null"),
        ("on_error", "skp", r"data.on_error must be one of raise, skip, got skp; did you mean"),
        ("header", "yes", r"data.header must be one of auto, true, false, got yes"),
        ("header", 1, r"data.header must be one of auto, true, false, got 1"),
        ("columns", ["user", "itm"], r"data.columns: unknown column 'itm'; did you mean 'item'\?"),
        ("columns", ["user", "time"], r"data.columns must name item, got \[user, time\]"),
        (
            "columns",
            ["user", "item", "user"],
            r"data.columns must name user at most once, got \[user, item, user\]",
        ),
        ("columns", "user", r"data.columns must be a list of texts or a mapping or null, got user"),
        ("columns", [], r"data.columns must name user, got \[\]"),
        ("columns", {"user": "u"}, r"data.columns must name item, got {user}"),
        ("columns", {"user": "u", "itm": "i"}, r"data.columns: unknown column 'itm'; did you mean"),
        ("columns", {"user": "u", "item": 5}, r"data.columns.item must be the name of a column"),
        ("kinds", [], r"data.kinds must be null or name a kind of event, got \[\]"),
        ("quote", "''", r"data.quote must be null or one character, got"),
        ("comment", "\n", r"data.comment must be null or one character, got"),
        ("time_unit", "min", r"data.time_unit must be one of auto, s, ms, us, ns, got min"),
        ("order", "newest", r"data.order must be one of auto, rows, reversed, got newest"),
        ("files", "u.data", r"data.files must be a list of texts or null, got u.data"),
        ("sep", "", r"data.sep must be null or characters other than a line break, got ''"),
        ("sep", "\n", r"data.sep must be null or characters other than a line break, got '\\n'"),
        ("sep", 5, r"data.sep must be a text or null, got 5"),
        (
            "encoding",
            "utf-9",
            r"data.encoding must be a text encoding that Python knows, got 'utf-9'",
        ),
        (
            "encoding",
            "rot13",
            r"data.encoding must be a text encoding that Python knows, got 'rot13'",
        ),
    ],
)
def test_a_wrong_key_is_told_with_the_rule_and_the_value(
    file: Path, key: str, value: Any, rule: str
) -> None:
    file.write_text("1 2\n")
    with pytest.raises(UserError, match=f"^{rule}"):
        read_events({**PAIRS, "path": str(file), key: value})


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
