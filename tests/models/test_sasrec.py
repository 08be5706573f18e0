"""SASRec against PyTorch's Transformer encoder layer."""

import pytest
import torch
from model_cases import parameters_of, random_ids, small_model

from cdc_flower.models import SASRec


def test_sasrec_equals_pytorchs_encoder_layer_at_the_last_valid_position() -> None:
    model, p = small_model("sasrec"), parameters_of(small_model("sasrec"))
    generator = torch.Generator().manual_seed(5)
    for name in ("norm.0.weight", "norm.0.bias", "norm.1.weight", "norm.1.bias"):
        p[name] = torch.randn(8, generator=generator)
    history, candidates = (torch.from_numpy(ids).long() for ids in random_ids(8))
    layer = torch.nn.TransformerEncoderLayer(
        8, 4, 128, 0.0, "relu", batch_first=True, norm_first=False
    )
    with torch.no_grad():
        attention = layer.self_attn
        attention.in_proj_weight.copy_(
            torch.cat([p["attention.query.weight"], p["attention.key_value.weight"]], 1).T
        )
        attention.in_proj_bias.copy_(
            torch.cat([p["attention.query.bias"], p["attention.key_value.bias"]])
        )
        for ours, theirs in (
            ("attention.output", attention.out_proj),
            ("feed_forward.0", layer.linear1),
            ("feed_forward.1", layer.linear2),
            ("norm.0", layer.norm1),
            ("norm.1", layer.norm2),
        ):
            theirs.weight.copy_(
                p[f"{ours}.weight"].T if theirs.weight.dim() == 2 else p[f"{ours}.weight"]
            )
            theirs.bias.copy_(p[f"{ours}.bias"])
        states = p["embedding"][history] + p["position"]
        states = torch.tanh(states @ p["sequence.weight"] + p["sequence.bias"])
        encoded = layer(states, src_key_padding_mask=history == 0)
        last = encoded[torch.arange(8), (history != 0).sum(1) - 1]
        user = (
            torch.tanh(last @ p["head.0.weight"] + p["head.0.bias"]) @ p["head.1.weight"]
            + p["head.1.bias"]
        )
        target = torch.tanh(p["embedding"][candidates] @ p["target.0.weight"] + p["target.0.bias"])
        target = target @ p["target.1.weight"] + p["target.1.bias"]
        expected = torch.einsum("bd,bcd->bc", user, target)
    torch.testing.assert_close(
        model.encode(p, history, candidates)[0].squeeze(1), last, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(model.score(p, history, candidates), expected, rtol=1e-5, atol=1e-5)


def test_a_width_that_the_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="width must be a multiple of 4, got 6"):
        SASRec(10, width=6)
