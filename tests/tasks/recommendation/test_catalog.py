"""Items exist from the moment at which some device first chooses them."""

import numpy as np

from cdc_flower.tasks.recommendation.catalog import Catalog, catalogs
from cdc_flower.tasks.recommendation.negatives import RankedEvents, draw_unseen

# Two devices; the cut is before event 1 of the first and event 2 of the second (indices 1 and 6),
# and segments follow.
OFFSETS = np.array([0, 4, 8])
ITEMS = np.array([5, 2, 3, 6, 5, 1, 3, 2], np.int32)
BOUNDS = np.array([[1, 2, 4], [6, 7, 8]])


def test_an_item_exists_from_the_segment_in_which_some_device_first_chooses_it() -> None:
    found = catalogs(OFFSETS, ITEMS, BOUNDS, num_items=7)

    # Before the cut: 5 on both, 1 on the second. Segment 0: 2 and 3. Segment 1: 6. Item 7 never
    # appears.
    assert [sorted(c.items[: c.size].tolist()) for c in found] == [
        [1, 5],
        [1, 2, 3, 5],
        [1, 2, 3, 5, 6],
    ]


def test_the_place_of_an_item_is_where_it_stands() -> None:
    for catalog in [*catalogs(OFFSETS, ITEMS, BOUNDS, num_items=7), Catalog.whole(7)]:
        np.testing.assert_array_equal(catalog.place[catalog.items], np.arange(7))


def test_negatives_come_from_the_items_that_exist_and_reach_all_of_them_but_the_true_one() -> None:
    catalog = catalogs(OFFSETS, ITEMS, BOUNDS, num_items=7)[1]
    zero = np.zeros(1, np.int64)

    events = RankedEvents(0, "x", zero, zero, np.array([3], np.int32))
    drawn = draw_unseen(events, 200, catalog, None)

    assert set(drawn.ravel().tolist()) == {1, 2, 5}


def test_a_catalog_of_everything_is_every_item_once() -> None:
    np.testing.assert_array_equal(Catalog.whole(3).items, [1, 2, 3])
