"""Implements GRU4Rec, in the shapes that DUET and Persona use for it.

Hidasi et al., Session-based Recommendations with Recurrent Neural Networks, ICLR 2016, arXiv
1511.06939. Two adaptive layers 32→32→32: 2,112 numbers, 8,448 bytes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cdc_flower.models.base import DeviceModel, init_layers, item_embedding
from cdc_flower.models.chain import HEAD, Chain
from cdc_flower.models.layers import (
    Parameters,
    embed,
    gru_input,
    gru_last_state,
    linear,
    mlp,
    tanh_,
)
from cdc_flower.models.registry import SequenceOptions, models


@models.register("gru4rec", options=SequenceOptions)
class GRU4Rec(DeviceModel):
    """Runs a GRU over the items of the history and matches its last state with each target.

    target = MLP(e); sequence = Tanh(W e); x is the last valid state; logits are ⟨head(x), target⟩.
    """

    def __init__(
        self,
        num_items: int,
        width: int = 32,
        history_length: int = 10,
        *,
        head_sizes: Sequence[int] | None = None,
        adaptive: Sequence[str] = (HEAD,),
    ) -> None:
        super().__init__(num_items, width, history_length)
        hidden = (width,) if head_sizes is None else head_sizes
        chain = Chain.of(width, hidden, width, adaptive)
        self.body_sizes, self.head_sizes = chain.body, chain.head

    def init_static(self, generator: torch.Generator) -> Parameters:
        d = self.width
        return {
            "embedding": item_embedding(generator, self.num_items, d),
            **init_layers(
                generator,
                {
                    "target.0": (d, d),
                    "target.1": (d, d),
                    "sequence": (d, d),
                    "gru.input": (d, 3 * d),
                    "gru.hidden": (d, 3 * d),
                },
            ),
        }

    def tabulate(self, parameters: Parameters) -> Parameters:
        items = parameters["embedding"]
        sequence = tanh_(linear(items, parameters["sequence.weight"], parameters["sequence.bias"]))
        return {
            **parameters,
            "table.target": mlp(items, parameters, "target", 2),
            "table.gates": linear(sequence, *gru_input(parameters, "gru")),
        }

    def item_states(self, parameters: Parameters, history: Tensor) -> Tensor:
        items = embed(parameters["embedding"], history)
        return tanh_(linear(items, parameters["sequence.weight"], parameters["sequence.bias"]))

    def encode(
        self, parameters: Parameters, history: Tensor, candidates: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Runs the GRU over the items of a history; its last state is the input of the head.

        Args:
            parameters: Shared or stacked.
            history: ``[..., L]`` ids.
            candidates: ``[..., C]`` ids.
        """
        if "table.gates" in parameters:
            gates = (embed(parameters["table.gates"], items) for items in history.unbind(-1))
            targets = embed(parameters["table.target"], candidates)
        else:
            weight, bias = gru_input(parameters, "gru")
            gates = (
                linear(state, weight, bias)
                for state in self.item_states(parameters, history).unbind(-2)
            )
            targets = mlp(embed(parameters["embedding"], candidates), parameters, "target", 2)
        state = gru_last_state(gates, (history != 0).sum(-1), parameters, "gru")
        return self.body(parameters, state.unsqueeze(-2)), targets

    def flops(self, num_candidates: int) -> float:
        d = self.width
        steps = self.history_length
        sequence = steps * (d * d + 6 * d * d)
        return 2.0 * (sequence + num_candidates * 2 * d * d) + self._chain_flops(num_candidates)
