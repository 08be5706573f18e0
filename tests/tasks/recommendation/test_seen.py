"""What devices have seen: in memory that follows the events, and counted where it is too much."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading_cases import options_of

from cdc_flower.tasks.data.registry import StreamShape
from cdc_flower.tasks.recommendation import seen as module
from cdc_flower.tasks.recommendation.event_files import stream_of
from cdc_flower.tasks.recommendation.seen import SeenItems, short_of_unseen


def pairs_of(seen: SeenItems, num_rows: int, num_items: int) -> set[tuple[int, int]]:
    found = seen.contains(np.arange(num_rows)[:, None], np.arange(num_items + 1, dtype=np.int32))
    return {(int(row), int(item)) for row, item in zip(*np.nonzero(found), strict=True)}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 300)), max_size=60))
def test_a_sieve_with_pairs_holds_what_bits_hold(events: list[tuple[int, int]]) -> None:
    rows = np.array([row for row, _ in events], np.int64)
    items = np.array([item for _, item in events], np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SMALL_BYTES", 0)
        patch.setattr(module, "_BYTES_PER_EVENT", 0)
        sieve = SeenItems.of(rows, items, 7, 300)
    assert sieve.pairs is not None
    assert pairs_of(sieve, 7, 300) == pairs_of(SeenItems.of(rows, items, 7, 300), 7, 300)
    assert pairs_of(sieve, 7, 300) == set(events)


def test_memory_follows_the_events_and_not_users_times_items() -> None:
    rng = np.random.default_rng(0)
    rows, items = rng.integers(0, 20_000, 40_000), rng.integers(1, 200_001, 40_000)
    seen = SeenItems.of(rows, items.astype(np.int32), 20_000, 200_000)
    assert seen.pairs is not None
    assert seen.bits.nbytes + seen.pairs.nbytes <= 16 * len(rows)  # bits of all pairs: 500 MB
    assert seen.contains(rows, items.astype(np.int32)).all()
    others = rng.integers(1, 200_001, 40_000).astype(np.int32)
    known = set(zip(rows.tolist(), items.tolist(), strict=True))
    assert seen.contains(rows, others).tolist() == [
        pair in known for pair in zip(rows.tolist(), others.tolist(), strict=True)
    ]


def test_devices_with_too_few_unseen_items_are_marked_at_every_moment() -> None:
    # Row 0 has seen all of 4 items, row 1 two of them, of which one is not there at first.
    rows, place = np.array([0, 0, 0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 3, 3, 0, 3, 1])
    late, early = np.full((3, 1), 4), np.array([[2, 4]] * 3)
    assert short_of_unseen(rows, place, late, 2).tolist() == [True, False, False]
    assert short_of_unseen(rows, place, late, 3).tolist() == [True, True, False]
    assert short_of_unseen(rows, place, early, 1).tolist() == [True, False, False]
    assert short_of_unseen(rows, place, early, 2).tolist() == [True, True, True]
    assert not short_of_unseen(rows, place, np.zeros((3, 1), np.int64), 3).any()


def notes_of(file: Path, content: str, num_negatives: int = 2, **keys: object) -> tuple[str, ...]:
    file.write_text(content)
    shape = StreamShape(1, 0, num_negatives=num_negatives)
    return stream_of(options_of(file, **keys), shape).notes


EVERYTHING = "".join(f"a {item} 5 {item}\n" for item in range(1, 6))


@pytest.mark.parametrize("cut", ["events", "calendar", "last"])
def test_devices_whose_negatives_are_items_that_they_chose_are_counted(
    tmp_path: Path, cut: str
) -> None:
    rows = EVERYTHING + "b 1 5 1\nb 2 5 2\nb 3 5 4\n"
    notes = notes_of(tmp_path / "f", rows, cut=cut, exclude_seen=True)
    assert any(
        note.startswith("1 of 2 devices chose so many of the 5 items that fewer than ")
        and "num_negatives=2 others are left: some of their negatives are items that" in note
        for note in notes
    )
    assert not [
        note
        for note in notes_of(tmp_path / "f", rows, cut=cut, exclude_seen=False)
        if "negatives" in note
    ]


def test_devices_that_are_never_scored_are_counted(tmp_path: Path) -> None:
    rows = EVERYTHING + "b 1 5 1\nc 1 5 1\nc 2 5 2\n"
    assert any(
        note.startswith("1 of 3 devices has no event that is scored, 1 of them because it has")
        for note in notes_of(tmp_path / "f", rows)
    )
    assert any(
        note.startswith("2 of 3 devices have no event that is scored, 2 of them because they have ")
        and note.endswith("fewer than 3 events")
        for note in notes_of(tmp_path / "f", rows, cut="last")
    )


def test_rare_devices_and_items_are_counted(tmp_path: Path) -> None:
    rows = EVERYTHING + "b 9 5 1\n"
    notes = notes_of(tmp_path / "f", rows, min_user_events=2)
    assert any(note.startswith("1 user and 1 item left out, which have fewer") for note in notes)
