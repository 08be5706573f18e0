"""Prototypes: who belongs to which, and how they move."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from cdc_flower.core.seeds import torch_generator
from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.persona.prototypes import Bank, cluster, nearest, norms

NUM_GROUPS, NUM_DEVICES = 3, 12
SHAPES = {"head.0.weight": (2, 3), "head.0.bias": (3,)}


def layers(count: int, seed: int, scale: float = 1.0) -> Parameters:
    draw = torch_generator(seed, "layers")
    return {
        name: scale * torch.randn(count, *shape, generator=draw) for name, shape in SHAPES.items()
    }


def bank() -> Bank:
    return Bank.of(
        layers(NUM_GROUPS, 0), torch.randn(NUM_GROUPS, 4, generator=torch_generator(0, "centers"))
    )


def points(seed: int = 1) -> torch.Tensor:
    return torch.randn(NUM_DEVICES, 4, generator=torch_generator(seed, "points"))


GROUPS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0, 0])


def mean_residual(edits: Parameters, of: Bank, group_of: np.ndarray) -> list[float]:
    """How far each prototype is from the mean of what its members use."""
    sizes = []
    for group in range(NUM_GROUPS):
        member = torch.from_numpy(np.flatnonzero(group_of == group))
        parts = of.residual(
            group, {name: value[member] for name, value in edits.items()}, float("inf")
        )
        sizes.append(float(sum(value.mean(0).square().sum() for value in parts.values())) ** 0.5)
    return sizes


def test_by_hand_a_prototype_moves_its_share_toward_the_mean_of_its_members_edits() -> None:
    start = Bank.of(
        {"head.0.weight": torch.tensor([[[1.0]], [[10.0]]])}, torch.tensor([[0.0], [8.0]])
    )
    edits = {"head.0.weight": torch.tensor([[[2.0]], [[4.0]], [[-1.0]]])}
    after = start.refined(np.array([0, 0, 1]), edits, torch.tensor([[1.0], [3.0], [4.0]]), 0.5)
    np.testing.assert_allclose(after.layers["head.0.weight"].flatten(), [1 + 0.5 * 3, 10 - 0.5])
    np.testing.assert_allclose(after.centers.flatten(), [1.0, 6.0])
    assert after.version.tolist() == [1, 1]
    # What the members still need is less by what the prototype moved, so what they use is what it
    # was.
    left = after.residual(0, {"head.0.weight": torch.tensor([[[2.0]]])}, 1.0)
    assert left["head.0.weight"].item() == 0.5


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 1.0), st.integers(0, 5))
def test_refinement_shrinks_the_mean_edit_that_members_need_by_one_minus_the_rate(
    rate: float, seed: int
) -> None:
    edits, start = layers(NUM_DEVICES, seed + 1), bank()
    after = start.refined(GROUPS, edits, points(), rate)
    before, now = mean_residual(edits, start, GROUPS), mean_residual(edits, after, GROUPS)
    np.testing.assert_allclose(now, [(1 - rate) * size for size in before], rtol=1e-3, atol=1e-5)


def test_refinement_does_not_change_what_a_device_uses() -> None:
    edits, start = layers(NUM_DEVICES, 3), bank()
    after = start.refined(GROUPS, edits, points(), 0.3).refined(GROUPS, edits, points(), 0.3)
    for group in range(NUM_GROUPS):
        for name, value in after.residual(group, edits, float("inf")).items():
            torch.testing.assert_close(
                after.layers[name][group] + value, start.layers[name][group] + edits[name]
            )


def test_a_prototype_whose_members_edits_cancel_stays_and_keeps_its_version() -> None:
    one = layers(1, 2)
    edits = {name: torch.cat([value, -value]) for name, value in one.items()}
    start = bank()
    after = start.refined(np.array([1, 1]), edits, points()[:2], 0.5)
    assert after.version[1] == 0
    for name, value in after.layers.items():
        assert torch.equal(value[1], start.layers[name][1])


def test_a_rate_of_zero_is_the_bank_itself_and_its_edits_are_the_editors_to_the_bit() -> None:
    start, edits = bank(), layers(NUM_DEVICES, 1)
    assert start.refined(GROUPS, edits, points(), 0.0) is start
    assert start.residual(1, edits, 1.0) is edits


def test_an_empty_group_moves_to_the_device_with_the_largest_edit_and_takes_its_editor() -> None:
    edits, start = layers(NUM_DEVICES, 1, 0.1), bank()
    edits["head.0.weight"][4] = 5.0
    group_of = np.where(GROUPS == 2, 0, GROUPS)
    after = start.refined(group_of, edits, points(), 0.5)
    assert after.editor.tolist() == [0, 1, 1]  # device 4 is in group 1
    torch.testing.assert_close(after.centers[2], points()[4])
    assert after.version[2] == 1
    for name, value in after.layers.items():
        torch.testing.assert_close(value[2], start.layers[name][1] + edits[name][4])
        assert (
            after.residual(2, {n: v[4:5] for n, v in edits.items()}, 9.0)[name].abs() < 1e-6
        ).all()


def test_a_group_is_not_emptied_to_fill_another() -> None:
    start, edits = bank(), layers(1, 1)
    after = start.refined(np.array([0]), edits, points()[:1], 0.5)
    assert after.version.tolist() == [1, 0, 0]
    assert after.editor.tolist() == [0, 1, 2]


def test_an_edit_of_a_moved_prototype_is_clipped() -> None:
    start = bank()
    after = start.refined(GROUPS, layers(NUM_DEVICES, 1, 4.0), points(), 1.0)
    for value in after.residual(0, layers(NUM_DEVICES, 2, 4.0), 0.25).values():
        assert value.abs().max() <= 0.25


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 20), st.integers(1, 6), st.integers(0, 5))
def test_the_nearest_center_is_that_of_all_distances(
    num_points: int, num_centers: int, seed: int
) -> None:
    draw = torch_generator(seed, "nearest")
    where, centers = (torch.randn(count, 3, generator=draw) for count in (num_points, num_centers))
    expected = [
        min(range(num_centers), key=lambda j: float((p - centers[j]).norm())) for p in where
    ]
    assert nearest(where, centers).tolist() == expected


def test_the_norm_of_an_edit_is_that_of_all_its_matrices_without_biases() -> None:
    edits = {
        **layers(4, 1),
        "head.1.weight": torch.ones(4, 2, 2),
        "head.1.bias": torch.full((4, 2), 9.0),
    }
    expected = [(float(edits["head.0.weight"][k].square().sum()) + 4) ** 0.5 for k in range(4)]
    np.testing.assert_allclose(norms(edits), expected, rtol=1e-6)


def blobs() -> torch.Tensor:
    draw = torch_generator(0, "blobs")
    middles = torch.tensor([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
    return torch.cat([middle + 0.3 * torch.randn(30, 2, generator=draw) for middle in middles])


def test_k_means_is_that_of_scikit_learn() -> None:
    where = blobs()
    ours = cluster(where, 3, seed=0)
    theirs = KMeans(3, random_state=0).fit(where.double().numpy())
    np.testing.assert_allclose(ours, theirs.cluster_centers_, atol=1e-6)
    assert nearest(where, ours).tolist() == theirs.labels_.tolist()


def test_k_means_finds_the_same_groups_in_another_order_of_samples() -> None:
    where, order = blobs(), torch.randperm(90, generator=torch_generator(0, "order"))
    one, other = nearest(where, cluster(where, 3, 0)), nearest(where, cluster(where[order], 3, 0))
    names = dict(zip(one, other, strict=True))
    assert sorted(names.values()) == [0, 1, 2]
    assert [names[k] for k in one] == other.tolist()
    assert np.bincount(one).tolist() == [30, 30, 30]


@pytest.mark.parametrize("num_distinct", [1, 2])
def test_fewer_distinct_samples_than_groups_leave_groups_empty_and_nothing_fails(
    num_distinct: int,
) -> None:
    where = blobs()[:num_distinct].repeat(5, 1)
    centers = cluster(where, 4, 0)
    assert centers.shape == (4, 2)
    assert len(set(nearest(where, centers).tolist())) == num_distinct


def test_groups_and_prototypes_have_no_order(recwarn: pytest.WarningsRecorder) -> None:
    edits, where = layers(NUM_DEVICES, 1), points()
    start = bank()
    after = start.refined(GROUPS, edits, where, 0.4)
    for order in itertools.permutations(range(NUM_GROUPS)):
        shuffled = Bank.of(
            {name: value[list(order)] for name, value in start.trained.items()},
            start.centers[list(order)],
        )
        place = np.argsort(order)
        other = shuffled.refined(place[GROUPS], edits, where, 0.4)
        for name, value in other.layers.items():
            torch.testing.assert_close(value[place], after.layers[name])
    assert not len(recwarn)
