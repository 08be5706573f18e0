"""The editor and the edited head, and the matrix products in them with nothing else."""

from collections.abc import Callable
from typing import Any

import torch

from cdc_flower.seeds import torch_generator

NUM_SEQUENCES, NUM_CANDIDATES = 8, 100
ROWS_PER_CHUNK = 250


def bare_products(persona: Any, num_devices: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """Two functions of the same shapes: ours from item ids to outputs, and its matrix products.

    Args:
        persona: With one prototype.
    """
    editor, model, own, static = persona.editor, persona.cloud.model, persona.global_editor, persona.parameters
    draw, width = torch_generator(0, "bare"), editor.width
    history = torch.randint(1, model.num_items + 1, (num_devices, 10), generator=draw)
    rows = NUM_SEQUENCES * (NUM_CANDIDATES if model.head_sees_candidates else 1)
    x = torch.randn(num_devices, rows, model.head_sizes[0][0], generator=draw)
    head = {name: static[name] for name in model.adaptive}
    chunks = [slice(start, start + ROWS_PER_CHUNK) for start in range(0, num_devices, ROWS_PER_CHUNK)]

    @torch.no_grad()
    def ours() -> None:
        for chunk in chunks:
            edits = editor.edits(own, editor.embeddings(own, editor.feature(own, static, history[chunk])))
            model.head({name: head[name] + value for name, value in edits.items()}, x[chunk])

    @torch.no_grad()
    def bare() -> None:
        def product(inputs: torch.Tensor, name: str) -> torch.Tensor:
            return torch.addmm(own[f"{name}.bias"], inputs, own[f"{name}.weight"])

        for chunk in chunks:
            count = len(history[chunk])
            items = torch.nn.functional.embedding(history[chunk], static["embedding"]).view(-1, model.width)
            states = torch.addmm(static["sequence.bias"], items, static["sequence.weight"])
            gates = product(states, "feature.input").view(count, 10, -1)
            hidden = gates[:, 0, :width].contiguous()
            for _ in range(10):
                product(hidden, "feature.hidden")
            feature = product(product(hidden, "feature.0"), "feature.1")
            y = x[chunk]
            inputs = [product(feature, f"transfer.{layer}.input") for layer in range(editor.num_layers)]
            for layer, (num_inputs, num_outputs) in enumerate(model.head_sizes):
                product(inputs[layer], "transfer.gru.input")
                product(inputs[layer], "transfer.gru.hidden")
                embedding = product(product(inputs[layer], "transfer.output.0"), "transfer.output.1")
                flat = product(embedding, f"decoder.{layer}")
                weight = flat[:, : num_inputs * num_outputs].view(count, num_inputs, num_outputs)
                y = torch.baddbmm(flat[:, None, num_inputs * num_outputs :], y, weight)

    return ours, bare
