"""Delimited files of many makes, read as pandas reads them when it is told their layout."""

import io
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mutants import Mutants
from reading_cases import Events, events, read

from cdc_flower.core.errors import UserError

SEPARATORS = [",", "\t", ";", "|", "::", " "]
USERS = ["user_id", "userId", "user", "reviewerID", "visitorid", "User-ID", "user_id:token"]
ITEMS = ["item_id", "movieId", "item", "asin", "itemid", "ISBN", "item_id:token"]
TIMES = ["timestamp", "time", "unixReviewTime", "ts", "timestamp:float"]
RATINGS = ["rating", "overall", "stars", "Book-Rating", "rating:float"]
PER_S = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
FILES_A_CASE = 50


@dataclass
class Made:
    """Holds a file and its layout."""

    content: bytes
    keys: dict[str, Any]
    wanted: Events


def make(rng: random.Random) -> Made:
    """Makes a well-formed file, and reads it with pandas by the layout that it was made with."""
    sep, quotes = rng.choice(SEPARATORS), rng.choice(["none", "some", "all"])
    if sep == "::":
        quotes = "none"  # pandas' C parser has no such separators, and files with them no quotes
    words = rng.random() < 0.5
    unit = rng.choice(["s", "s", "ms", "us", "ns", "iso", "none"])
    columns = ["user", "item", *(["rating"] if rng.random() < 0.7 else [])]
    columns += [] if unit == "none" else ["time"]
    columns += ["note"] * rng.choice([0, 0, 1])
    has_header = rng.random() < 0.7
    if has_header or rng.random() < 0.5:
        rng.shuffle(columns)
    names = [_name(column, rng) for column in columns]
    rows = [
        [_value(column, words, unit, sep, quotes, rng) for column in columns]
        for _ in range(rng.randint(3, 40))
    ]
    end, encoding = (
        rng.choice(["\n", "\n", "\r\n"]),
        rng.choice(["utf-8", "utf-8", "latin-1", "utf-16"]),
    )
    lines = [_line(row, sep, quotes, rng) for row in ([names] if has_header else []) + rows]
    content = end.join(lines) + rng.choice(["", end])
    bom = "\ufeff" if encoding == "utf-8" and rng.random() < 0.2 else ""
    keys: dict[str, Any] = {"encoding": encoding}
    if sep == " " or rng.random() < 0.3:
        keys["sep"] = sep
    if not has_header or rng.random() < 0.3:
        keys["columns"] = ["_" if column == "note" else column for column in columns]
    frame = pd.read_csv(
        io.StringIO(content.replace(sep, "\x1f") if sep == "::" else content),
        sep="\x1f" if sep == "::" else sep,
        header=0 if has_header else None,
        dtype=str,
        na_filter=False,
    )
    frame.columns = pd.Index(columns)
    return Made((bom + content).encode(encoding), keys, _wanted(frame, unit))


def _name(column: str, rng: random.Random) -> str:
    kinds = {"user": USERS, "item": ITEMS, "time": TIMES, "rating": RATINGS, "note": ["text", "x"]}
    return rng.choice(kinds[column])


def _value(column: str, words: bool, unit: str, sep: str, quotes: str, rng: random.Random) -> str:
    """Makes a value that may stand in a column."""
    if column == "rating":
        return rng.choice(["1", "3.5", "5.0", "4"])
    if column == "time":
        seconds = rng.randint(10**9, 16 * 10**8)
        if unit == "iso":
            return pd.Timestamp(seconds, unit="s").strftime(rng.choice(["%Y-%m-%dT%H:%M:%SZ"]))
        return str(seconds * PER_S[unit])
    if column == "note" or words:
        letters = rng.choice(["abc", "é", "x-y", "B00", "Q_9"])
        spice = rng.choice(["", "", sep, ' "q" ', "'"]) if quotes != "none" else ""
        return f"{letters}{spice}{rng.randint(0, 9)}"
    return str(rng.randint(1, 30))


def _line(row: list[str], sep: str, quotes: str, rng: random.Random) -> str:
    return sep.join(
        '"' + value.replace('"', '""') + '"'
        if quotes == "all"
        or (quotes == "some" and (sep in value or '"' in value or rng.random() < 0.3))
        else value
        for value in row
    )


def _wanted(frame: pd.DataFrame, unit: str) -> Events:
    """Lists the events of a frame as a table has them: by device, then by time."""
    times: list[float | None] = [None] * len(frame)
    if unit == "iso":
        times = [pd.Timestamp(text).timestamp() for text in frame["time"]]
    elif unit != "none":
        times = [int(text) / PER_S[unit] for text in frame["time"]]
    users, items = ([name.strip() for name in frame[key]] for key in ("user", "item"))
    rows: Events = list(zip(users, items, times, strict=True))
    numeric = all(name.isdecimal() for name in users)
    return sorted(rows, key=lambda row: (int(row[0]) if numeric else row[0], row[2] or 0.0))


#: Words of refusals that may meet a well-formed file: what it does not say must be said.
LISTED = ("data.columns must say what each of", "data.sep must be given", "data.columns says")


@pytest.mark.parametrize(
    "case", [*range(4), *(pytest.param(n, marks=pytest.mark.long) for n in range(4, 200))]
)
def test_files_are_read_to_the_events_that_pandas_reads(
    case: int, tmp_path: Path, mutants: Mutants
) -> None:
    refused: Counter[str] = Counter()
    mutants.what = "files that pandas reads"
    for number in range(FILES_A_CASE):
        rng = random.Random(f"{case} {number}")
        made = make(rng)
        with mutants.one():
            try:
                found = events(read(tmp_path / "f", made.content, **made.keys))
            except UserError as error:
                words = [listed for listed in LISTED if listed in str(error)]
                assert words, (case, number, str(error), made.content[:300])
                refused[words[0]] += 1
                raise
            assert found == made.wanted, (case, number, made.content[:300], made.keys)
    assert sum(refused.values()) <= FILES_A_CASE * 0.05 + 2, refused
