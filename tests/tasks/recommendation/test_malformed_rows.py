"""Mistakes in files of every layout into one line, or skipped and counted."""

import gzip
from pathlib import Path
from typing import Any

import pytest
from layout_cases import JSON, LINES, PAIRS, TAB, message, read


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.txt"


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
