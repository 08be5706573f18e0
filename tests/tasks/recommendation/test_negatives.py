import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cdc_flower.core.seeds import hashed_bits
from cdc_flower.tasks.recommendation import negatives
from cdc_flower.tasks.recommendation.catalog import Catalog
from cdc_flower.tasks.recommendation.negatives import RankedEvents
from cdc_flower.tasks.recommendation.seen import SeenItems

Ints = NDArray[np.int64]


def draw_unseen(
    seed: int,
    purpose: str,
    device: Ints,
    index: Ints,
    count: int,
    catalog: Catalog,
    seen: SeenItems | None,
    true: NDArray[np.int32],
) -> NDArray[np.int32]:
    events = RankedEvents(seed, purpose, device, index, true)
    return negatives.draw_unseen(events, count, catalog, seen)


def test_seen_items_holds_exactly_what_was_put_in() -> None:
    seen = SeenItems.of(np.array([0, 0, 2, 2]), np.array([1, 16, 7, 8], dtype=np.int32), 3, 16)
    assert seen.bits.shape == (3, 3)
    found = seen.contains(np.arange(3)[:, None], np.arange(17))
    assert [np.flatnonzero(row).tolist() for row in found] == [[1, 16], [], [7, 8]]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.sets(st.integers(1, 12), min_size=1, max_size=8))
def test_negatives_are_unseen_and_never_the_true_item(seed: int, items: set[int]) -> None:
    chosen = np.array(sorted(items), dtype=np.int32)
    seen = SeenItems.of(np.zeros(len(chosen), dtype=np.int64), chosen, 1, 12)
    drawn = draw_unseen(
        seed,
        "x",
        np.zeros_like(chosen, dtype=np.int64),
        np.arange(len(chosen)),
        4,
        Catalog.whole(12),
        seen,
        chosen,
    )
    assert drawn.dtype == np.int32 and drawn.shape == (len(chosen), 4)
    assert not set(drawn.ravel().tolist()) & items
    assert drawn.min() >= 1 and drawn.max() <= 12


def test_negatives_are_uniform_over_what_is_unseen() -> None:
    seen = SeenItems.of(np.zeros(3, dtype=np.int64), np.array([1, 2, 3], dtype=np.int32), 1, 8)
    zeros = np.zeros(2000, dtype=np.int64)
    drawn = draw_unseen(
        0, "x", zeros, np.arange(2000), 10, Catalog.whole(8), seen, np.full(2000, 2, dtype=np.int32)
    )
    counts = np.bincount(drawn.ravel(), minlength=9)[4:]
    assert np.abs(counts / counts.sum() - 0.2).max() < 0.015  # five standard deviations


def test_without_seen_items_only_the_true_one_is_avoided() -> None:
    drawn = draw_unseen(
        0,
        "x",
        np.zeros(1, dtype=np.int64),
        np.array([0]),
        500,
        Catalog.whole(4),
        None,
        np.array([3], dtype=np.int32),
    )
    assert set(drawn.ravel().tolist()) == {1, 2, 4}


def test_a_device_that_has_seen_everything_gets_any_item_but_the_true_one() -> None:
    seen = SeenItems.of(np.zeros(3, dtype=np.int64), np.array([1, 2, 3], dtype=np.int32), 1, 3)
    drawn = draw_unseen(
        0,
        "x",
        np.zeros(1, dtype=np.int64),
        np.array([0]),
        50,
        Catalog.whole(3),
        seen,
        np.array([2], dtype=np.int32),
    )
    assert set(drawn.ravel().tolist()) == {1, 3}


def test_a_draw_depends_on_nothing_but_its_own_event() -> None:
    rng = np.random.default_rng(0)
    seen = SeenItems.of(rng.integers(0, 4, 60), rng.integers(1, 31, 60).astype(np.int32), 4, 30)
    device, event = np.repeat(np.arange(4), 5), np.tile(np.arange(5), 4)
    true = rng.integers(1, 31, 20).astype(np.int32)
    whole = draw_unseen(3, "x", device, event, 9, Catalog.whole(30), seen, true)
    order = rng.permutation(20)[:7]
    part = draw_unseen(3, "x", device[order], event[order], 9, Catalog.whole(30), seen, true[order])
    assert (part == whole[order]).all()


def test_another_seed_name_or_event_gives_other_negatives() -> None:
    zero, true = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int32)
    base = draw_unseen(0, "x", zero, zero, 30, Catalog.whole(1000), None, true)
    assert (draw_unseen(1, "x", zero, zero, 30, Catalog.whole(1000), None, true) != base).any()
    assert (draw_unseen(0, "y", zero, zero, 30, Catalog.whole(1000), None, true) != base).any()
    assert (draw_unseen(0, "x", zero, zero + 1, 30, Catalog.whole(1000), None, true) != base).any()
    assert (draw_unseen(0, "x", zero + 1, zero, 30, Catalog.whole(1000), None, true) != base).any()


def test_zero_negatives_is_an_empty_array_and_one_item_is_an_error() -> None:
    zero, true = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int32)
    assert draw_unseen(0, "x", zero, zero, 0, Catalog.whole(5), None, true).shape == (1, 0)
    with pytest.raises(ValueError, match=r"catalog\.size must be >= 2, got 1"):
        draw_unseen(0, "x", zero, zero, 1, Catalog.whole(1), None, true)


def naive(
    events: RankedEvents, count: int, catalog: Catalog, seen: SeenItems | None
) -> list[list[int]]:
    """Draws for one event and column after the other, with sets."""
    found = []
    for each in range(len(events.device_ids)):
        row = int(events.device_ids[each])
        one = np.array([each])

        def is_seen(item: int, row: int = row) -> bool:
            return seen is not None and bool(seen.contains(np.array([row]), np.array([item]))[0])

        columns: list[int | None] = [None] * count
        for attempt in range(32 if catalog.size > 2 * count else 0):
            drawn = {
                k: int(events.draw(attempt, one, np.array([k]), catalog)[0])
                for k in range(count)
                if columns[k] is None
            }
            taken = set(columns)
            for k, item in reversed(drawn.items()):
                if item not in taken and not is_seen(item):
                    columns[k] = item
                taken.add(item)
        if None in columns:
            keys = {
                int(item): (
                    is_seen(int(item)),
                    int(
                        hashed_bits(
                            events.seed,
                            f"{events.purpose}/order",
                            row,
                            int(events.index[each]),
                            int(item),
                        )[0]
                    )
                    >> 2,
                )
                for item in catalog.items[: catalog.size]
                if item != events.true[each]
            }
            order = sorted(keys, key=keys.__getitem__)
            columns = [order[k % len(order)] for k in range(count)]
        found.append([int(item or 0) for item in columns])
    return found


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 99), st.integers(2, 40), st.integers(1, 30), st.floats(0, 1))
def test_all_at_once_are_those_of_one_event_and_column_after_the_other(
    seed: int, size: int, count: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    rows, items = np.nonzero(rng.random((3, size)) < share)
    seen = SeenItems.of(rows, items.astype(np.int32) + 1, 3, size)
    true = rng.integers(1, size + 1, 6).astype(np.int32)
    events = RankedEvents(seed, "x", np.repeat(np.arange(3), 2), np.tile(np.arange(2), 3), true)
    for avoided in (seen, None):
        drawn = negatives.draw_unseen(events, count, Catalog.whole(size), avoided)
        assert drawn.tolist() == naive(events, count, Catalog.whole(size), avoided)


@pytest.mark.parametrize("num_items", [100, 150, 600])
def test_no_item_comes_twice_in_a_list(num_items: int) -> None:
    index = np.arange(200)
    true = (index % num_items + 1).astype(np.int32)
    drawn = draw_unseen(0, "x", index, index, 99, Catalog.whole(num_items), None, true)
    assert all(len(set(row)) == 99 for row in drawn.tolist())
    assert not (drawn == true[:, None]).any()


@pytest.mark.parametrize("num_items", [6, 8, 30])
def test_every_order_of_unseen_items_is_equally_likely(num_items: int) -> None:
    """Two columns of the items 3 to ``num_items``, in the two ways of drawing."""
    many = 40_000
    seen = SeenItems.of(np.zeros(2, np.int64), np.array([1, 2], np.int32), 1, num_items)
    drawn = draw_unseen(
        1,
        "x",
        np.zeros(many, np.int64),
        np.arange(many),
        2 if num_items > 6 else 3,  # twice as many items as that, or fewer: all in order
        Catalog.whole(num_items),
        seen,
        np.full(many, 2, np.int32),
    )
    pairs, counts = np.unique(drawn[:, :2], axis=0, return_counts=True)
    free = num_items - 2
    assert len(pairs) == free * (free - 1) and pairs.min() == 3
    expected = many / len(pairs)
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    degrees = len(pairs) - 1
    assert abs(chi_square - degrees) < 5 * np.sqrt(2 * degrees)


def test_where_too_few_are_unseen_seen_items_follow_behind_them() -> None:
    seen = SeenItems.of(np.zeros(27, np.int64), np.arange(4, 31, dtype=np.int32), 1, 30)
    zeros = np.zeros(50, np.int64)
    true = np.full(50, 4, np.int32)
    drawn = draw_unseen(0, "x", zeros, np.arange(50), 9, Catalog.whole(30), seen, true)
    assert all(set(row[:3]) == {1, 2, 3} for row in drawn.tolist())
    assert all(len(set(row)) == 9 and 4 not in row for row in drawn.tolist())


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 99),
    st.integers(3, 60),
    st.integers(1, 12),
    st.floats(0, 1),
    st.integers(1, 5),
)
def test_whatever_catalog_rows_and_chunks_no_item_returns_and_unseen_ones_come_first(
    seed: int, size: int, count: int, share: float, chunk: int
) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation(size).astype(np.int32) + 1
    place = np.full(size + 1, -1)
    place[order] = np.arange(size)
    catalog = Catalog(order, place, int(rng.integers(2, size + 1)))
    there = order[: catalog.size]
    row, item = np.nonzero(rng.random((3, size)) < share)
    seen = SeenItems.of(row, item.astype(np.int32) + 1, 3, size)
    rows, true = rng.integers(0, 3, 9), rng.choice(there, 9)
    events = RankedEvents(seed, "x", rows + 40, np.arange(9), true, rows)  # devices 40 to 42
    drawn = negatives.draw_unseen(events, count, catalog, seen)
    for event, items in enumerate(drawn.tolist()):
        others = set(there.tolist()) - {int(true[event])}
        free = {each for each in others if each - 1 not in item[row == rows[event]]}
        distinct = min(count, len(others))
        assert set(items) <= others and len(set(items[:distinct])) == distinct
        num_free = min(count, len(free))
        assert set(items[:num_free]) <= free and len(set(items) & free) == num_free
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(negatives, "_NUMBERS_PER_CHUNK", 1)
        patch.setattr(negatives, "_LEAST_EVENTS_PER_CHUNK", chunk)
        np.testing.assert_array_equal(negatives.draw_unseen(events, count, catalog, seen), drawn)


@pytest.mark.parametrize("count", [2, 9])  # of 100 items; few columns clear entries one by one
def test_an_event_takes_nothing_from_those_drawn_for_before_it(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    many, whole = np.arange(600), Catalog.whole(100)
    true = np.ones(600, np.int32)
    row, item = np.nonzero(np.random.default_rng(0).random((600, 100)) < 0.5)
    seen = SeenItems.of(row, item.astype(np.int32) + 1, 600, 100)
    drawn = draw_unseen(0, "x", many, many, count, whole, seen, true)
    monkeypatch.setattr(negatives, "_NUMBERS_PER_CHUNK", 1)
    monkeypatch.setattr(negatives, "_LEAST_EVENTS_PER_CHUNK", 7)
    again = draw_unseen(0, "x", many, many, count, whole, seen, true)
    np.testing.assert_array_equal(again, drawn)


def test_another_purpose_puts_all_items_in_another_order() -> None:
    zeros, true = np.zeros(1, np.int64), np.ones(1, np.int32)
    one, other = (
        draw_unseen(0, name, zeros, zeros, 29, Catalog.whole(30), None, true) for name in "xy"
    )
    assert sorted(one[0]) == sorted(other[0]) and (one != other).any()
