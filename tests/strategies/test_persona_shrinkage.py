"""Edits shrunk toward the mean of their prototype's members, by the noise that they show."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.persona.shrinkage import Shrinking, halves, noise, shrunk, weight


def test_the_halves_of_a_report_are_its_older_and_its_newer_items() -> None:
    older, newer = halves(np.array([[1, 2, 3, 4, 5], [1, 2, 3, 4, 0], [7, 0, 0, 0, 0]], np.int32))
    assert older.tolist() == [[1, 2, 3], [1, 2, 0], [7, 0, 0]]
    assert newer.tolist() == [[3, 4, 5], [3, 4, 0], [7, 0, 0]]


def test_the_james_stein_weight_is_that_of_efron_and_morris() -> None:
    # Five scalars of noise 2 with a spread of 10: B = (5 - 3) 2 / 10.
    assert weight(10.0, 2.0, 5, 1) == pytest.approx(0.4)
    # Three members with four entries, noise .5 an entry: B = ((3 - 1) 4 - 2) .5 / 6.
    assert weight(6.0, 4 * 0.5, 3, 4) == pytest.approx(0.5)
    assert weight(10.0, 0.0, 5, 1) == 0.0
    assert weight(10.0, 1e9, 5, 1) == 1.0
    assert weight(0.0, 1.0, 5, 1) == weight(10.0, 1.0, 1, 1) == 0.0
    assert weight(10.0, 1.0, 2, 1) == 0.0  # fewer degrees than the two that are taken off


def test_edits_shrink_toward_the_mean_of_their_group_and_keep_it() -> None:
    edits = {"head.0.weight": torch.tensor([[1.0, 0], [3, 0], [5, 6], [9, 9]])}
    noises, groups = torch.tensor([0.0, 0.0, 1.0, 1e9]), np.array([0, 0, 1, 1])
    made, shares = shrunk(edits, noises, groups)
    assert shares.tolist() == [0, 0, 0, 0]  # of two members with two entries no degree is left
    six = {"head.0.weight": torch.tensor([[1.0, 0], [3, 0], [2, 6], [0, 2]])}
    made, shares = shrunk(six, torch.full((4,), 2.0), np.zeros(4, np.int64))
    spread = float((six["head.0.weight"] - six["head.0.weight"].mean(0)).square().sum())
    assert float(shares[0]) == pytest.approx((3 * 2 - 2) * 1.0 / spread)
    torch.testing.assert_close(made["head.0.weight"].mean(0), six["head.0.weight"].mean(0))
    alike, _ = shrunk(six, torch.full((4,), 1e9), np.zeros(4, np.int64))
    torch.testing.assert_close(alike["head.0.weight"], six["head.0.weight"].mean(0).expand(4, -1))
    assert noise(torch.tensor([[2.0, 4.0]])).tolist() == [5.0]


def test_each_group_shrinks_by_its_own_noise_toward_its_own_mean() -> None:
    edits = {"w": torch.tensor([[0.0] * 4, [4.0] * 4, [10.0] * 4, [30.0] * 4])}
    noises = torch.tensor([2.0, 6.0, 40.0, 80.0])
    made, shares = shrunk(edits, noises, np.array([0, 0, 1, 1]))
    # Two members of four entries: B = (4 - 2) / 4 times the mean noise over the spread.
    first, second = 0.5 * 4 / (4 * 2 * 2.0**2), 0.5 * 60 / (4 * 2 * 10.0**2)
    assert shares.tolist() == pytest.approx([first, first, second, second])
    assert made["w"][:, 0].tolist() == pytest.approx(
        [2 * first, 4 - 2 * first, 10 + 10 * second, 30 - 10 * second]
    )
    assert edits["w"][:, 0].tolist() == [0, 4, 10, 30]  # what was given stays


def test_entries_of_all_layers_count_and_the_share_is_one_for_all() -> None:
    edits = {"w": torch.tensor([[0.0] * 3, [2.0] * 3]), "b": torch.tensor([[1.0], [5.0]])}
    made, shares = shrunk(edits, torch.full((2,), 8.0), np.zeros(2, np.int64))
    share = 0.5 * 8 / (2 * (3 * 1 + 2.0**2))
    assert shares.tolist() == pytest.approx([share] * 2)
    assert made["b"].flatten().tolist() == pytest.approx([1 + 2 * share, 5 - 2 * share])


def test_the_noise_is_what_the_halves_of_a_report_show_in_all_layers() -> None:
    def edits_of(half: np.ndarray) -> Parameters:
        total = torch.from_numpy(half.sum(1)).float()
        return {"w": total[:, None].repeat(1, 3), "b": 2 * total[:, None]}

    reported = np.array([[1, 2, 3, 4], [5, 5, 5, 5]], np.int32)
    # Older and newer are 3 and 7 on the first device, alike on the second.
    noises = torch.tensor([(3 * 4.0**2 + 8.0**2) / 4, 0.0])
    edits = {"w": torch.tensor([[0.0] * 3, [20.0] * 3]), "b": torch.tensor([[0.0], [9.0]])}
    groups = np.zeros(2, np.int64)
    found = Shrinking(edits_of).of(reported)(edits, groups)
    expected, shares = shrunk(edits, noises, groups)
    assert 0 < float(shares[0]) < 1
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


@given(st.floats(0.01, 1e3), st.floats(0.0, 1e3), st.integers(1, 8), st.integers(1, 8))
def test_a_weight_is_a_share_and_no_less_where_there_is_more_noise(
    spread: float, noise_of_edit: float, num_members: int, num_entries: int
) -> None:
    sizes = num_members, num_entries
    share = weight(spread, noise_of_edit, *sizes)
    assert 0 <= share <= weight(spread, 2 * noise_of_edit, *sizes) <= 1
    if (num_members - 1) * num_entries <= 2:
        assert share == 0
