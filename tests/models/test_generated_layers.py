"""Generated layers give what layers made one by one give, forward and backward."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc_flower.models import generated_layers as generated
from cdc_flower.models.generated_layers import generated_head, generated_linear


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
        patch.setattr(generated, "ROWS_PER_CHUNK", 4)
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
