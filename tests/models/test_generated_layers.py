"""Generated layers give what layers made one by one give, forward and backward."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc_flower.models import generated_layers
from cdc_flower.models.generated_layers import (
    clip_,
    generated,
    generated_head,
    generated_linear,
    split_layer,
)


def parts(
    num_rows: int, width: int, num_inputs: int, num_outputs: int, scale: float = 1.0
) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = (num_rows, 3, num_inputs), (num_inputs + 1, num_outputs), (num_rows, width)
    shapes += ((width, (num_inputs + 1) * num_outputs), ((num_inputs + 1) * num_outputs,))
    return [
        (scale * torch.randn(*shape, generator=draw)).double().requires_grad_() for shape in shapes
    ]


def one_by_one(
    x: torch.Tensor,
    base: torch.Tensor,
    e: torch.Tensor,
    p: torch.Tensor,
    b: torch.Tensor,
    clip: float,
) -> torch.Tensor:
    rows = []
    for row in range(len(x)):
        layer = base + (e[row] @ p + b).clamp(-clip, clip).view_as(base)
        rows.append(x[row] @ layer[:-1] + layer[-1])
    return torch.stack(rows)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(1, 4),
    st.sampled_from([0.3, 1.0, 1e9]),
)
def test_each_row_goes_through_the_layer_that_its_embedding_decodes_to(
    num_rows: int, width: int, num_inputs: int, num_outputs: int, clip: float
) -> None:
    given_parts = parts(num_rows, width, num_inputs, num_outputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generated_layers, "ROWS_PER_CHUNK", 4)
        y = generated_linear(*given_parts, clip)
        ours = torch.autograd.grad(y.square().sum(), given_parts)
    expected = one_by_one(*given_parts, clip)
    theirs = torch.autograd.grad(expected.square().sum(), given_parts)
    torch.testing.assert_close(y, expected)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference)


def test_gradients_agree_with_finite_differences() -> None:
    assert torch.autograd.gradcheck(
        lambda *args: generated_linear(*args, 5.0), parts(3, 2, 2, 2, scale=0.3)
    )


def test_what_is_clipped_gets_no_gradient() -> None:
    x, base, e, p, b = parts(4, 2, 2, 2)
    with torch.no_grad():
        b += 100.0
    grads = torch.autograd.grad(generated_linear(x, base, e, p, b, 1.0).sum(), [e, p, b])
    assert all((grad == 0).all() for grad in grads)


def test_a_head_has_tanh_between_its_layers_and_none_after_the_last() -> None:
    first, second = parts(4, 2, 3, 5), parts(4, 2, 5, 1)
    x = first[0]
    y = generated_head(
        x,
        [first[1], second[1]],
        [first[2], second[2]],
        [(first[3], first[4]), (second[3], second[4])],
    )
    hidden = torch.tanh(generated_linear(x, *first[1:]))
    torch.testing.assert_close(y, generated_linear(hidden, *second[1:]))


@pytest.mark.parametrize("clip", [0.0, 0.5, float("inf")])
@pytest.mark.parametrize("trains", [False, True])
def test_a_whole_layer_is_its_base_and_a_clipped_map_of_its_embedding(
    clip: float, trains: bool
) -> None:
    draw = torch.Generator().manual_seed(0)
    e, p, b, w = (torch.randn(size, generator=draw) for size in ((3, 2), (2, 12), (12,), (12,)))
    e.requires_grad_(trains)
    made = split_layer(generated(e, p, b, clip, w), 1, 3, 3)
    for row in range(3):
        edit = [max(-clip, min(clip, float(e[row].detach() @ p[:, k] + b[k]))) for k in range(12)]
        expected = w + torch.tensor(edit)
        torch.testing.assert_close(made["head.1.weight"][row], expected[:9].view(3, 3))
        torch.testing.assert_close(made["head.1.bias"][row], expected[9:])
    torch.testing.assert_close(generated(e, p, b, clip, torch.zeros(12)), generated(e, p, b, clip))
    assert made["head.1.bias"].requires_grad == trains


def test_clipping_tells_whether_anything_was_beyond_the_bound() -> None:
    values = torch.tensor([[-2.0, 0.5], [float("nan"), 3.0]])
    assert not clip_(values[:1], 2.0) and not clip_(values, float("inf"))
    assert clip_(values, 1.0)
    assert values[0].tolist() == [-1.0, 0.5] and values[1, 1] == 1.0 and values[1, 0].isnan()
    assert not clip_(torch.empty(0, 3), 1.0)
