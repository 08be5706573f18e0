"""GRU4Rec against PyTorch's own layers."""

import torch
from model_cases import parameters_of, random_ids, small_model


def test_gru4rec_equals_pytorchs_layers() -> None:
    model, p = small_model("gru4rec"), parameters_of(small_model("gru4rec"))
    history, candidates = (torch.from_numpy(ids).long() for ids in random_ids(8))
    gru = torch.nn.GRU(8, 8, batch_first=True)
    with torch.no_grad():
        gru.weight_ih_l0.copy_(p["gru.input.weight"].T)
        gru.bias_ih_l0.copy_(p["gru.input.bias"])
        gru.weight_hh_l0.copy_(p["gru.hidden.weight"].T)
        gru.bias_hh_l0.copy_(p["gru.hidden.bias"])
        states = torch.tanh(p["embedding"][history] @ p["sequence.weight"] + p["sequence.bias"])
        last = gru(states)[0][torch.arange(8), (history != 0).sum(1) - 1]
        user = (
            torch.tanh(last @ p["head.0.weight"] + p["head.0.bias"]) @ p["head.1.weight"]
            + p["head.1.bias"]
        )
        target = torch.tanh(p["embedding"][candidates] @ p["target.0.weight"] + p["target.0.bias"])
        target = target @ p["target.1.weight"] + p["target.1.bias"]
        expected = torch.einsum("bd,bcd->bc", user, target)
    torch.testing.assert_close(model.item_states(p, history), states)
    torch.testing.assert_close(model.score(p, history, candidates), expected)
