"""A device whose answers are left out too often in a row is not asked for a while."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hostile_cases import HOSTILE, KINDS, Hostile, Seen
from quarantine_cases import DEVICE, played

from cdc_flower.simulations.chain import AtDevices
from cdc_flower.simulations.links.accounting import Usage
from cdc_flower.simulations.quarantine import reasons
from cdc_flower.simulations.quarantine.book import NOBODY, Book
from cdc_flower.simulations.quarantine.options import QuarantineOptions

ALWAYS = range(6)


def hostile_rows(
    name: str, kind: str = "a column more", **options: Any
) -> tuple[pd.DataFrame, Seen, Any]:
    """The table of a device that is hostile in every segment, where it was, and its quarantine."""
    seen = Seen()
    chain = [AtDevices(lambda grid: Hostile(grid, KINDS[kind], ALWAYS, seen))]
    rows, quarantine = played("recommendation", name, chain, **options)
    return rows[rows.device_id == DEVICE].drop_duplicates("segment"), seen, quarantine


def test_it_is_asked_for_no_report_in_the_segments_after_and_then_again() -> None:
    rows, seen, quarantine = hostile_rows("duet", max_failures=2, segments_aside=3)
    assert [segment for segment, _ in seen.places] == [0, 1, 5]
    assert rows.num_quarantined.tolist() == [1, 1, 0, 0, 0, 1]
    assert (rows.bytes_up > 0).tolist() == [True, True, False, False, False, True]
    assert (rows.num_examples > 0).any()  # it is evaluated all the same
    assert rows.segment.tolist() == [0, 1, 2, 3, 4, 5]
    assert "1 device was set aside for 3 segments at a time" in quarantine.notes()


@pytest.mark.parametrize("never", [{"max_failures": None}, {"segments_aside": 0}])
def test_without_a_limit_or_a_time_nobody_is_set_aside(never: dict[str, Any]) -> None:
    rows, seen, _ = hostile_rows("duet", **{"max_failures": 1, "segments_aside": 2, **never})
    assert [segment for segment, _ in seen.places] == [*ALWAYS]
    assert rows.num_quarantined.tolist() == [1] * 6


def test_evaluations_that_are_left_out_set_nobody_aside() -> None:
    rows, seen, _ = hostile_rows("duet", "no scores", max_failures=1, segments_aside=3)
    assert len(seen.places) == 6
    assert (rows.bytes_up > 0).all()
    assert rows.num_quarantined.tolist() == [1] * 6


def test_an_answer_that_is_taken_starts_the_count_anew() -> None:
    book = Book(np.arange(3), QuarantineOptions(max_failures=2, segments_aside=1))
    for segment, answers in enumerate([[], [1], [], []]):
        book.segment = segment
        book.open()
        if not answers:
            book.leave_out([1], reasons.SHAPE)
        book.judge(np.array(answers, np.int64))
    assert book.failures.tolist() == [0, 0, 0]
    assert book.aside_until.tolist() == [-1, 4, -1]
    book.segment = 4
    assert book.is_aside(np.array([0, 1, 2])).tolist() == [False, True, False]
    book.segment = 5
    assert not book.is_aside(np.array([0, 1, 2])).any()


def test_the_book_counts_by_segment_device_and_reason_and_is_saved() -> None:
    book = Book(np.array([4, 7]), QuarantineOptions())
    book.segment = 2
    book.leave_out([1, 1], reasons.TWICE)
    book.leave_out([NOBODY], reasons.UNKNOWN_NODE)
    usage = Usage(2)
    book.count(usage)
    book.count(usage)
    assert usage.num_quarantined.tolist() == [0, 2]
    book.endless.note(2, 1)
    assert book.diverged() == "the loss is above 1e+12 from segment 2 on, of 1 of 2 devices"
    again = Book(np.array([4, 7]), QuarantineOptions())
    again.from_arrays(book.to_arrays())
    listed = [(one.segment, one.device_id, one.reason, one.count) for one in again.left_out()]
    assert listed == [(2, -1, reasons.UNKNOWN_NODE, 1), (2, 7, reasons.TWICE, 2)]
    assert again.diverged() == book.diverged()


def test_who_is_set_aside_is_so_after_a_run_was_resumed() -> None:
    def chain(seen: Seen) -> list[Any]:
        return [AtDevices(lambda grid: Hostile(grid, KINDS["no arrays"], ALWAYS, seen))]

    options = {"max_failures": 2, "segments_aside": 2}
    whole, quarantine = played("recommendation", "duet", chain(Seen()), **options)
    saved: dict[str, Any] = {}

    def until_three(session: Any) -> None:
        session.run(until=3)
        saved.update(session.to_arrays())

    def go_on(session: Any) -> None:
        session.from_arrays(saved)
        session.run()

    first, _ = played("recommendation", "duet", chain(Seen()), rounds=until_three, **options)
    seen = Seen()
    rest, resumed = played("recommendation", "duet", chain(seen), rounds=go_on, **options)
    assert [segment for segment, _ in seen.places] == [4, 5]
    pd.testing.assert_frame_equal(
        pd.concat([first, rest], ignore_index=True),
        whole,
        check_exact=True,
        check_categorical=False,
    )
    assert resumed.left_out() == quarantine.left_out()
    assert resumed.notes() == quarantine.notes()
    assert HOSTILE - 2 == DEVICE


def test_the_bytes_of_a_reply_that_is_left_out_were_on_the_link() -> None:
    rows, _, _ = hostile_rows("duet", "far too large", max_failures=None)
    assert (rows.bytes_up > 4 * 500_000).all()
    honest, _ = played("recommendation", "duet", [])
    assert (honest.bytes_up < 2_000).all()
