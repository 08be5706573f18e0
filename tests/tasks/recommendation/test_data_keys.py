"""Paths and keys of files of interactions: found, or told with the rule and the value."""

import gzip
from pathlib import Path
from typing import Any

import pytest
from layout_cases import PAIRS, read_events

from cdc_flower.core.errors import UserError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.txt"


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
