"""Plays the round of ``workload.py`` in one function, for this model and these shapes alone.

No messages, no states, no options: what a researcher would write for one experiment, with the
fastest kernels that we know. The sums come from the same metrics as on a grid, so that what differs
is all that is around the arithmetic; ``grid.py`` checks that the sums are equal.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import embedding

from benchmarks.support.workload import FixedStream
from cdc_flower.tasks.recommendation.metrics import METRICS, RankingMetrics

DEVICES_PER_CHUNK = 125  # the fastest of 25 to 1,000 where this was written


@torch.inference_mode()
def round_by_hand(
    stream: FixedStream, base: dict[str, NDArray[np.float32]], own: dict[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float64]]:
    """Plays one round.

    Args:
        stream: Of the devices.
        base: The deployed model.
        own: Adaptive layers, stacked over devices.

    Returns:
        Sums ``[n]`` of the metrics, and the binned scores ``[n, 512]``.
    """
    p = {name: torch.from_numpy(value) for name, value in base.items()}
    items = p["embedding"]
    target = (
        torch.tanh(items @ p["target.0.weight"] + p["target.0.bias"]) @ p["target.1.weight"]
        + p["target.1.bias"]
    )
    gates_of = (
        torch.tanh(items @ p["sequence.weight"] + p["sequence.bias"]) @ p["gru.input.weight"]
        + p["gru.input.bias"]
    )
    parts = [
        _chunk(stream, slice(k, k + DEVICES_PER_CHUNK), target, gates_of, p, own)
        for k in range(0, stream.num_devices, DEVICES_PER_CHUNK)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _chunk(
    stream: FixedStream,
    devices: slice,
    target: torch.Tensor,
    gates_of: torch.Tensor,
    p: dict[str, torch.Tensor],
    own: dict[str, NDArray[np.float32]],
) -> dict[str, NDArray[np.float64]]:
    heads = {name: torch.from_numpy(value[devices]) for name, value in own.items()}
    n = len(heads["head.0.bias"])
    events = stream.events
    rows = slice(devices.start * events, (devices.start + n) * events)
    history = torch.from_numpy(stream.history[rows]).long()
    gates = embedding(history, gates_of)
    steps = (history != 0).sum(-1)
    h = torch.zeros(len(history), 32)
    for t, gate in enumerate(gates.unbind(1)):
        hidden = torch.addmm(p["gru.hidden.bias"], h, p["gru.hidden.weight"])
        r, z = torch.sigmoid(gate[:, :64] + hidden[:, :64]).chunk(2, -1)
        c = torch.tanh(torch.addcmul(gate[:, 64:], r, hidden[:, 64:]))
        h = torch.where((t < steps)[:, None], torch.lerp(c, h, z), h)
    x = torch.baddbmm(heads["head.0.bias"][:, None], h.view(n, events, 32), heads["head.0.weight"])
    y = torch.baddbmm(heads["head.1.bias"][:, None], torch.tanh(x), heads["head.1.weight"]).view(
        -1, 1, 32
    )
    logits = (
        (embedding(torch.from_numpy(stream.candidates[rows]).long(), target) @ y.transpose(1, 2))
        .squeeze(-1)
        .numpy()
    )
    scores = RankingMetrics().score(
        logits, stream.segment(np.arange(devices.start, devices.start + n), 0)
    )
    sums = dict(zip(METRICS, scores.value_sum.T, strict=True))
    return {**sums, "positive": scores.positive, "negative": scores.negative}
