"""Which column is which, and what its values mean: nothing is read wrongly in silence."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from reading_cases import events, message, options_of, read

from cdc_flower.core.errors import UserError
from cdc_flower.tasks.data.registry import StreamShape
from cdc_flower.tasks.recommendation.event_files import stream_of
from cdc_flower.tasks.recommendation.frames import events_of
from cdc_flower.tasks.recommendation.readers.collect import Collector
from cdc_flower.tasks.recommendation.readers.rows import Rows

COLUMNS = ["user", "item", "rating", "time"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.txt"


# Headers.


@pytest.mark.parametrize(
    "header",
    [
        "item_id,user_id,rating,timestamp",
        "asin,reviewerID,overall,unixReviewTime",
        "movieId,userId,rating,timestamp",
        '"itemid","visitorid","score","ts"',
        "item_id:token,user_id:token,rating:float,timestamp:float",
    ],
)
def test_columns_are_found_by_their_names(file: Path, header: str) -> None:
    found = read(file, f"{header}\nB1,alice,5,100\nB2,alice,4,101\nB1,bob,4,103\n")
    assert events(found) == [("alice", "B1", 100), ("alice", "B2", 101), ("bob", "B1", 103)]


def test_times_before_ratings_are_times(file: Path) -> None:
    rows = "userId,movieId,timestamp,rating\n1,31,1260759144,2.5\n2,31,835355493,4.0\n"
    assert events(read(file, rows)) == [("1", "31", 1260759144), ("2", "31", 835355493)]
    told = message(file, rows, sep=",", columns=COLUMNS)
    assert told.startswith(
        ":1: the header names column 3 'timestamp', which is the time, and data.columns says rating"
    )
    told = message(file, rows.partition("\n")[2])
    assert "rating of what looks like a time" in told and "'1260759144' and '2.5'" in told


def test_a_header_that_says_something_else_than_the_columns_is_refused_with_both(
    file: Path,
) -> None:
    told = message(file, "item_id,user_id\nB1,alice\n", columns=["user", "item"], sep=",")
    assert told.startswith(":1: the header names column 1 'item_id', which is the item, and ")
    assert "data.columns says user: [user, item]" in told
    more = message(file, "user_id,item_id,text\na,b,c\n", columns=["user", "item"], sep=",")
    assert "what each of the 3 columns 'user_id, item_id, text' is, got [user, item]" in more


@pytest.mark.parametrize(
    "header", ["user,artist", "userId,songId", "user_id,business_id", "reviewer,asin"]
)
@pytest.mark.parametrize("columns", [None, ["user", "item"]])
def test_a_header_of_ids_is_no_device(file: Path, header: str, columns: Any) -> None:
    found = read(file, f"{header}\nalice,Kinks\nbob,Beatles\n", sep=",", columns=columns)
    assert events(found) == [("alice", "Kinks", None), ("bob", "Beatles", None)]


def test_words_that_may_be_names_or_events_are_events_and_that_is_said(file: Path) -> None:
    found = read(file, "ann,Time\nbob,Movie\n")
    assert found.events.num_events == 2
    assert "the first row, 'ann Time', is read as an event (data.header)" in found.notes
    assert not read(file, "ann,b1\nbob,b2\n", columns=["user", "item"]).notes


def test_further_columns_are_passed_over_by_name(file: Path) -> None:
    rows = 'x,,user_id,text,item_id,time\n0,1,a,"so, so\nlong ""x""",i,5\n1,,b,,j,6\n'
    assert events(read(file, rows)) == [("a", "i", 5), ("b", "j", 6)]


def test_a_mapping_says_the_names_of_columns(file: Path) -> None:
    rows = "who;what;when;other\na;i;5;x\nb;j;6;y\n"
    names = {"user": "who", "item": "What", "time": "when"}
    assert events(read(file, rows, columns=names)) == [("a", "i", 5), ("b", "j", 6)]
    told = message(file, rows, columns={**names, "item": "wat"})
    assert (
        "data.columns names 'wat' for the item, and the columns are who, what, when, other" in told
    )


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("user_id,artist_id,track_id,time", "two columns have names of a item, 'artist_id' and"),
        ("user_id,stuff,time", "no column is known to be the item, got user_id, stuff, time"),
    ],
)
def test_a_header_without_one_user_and_one_item_is_refused(
    file: Path, header: str, text: str
) -> None:
    told = message(file, header + "\n" + ",".join("1234"[: header.count(",") + 1]) + "\n")
    assert text in told and "'data.columns={user: NAME" in told


def test_of_well_known_pairs_of_names_one_is_meant(file: Path) -> None:
    rows = "user_id,asin,parent_asin,timestamp\na,x,y,5\n"
    assert events(read(file, rows)) == [("a", "y", 5)]


def test_without_a_header_a_guess_is_said_or_refused(file: Path) -> None:
    assert read(file, "1,2,3,4\n").notes == (
        "without a header columns are taken for user, item, rating, time (data.columns)",
    )
    assert "what each of the 3 fields is" in message(file, "1,2,3\n")
    told = message(file, "B00004Y2UT,A2IBPI20UZIR0U,5.0,1393545600\n")
    assert "user of what looks like Amazon's items" in told
    assert "item of what looks like times" in message(file, "1,2014-04-07T10:51:09Z,214536502,0\n")


@pytest.mark.parametrize("sep", [",", "::", None])
def test_a_short_row_beside_a_long_one_is_no_pair_of_whole_rows(
    file: Path, sep: str | None
) -> None:
    rows = "a,1,x\nb,2\nc,3,x,y\n".replace(",", sep or "  ")
    keys = {"columns": ["user", "item", "_"], "sep": sep}
    assert message(file, rows, **keys).startswith(":2: row must have 3 fields (user, item, _)")
    assert events(read(file, rows, on_error="skip", **keys)) == [("a", "1", None)]


# Quotes and ids.


def test_quotes_are_those_of_rfc_4180(file: Path) -> None:
    rows = '"user","item","rating","time"\n1,"Good, the Bad, The",5,100\n1,"Alien",4,101\n'
    rows += '"2","a ""b"" c",4,"102"\n'
    wanted = [("1", "Good, the Bad, The", 100), ("1", "Alien", 101), ("2", 'a "b" c', 102)]
    assert events(read(file, rows)) == wanted
    assert events(read(file, rows, sep=",", columns=COLUMNS)) == wanted


def test_a_quote_that_is_never_closed_is_told_with_its_line(file: Path) -> None:
    rows = 'user,item\na,"x"\nb,"y\nc,z\n'
    assert message(file, rows).startswith(":3: a field that opens with a quote must close with one")
    skipped = read(file, rows, on_error="skip")
    assert events(skipped) == [("a", "x", None), ("c", "z", None)]
    assert "1 malformed row skipped" in skipped.notes
    assert events(read(file, rows, quote=None))[1] == ("b", '"y', None)


def test_quotes_within_fields_are_letters(file: Path) -> None:
    assert events(read(file, 'user\titem\na\t7" mix\n')) == [("a", '7" mix', None)]


@pytest.mark.parametrize("other", ["1.0", "1.00"])
def test_whole_numbers_with_a_point_are_the_numbers_and_that_is_said(
    file: Path, other: str
) -> None:
    found = read(file, f"user,item\n1,5\n{other},6\n2,7\n")
    assert events(found) == [("1", "5", None), ("1", "6", None), ("2", "7", None)]
    assert f"users such as {other!r} are read as '1'" in found.notes
    assert "2 users" in found.size


def test_of_versions_and_words_both_stay_and_that_is_said(file: Path) -> None:
    found = read(file, "user,item\na,1\na,1.0\na,b\n")
    assert found.events.num_items == 3 and "items '1' and '1.0' are two" in found.notes


def test_numbers_with_zeros_before_them_are_ids_of_their_own(file: Path) -> None:
    assert read(file, "user,item\n01,5\n1,5\n+1,05\n").events.device_names == ["+1", "01", "1"]


@pytest.mark.parametrize("name", ["nan", "NULL", "None", "inf"])
def test_an_id_that_looks_missing_is_said(file: Path, name: str) -> None:
    found = read(file, f"user,item\na,{name}\nb,x\n")
    assert f"item {name!r} is read as an id like any other" in found.notes


def test_ids_beyond_reason_are_refused(file: Path) -> None:
    assert "user must be at most 1000 characters" in message(file, f"user,item\n{'x' * 20000},1\n")
    assert "item must have no control character" in message(file, "user,item\na,b\x07c\n")


# Separators, comments, numbers.


def test_a_separator_that_may_be_two_is_asked_for(file: Path) -> None:
    assert "both ',' and white space divide" in message(file, "1 2,5 3\n4 5,6 7\n")
    rows = "user,item,note\na,b,x\nc,d,more words here\n"
    assert events(read(file, rows)) == [("a", "b", None), ("c", "d", None)]


def test_comments_are_left_out_at_the_top_or_where_it_is_said(file: Path) -> None:
    found = read(file, "# from X\n% and Y\n1 2\n3 4\n")
    assert events(found) == [("1", "2", None), ("3", "4", None)]
    assert "2 comment lines left out" in found.notes
    assert events(read(file, "1 2\n// no\n/ x y\n3 4\n", comment="/"))[1] == ("3", "4", None)
    assert read(file, "#a 2\n#b 4\n").events.device_names == ["#a", "#b"]


def test_a_decimal_comma_is_read_where_it_is_said(file: Path) -> None:
    rows = "user;item;rating;time\na;i;4,5;7,25\n"
    assert "rating must be a finite number (data.decimal=',')" in message(file, rows)
    assert events(read(file, rows, decimal=",")) == [("a", "i", 7.25)]


def test_line_ends_of_old_and_new_machines_are_read(file: Path) -> None:
    for end in ("\n", "\r\n", "\r"):
        found = read(file, f"user,item{end}a,1{end}b,2{end}")
        assert events(found) == [("a", "1", None), ("b", "2", None)]


def test_utf_16_is_read_and_named(file: Path) -> None:
    rows = "user,item\né,1\nb,2\n".encode("utf-16")
    assert events(read(file, rows, encoding="utf-16"))[1][0] == "é"
    assert "looks like UTF-16 text (data.encoding=utf-16)" in message(file, rows)


def test_events_of_other_kinds_are_left_out_and_counted(file: Path) -> None:
    rows = "user,item,event\na,1,view\na,2,buy\nb,1,view\n"
    found = read(file, rows, kinds=["view"])
    assert events(found) == [("a", "1", None), ("b", "1", None)]
    assert "1 row of other kinds left out" in found.notes
    assert read(file, rows).events.num_events == 3
    assert "must hold at least one event, got none (3 rows of other kinds left out)" in message(
        file, rows, kinds=["sell"]
    )


# Times.


@pytest.mark.parametrize(("unit", "per_s"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_the_unit_of_times_is_that_of_their_size(file: Path, unit: str, per_s: int) -> None:
    rows = [("a", 1588687728), ("a", 1588615855), ("b", 1589665266)]
    content = "user,item,time\n" + "".join(f"{u},{t},{t * per_s}\n" for u, t in rows)
    found = read(file, content)
    assert [time for _, _, time in events(found)] == [1588615855, 1588687728, 1589665266]
    words = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}[unit]
    assert f"2020-05-04 18:10:55 to 2020-05-16 21:41:06 UTC ({words} by their size)" in found.size
    said = f"times are taken for {words} by their size (data.time_unit)"
    assert (said in found.notes) == (unit != "s")
    assert events(read(file, content, time_unit=unit)) == events(found)


def test_a_calendar_in_milliseconds_is_that_of_the_same_file_in_seconds(file: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        (int(u), i, int(t))
        for u, i, t in zip(
            rng.integers(0, 5, 60),
            rng.integers(0, 40, 60),
            rng.integers(1.5e9, 1.6e9, 60),
            strict=True,
        )
    ]
    bounds = []
    for per_s in (1, 1000):
        file.write_text("user,item,time\n" + "".join(f"{u},{i},{t * per_s}\n" for u, i, t in rows))
        stream = stream_of(options_of(file, cut="calendar"), StreamShape(3, 0, num_negatives=5))
        bounds.append((stream.bounds.tolist(), stream.segment_starts_s.tolist()))
    assert bounds[0] == bounds[1]


def test_times_of_two_units_are_refused(file: Path) -> None:
    told = message(file, "user,item,time\na,1,1588687728\na,2,1588687729\na,3,1588687730000\n")
    assert "times must be of one unit (data.time_unit), got 1588687730000 for event 3 " in told
    told = message(file, "user,item,time\na,1,5\na,2,2020-01-01\na,2,2020-01-02\n")
    assert told == ":2: time must be a finite number of seconds >= 0, got '5'"
    collector = Collector("FILE")
    collector.add(Rows(["a"], ["b"], np.array([5]), 0))
    with pytest.raises(UserError, match="FILE: times must be all numbers or all dates"):
        collector.add(Rows(["a"], ["b"], np.array([1e9]), 0, is_dated=True))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2010-10-19T23:55:27Z", 1287532527),
        ("2010-10-19 23:55:27", 1287532527),
        ("2010-10-19T23:55:27.500+02:00", 1287525327.5),
        ("2010-10-19", 1287446400),
        ("2010-10-19T23:55Z", 1287532500),
    ],
)
def test_dates_of_iso_8601_are_read(file: Path, text: str, seconds: float) -> None:
    found = read(file, f"user,item,time\na,1,{text}\n")
    assert events(found) == [("a", "1", seconds)] and "(dates)" in found.size
    wrong = message(file, f"user,item,time\na,1,{text}\na,2,{text}\nb,2,2010-13-45\n")
    assert wrong.startswith(":4: time must be a finite number")


def test_rows_that_come_newest_first_are_not_reversed_in_silence(file: Path) -> None:
    rows = "0\t2010-10-19T23:55:27Z\t30.2\t-97.7\t22847\n0\t2010-10-18T22:17:43Z\t30.2\t-97.7\t5\n"
    rows += "1\t2010-10-17T23:42:03Z\t30.2\t-97.7\t6\n1\t2010-10-17T19:26:05Z\t30.2\t-97.7\t5\n"
    ignored = {"columns": ["user", "_", "_", "_", "item"], "sep": "\t"}
    told = message(file, rows, **ignored)
    assert "rows come newest first by column 2, which data.columns ignores" in told
    timed = read(file, rows, sep="\t", columns=["user", "time", "_", "_", "item"])
    in_order = [(user, item) for user, item, _ in events(timed)]
    assert in_order == [("0", "5"), ("0", "22847"), ("1", "5"), ("1", "6")]
    turned = read(file, rows, order="reversed", **ignored)
    assert [(user, item) for user, item, _ in events(turned)] == in_order
    believed = read(file, rows, order="rows", **ignored)
    assert [(user, item) for user, item, _ in events(believed)] == [
        *(("0", "22847"), ("0", "5"), ("1", "6"), ("1", "5"))
    ]


def test_rows_in_no_order_of_an_ignored_time_are_said(file: Path) -> None:
    times = [1588687728, 1588615855, 1589665266, 1589665265, 1589665267]
    rows = "".join(f"a,{number},5,{time}\n" for number, time in enumerate(times))
    found = read(file, rows, sep=",", columns=["user", "item", "rating", "_"])
    assert "the order of the rows is not that of column 4, which looks like times" in found.notes
    sorted_rows = "".join(f"a,{number},5,{time}\n" for number, time in enumerate(sorted(times)))
    assert not read(file, sorted_rows, sep=",", columns=["user", "item", "rating", "_"]).notes


def test_times_of_a_frame_have_their_unit_too() -> None:
    frame = pd.DataFrame({"user": [1, 2], "item": [3, 4], "time": [1588687728923, 1588615855070]})
    times = events_of(frame).times_s
    assert times is not None and times.tolist() == [1588687728.923, 1588615855.07]
    with pytest.raises(UserError, match="times must be of one unit"):
        events_of(frame, "s")


def test_what_was_read_is_said_in_one_line(file: Path, capsys: pytest.CaptureFixture) -> None:
    file.write_text("user,item,time\na,1,1588687728\nb,2,1588687729\na,2,1588687730\n,,\nc,1\n")
    stream_of(options_of(file, on_error="skip"), StreamShape(1, 0, num_negatives=1))
    span = "times from 2020-05-05 14:08:48 to 2020-05-05 14:08:50 UTC (seconds by their size)"
    size = f"3 events, 2 users, 2 items, {span}"
    assert capsys.readouterr().err == f"{file}: {size}; 2 malformed rows skipped\n"
