"""DIN's attention by hand, on items with two numbers each."""

import math

import pytest
import torch

from cdc_flower.models import DIN


def test_attention_by_hand() -> None:
    model = DIN(num_items=3, width=2, history_length=3)
    eye, zero = torch.eye(2), torch.zeros(2)
    p = model.init(torch.Generator())
    # Every map is the identity, so an item is the Tanh of its embedding; arctanh makes it what we
    # like.
    p |= {f"{name}.weight": eye for name in ("target", "sequence")} | {
        "target.bias": zero,
        "sequence.bias": zero,
    }
    p |= {
        "attention.query.weight": eye,
        "attention.key.weight": 2 * eye,
        "attention.value.weight": 3 * eye,
    }
    p["embedding"] = torch.atanh(torch.tensor([[0.9, 0.9], [0.5, 0.0], [0.0, 0.5], [0.8, 0.2]]))
    x, targets = model.encode(p, torch.tensor([[1, 2, 0]]), torch.tensor([[3, 1]]))
    assert targets is None and x.shape == (1, 2, 4)
    # Candidate 3 = (.8, .2) over keys 2 (.5, 0) and 2 (0, .5): logits (.8, .2) / sqrt 2; the
    # padding has no weight.
    weight = 1 / (1 + math.exp((0.2 - 0.8) / math.sqrt(2)))
    assert x[0, 0].tolist() == pytest.approx(
        [0.8, 0.2, 3 * 0.5 * weight, 3 * 0.5 * (1 - weight)], abs=1e-6
    )
    # Candidate 1 = (.5, 0): logits (.5, 0) / sqrt 2.
    weight = 1 / (1 + math.exp(-0.5 / math.sqrt(2)))
    assert x[0, 1].tolist() == pytest.approx([0.5, 0.0, 1.5 * weight, 1.5 * (1 - weight)], abs=1e-6)


def test_three_adaptive_layers_give_the_logit() -> None:
    model = DIN(num_items=3, width=2, history_length=3)
    p = model.init(torch.Generator().manual_seed(0))
    x = torch.randn(5, 1, 4, generator=torch.Generator().manual_seed(1))
    head = torch.nn.Sequential(
        torch.nn.Linear(4, 128),
        torch.nn.Tanh(),
        torch.nn.Linear(128, 64),
        torch.nn.Tanh(),
        torch.nn.Linear(64, 1),
    )
    with torch.no_grad():
        for layer in range(3):
            head[2 * layer].weight.copy_(p[f"head.{layer}.weight"].T)
            head[2 * layer].bias.copy_(p[f"head.{layer}.bias"])
        torch.testing.assert_close(model.match(model.head(p, x), None), head(x).squeeze(-1))
