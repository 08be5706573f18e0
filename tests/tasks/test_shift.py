import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cdc_flower.core.errors import UserError
from cdc_flower.tasks.data.registry import SHIFTS
from cdc_flower.tasks.shift import ShiftSchedule

kinds, shifting = st.sampled_from(SHIFTS), st.sampled_from(sorted(set(SHIFTS) - {"none"}))


@settings(max_examples=50, deadline=None)
@given(
    kinds,
    st.integers(1, 15),
    st.integers(1, 5),
    st.integers(1, 7),
    st.integers(0, 9),
    st.integers(-9, 9),
)
@example("incremental", 9, 2, 5, 0, 0)
@example("gradual", 9, 3, 5, 0, -9)
def test_weights_sum_to_one_and_the_context_dominates(
    kind: str, segments: int, contexts: int, period: int, seed: int, first: int
) -> None:
    schedule, ids = ShiftSchedule(kind, segments, contexts, period, seed), np.arange(5)
    weights = schedule.weights(ids, first_segment=first)
    context_id = schedule.context_id(ids, first_segment=first)
    assert weights.shape == (5, segments, contexts)
    assert weights.min() >= 0 and weights.sum(axis=2) == pytest.approx(np.ones((5, segments)))
    chosen = np.take_along_axis(weights, context_id[..., None], axis=2)[..., 0]
    assert chosen == pytest.approx(weights.max(axis=2))


@settings(max_examples=50, deadline=None)
@given(shifting, st.integers(2, 5), st.integers(1, 7), st.integers(0, 99))
def test_every_device_shifts_when_there_are_more_segments_than_the_period(
    kind: str, contexts: int, period: int, seed: int
) -> None:
    schedule = ShiftSchedule(kind, period + 1, contexts, period, seed)
    is_shift, context_id = schedule.is_shift(np.arange(20)), schedule.context_id(np.arange(20))
    assert is_shift.any(axis=1).all()
    assert not is_shift[:, 0].any()
    assert (is_shift[:, 1:] == (context_id[:, 1:] != context_id[:, :-1])).all()


@settings(max_examples=20, deadline=None)
@given(kinds, st.integers(0, 99))
def test_a_device_depends_on_no_other_device_and_on_no_later_segment(kind: str, seed: int) -> None:
    many = ShiftSchedule(kind, 12, 3, 4, seed).weights(np.arange(50))
    one = ShiftSchedule(kind, 7, 3, 4, seed).weights(np.array([17]))
    late = ShiftSchedule(kind, 9, 3, 4, seed).weights(np.array([17]), first_segment=3)
    assert one[0] == pytest.approx(many[17, :7], abs=0)
    assert late[0] == pytest.approx(many[17, 3:], abs=0)


@pytest.mark.parametrize("kind", ["abrupt", "gradual", "incremental", "recurring"])
def test_shifts_come_once_in_a_period_on_average(kind: str) -> None:
    shifts = ShiftSchedule(kind, 401, 3, 5, 0).is_shift(np.arange(50))
    assert shifts[:, 1:].mean() == pytest.approx(1 / 5, rel=0.02)


def test_an_abrupt_shift_is_whole_and_comes_at_different_moments() -> None:
    schedule = ShiftSchedule("abrupt", 9, 3, 4, 0)
    assert set(np.unique(schedule.weights(np.arange(50)))) == {0.0, 1.0}
    assert len(np.unique(schedule.is_shift(np.arange(50)).argmax(axis=1))) == 4


def test_a_gradual_shift_of_period_4_rises_by_thirds() -> None:
    weights = ShiftSchedule("gradual", 9, 2, 4, 0).weights(np.arange(30))
    starts = [np.flatnonzero((row[:-3, 0] == 1) & (row[1:-2, 0] == 1)) for row in weights]
    device = next(d for d, found in enumerate(starts) if len(found))
    start = int(starts[device][0])
    assert weights[device, start : start + 5, 1] == pytest.approx([0, 0, 1 / 3, 2 / 3, 1])


def test_an_incremental_shift_moves_by_equal_steps_over_the_whole_period() -> None:
    schedule = ShiftSchedule("incremental", 9, 2, 4, 0)
    steps = np.diff(schedule.weights(np.arange(30))[:, :, 0], axis=1)
    assert np.abs(steps) == pytest.approx(np.full((30, 8), 0.25))
    assert schedule.blends and not ShiftSchedule("gradual", 9, 2, 4, 0).blends


def test_a_recurring_shift_goes_between_two_contexts() -> None:
    context_id = ShiftSchedule("recurring", 13, 5, 3, 0).context_id(np.arange(30))
    assert all(len(np.unique(row)) == 2 for row in context_id)
    assert (context_id[:, 6:] == context_id[:, :-6]).all()
    assert (context_id[:, 3:] != context_id[:, :-3]).all()


def test_no_shift_and_a_single_context_stay_where_they_are() -> None:
    still = ShiftSchedule("none", 9, 3, 2, 0)
    context_id = still.context_id(np.arange(30))
    assert (context_id == context_id[:, :1]).all() and len(np.unique(context_id)) == 3
    for kind in SHIFTS:
        assert not ShiftSchedule(kind, 9, 1, 2, 0).is_shift(np.arange(30)).any()


def test_an_unknown_shift_suggests_the_nearest_name() -> None:
    with pytest.raises(
        UserError, match=r"data.shift: unknown shift 'graduall'; did you mean 'gradual'"
    ):
        ShiftSchedule("graduall", 9, 3, 4, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 3, 4), "num_segments must be >= 1, got 0"),
        ((9, 0, 4), "data.num_contexts must be >= 1, got 0"),
        ((9, 3, 0), "data.period must be >= 1, got 0"),
    ],
)
def test_a_number_below_one_is_an_error(values: tuple[int, int, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ShiftSchedule("abrupt", *values, 0)
