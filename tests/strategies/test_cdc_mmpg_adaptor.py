"""CDC-MMPG's adaptor alone: its equations, sizes, and the base layer that it starts from."""

import numpy as np
import pytest
import torch
from video_tiny import video_stream

from cdc_flower.models.layers import linear
from cdc_flower.models.video.ranking import VideoQA
from cdc_flower.strategies.cdc_mmpg.adaptor import VARIANTS, FastDomainAdaptor
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

every_variant = pytest.mark.parametrize("variant", VARIANTS)


def adaptor(
    variant: str, num_inputs: int = 6, num_answers: int = 5, seed: int = 0
) -> FastDomainAdaptor:
    random = torch.Generator().manual_seed(seed)
    weight, bias = (
        torch.randn(num_inputs, num_answers, generator=random),
        torch.randn(num_answers, generator=random),
    )
    return FastDomainAdaptor(variant, weight, bias, 7, hidden=4, generator=random)


def moved(fda: FastDomainAdaptor) -> FastDomainAdaptor:
    """An adaptor away from its start, with statistics of some features."""
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in fda.parameters():
            value += 0.3 * torch.randn(value.shape, generator=random)
    fda.settle(torch.randn(64, 7, generator=random))
    return fda.eval()


@every_variant
def test_every_feature_generates_the_base_layer_at_first(variant: str) -> None:
    fda = adaptor(variant).eval()
    start = adaptor(variant)
    random = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(6, 5, generator=random), torch.randn(5, generator=random)
    generated = fda(torch.randn(3, 7))
    assert ("head.0.weight" in generated) == start.has_kernel
    for row in range(3):
        torch.testing.assert_close(generated["head.0.bias"][row], bias)
        if start.has_kernel:
            torch.testing.assert_close(generated["head.0.weight"][row], weight)


@every_variant
def test_one_device_gets_the_same_layer_alone_and_in_a_batch(variant: str) -> None:
    fda, features = moved(adaptor(variant)), torch.randn(9, 7)
    together = fda(features)
    for row in range(9):
        for name, value in fda(features[row : row + 1]).items():
            torch.testing.assert_close(value[0], together[name][row])
    if fda.has_kernel:  # in training mode who else is in the batch would matter
        fda.train()
        alone, others = fda(features[:2]), fda(features)
        assert not torch.allclose(alone["head.0.bias"][0], others["head.0.bias"][0])


def test_the_stages_are_those_of_the_equations() -> None:
    z = torch.randn(5, 7)

    def normal(norm: torch.nn.BatchNorm1d, x: torch.Tensor) -> torch.Tensor:
        spread = (norm.running_var + norm.eps).sqrt()  # type: ignore[operator]
        return (x - norm.running_mean) / spread * norm.weight + norm.bias

    one = moved(adaptor("oneM+bias"))
    kernel = normal(one.kernel_norm, z @ one.kernel_weight + one.kernel_bias)
    torch.testing.assert_close(one(z)["head.0.weight"], kernel.reshape(5, 6, 5))
    torch.testing.assert_close(one(z)["head.0.bias"], normal(one.bias_norm, z @ one.bias_weight))
    two = moved(adaptor("twoM+bias"))
    q = normal(two.first_norm, z @ two.first_weight + two.first_bias)
    kernel = normal(two.kernel_norm, q @ two.kernel_weight + two.kernel_bias)
    torch.testing.assert_close(two(z)["head.0.weight"], kernel.reshape(5, 6, 5))
    bias = moved(adaptor("twobias"))
    expected = bias.base_bias + (z @ bias.first_weight + bias.first_bias) @ bias.bias_weight
    torch.testing.assert_close(bias(z)["head.0.bias"], expected)
    only = moved(adaptor("onebias"))
    torch.testing.assert_close(only(z)["head.0.bias"], only.base_bias + z @ only.bias_weight)


@pytest.mark.parametrize(
    ("num_answers", "numbers", "num_bytes", "one_m", "two_m"),
    [
        (1001, 97_097, 388_388, 18.74, 12.55),
        (1501, 145_597, 582_388, 28.10, 18.81),
        (1541, 149_477, 597_908, 28.85, 19.31),
    ],
)
def test_the_sizes_are_those_of_the_paper_s_shape(
    num_answers: int, numbers: int, num_bytes: int, one_m: float, two_m: float
) -> None:
    weight, bias = torch.zeros(96, num_answers), torch.zeros(num_answers)
    one = FastDomainAdaptor("oneM+bias", weight, bias, 192)
    two = FastDomainAdaptor("twoM+bias", weight, bias, 192, hidden=128)
    assert one.num_generated == two.num_generated == numbers
    stream = video_stream()
    assert VideoQA(stream.table.clips, num_answers, 96).num_adaptive == numbers
    sent = {name: value.detach().numpy() for name, value in one.eval()(torch.zeros(1, 192)).items()}
    down = MessageBatch(records.EVALUATE, np.array([2]), {records.PARAMETERS: sent})
    assert down.payload_bytes()[0] == num_bytes
    few = FastDomainAdaptor("onebias", weight, bias, 192)
    sent = {name: value.detach().numpy() for name, value in few(torch.zeros(1, 192)).items()}
    assert (
        MessageBatch(records.EVALUATE, np.array([2]), {records.PARAMETERS: sent}).payload_bytes()[0]
        == 4 * num_answers
    )
    matrices = {"kernel_weight", "kernel_bias", "bias_weight", "first_weight", "first_bias"}
    for fda, millions in ((one, one_m), (two, two_m)):
        count = sum(value.numel() for name, value in fda.named_parameters() if name in matrices)
        assert round(count / 1e6, 2) == pytest.approx(millions, abs=0.011)


@every_variant
def test_every_matrix_is_registered_and_moves_in_training(variant: str) -> None:
    fda = adaptor(variant)
    before = {name: value.detach().clone() for name, value in fda.named_parameters()}
    numbers = {"onebias": 35, "twobias": 7 * 4 + 4 + 20, "oneM+bias": 7 * 30 + 30 + 35 + 60 + 10}
    numbers["twoM+bias"] = 7 * 4 + 4 + 8 + 4 * 30 + 30 + 20 + 60 + 10
    assert fda.num_parameters == numbers[variant]
    optimizer = torch.optim.Adam(fda.parameters(), lr=0.05)
    z, u = torch.randn(32, 7), torch.randn(32, 1, 6)
    for _ in range(
        3
    ):  # the last normalization starts at 0, so what is before it moves from the second step on
        generated = fda.train()(z)
        weight = generated.get("head.0.weight", torch.zeros(32, 6, 5))
        loss = (linear(u, weight, generated["head.0.bias"]) - torch.randn(32, 1, 5)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, value in fda.named_parameters():
        if name not in ("kernel_bias",):  # normalization takes a constant off again
            assert not torch.equal(value, before[name]), name
