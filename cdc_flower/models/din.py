"""Implements Deep Interest Network, in the shapes that DUET and Persona use for it.

Zhou et al., Deep Interest Network for Click-Through Rate Prediction, KDD 2018, arXiv 1706.06978.
Three adaptive layers 64→128→64→1: 16,641 numbers, 66,564 bytes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cdc_flower.models.base import DeviceModel, init_layers, item_embedding
from cdc_flower.models.chain import HEAD, Chain
from cdc_flower.models.layers import Parameters, embed, linear, tanh_
from cdc_flower.models.registry import SequenceOptions, models


@models.register("din", options=SequenceOptions)
class DIN(DeviceModel):
    """Lets each candidate attend over the history.

    The head looks at [candidate ; attended history].
    """

    head_sees_candidates = True

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
        hidden = (128, 64) if head_sizes is None else head_sizes
        chain = Chain.of(2 * width, hidden, 1, adaptive)
        self.body_sizes, self.head_sizes = chain.body, chain.head

    def init_static(self, generator: torch.Generator) -> Parameters:
        d = self.width
        maps = init_layers(generator, {name: (d, d) for name in ("target", "sequence")})
        attention = init_layers(
            generator, {f"attention.{name}": (d, d) for name in ("query", "key", "value")}
        )
        return {
            "embedding": item_embedding(generator, self.num_items, d),
            **maps,
            **{name: value for name, value in attention.items() if name.endswith("weight")},
        }

    def tabulate(self, parameters: Parameters) -> Parameters:
        return {
            **parameters,
            **self._items(parameters, parameters["embedding"], parameters["embedding"]),
        }

    def _items(self, parameters: Parameters, history: Tensor, candidates: Tensor) -> Parameters:
        """Maps single items: embeddings ``[..., d]`` of the history and of the candidates."""
        target = tanh_(linear(candidates, parameters["target.weight"], parameters["target.bias"]))
        sequence = tanh_(
            linear(history, parameters["sequence.weight"], parameters["sequence.bias"])
        )
        return {
            "table.target": target,
            "table.query": linear(target, parameters["attention.query.weight"]),
            "table.key": linear(sequence, parameters["attention.key.weight"]),
            "table.value": linear(sequence, parameters["attention.value.weight"]),
        }

    def item_states(self, parameters: Parameters, history: Tensor) -> Tensor:
        items = embed(parameters["embedding"], history)
        return tanh_(linear(items, parameters["sequence.weight"], parameters["sequence.bias"]))

    def encode(
        self, parameters: Parameters, history: Tensor, candidates: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Attends from each candidate to the items of a history.

        Args:
            parameters: Shared or stacked.
            history: ``[..., L]`` ids.
            candidates: ``[..., C]`` ids.
        """
        if "table.key" in parameters:
            target, query = (
                embed(parameters[f"table.{name}"], candidates) for name in ("target", "query")
            )
            key, value = (embed(parameters[f"table.{name}"], history) for name in ("key", "value"))
        else:
            items = (
                embed(parameters["embedding"], history),
                embed(parameters["embedding"], candidates),
            )
            target, query, key, value = self._items(parameters, *items).values()
        logits = query @ key.transpose(-1, -2) * self.width**-0.5
        # Not -inf: a history of padding alone still has finite weights.
        logits = logits.masked_fill((history == 0).unsqueeze(-2), -1e8)
        x = torch.cat([target, torch.softmax(logits, -1) @ value], -1)
        return self.body(parameters, x), None

    def flops(self, num_candidates: int) -> float:
        d = self.width
        steps = self.history_length
        static = steps * 3 * d * d + num_candidates * (2 * d * d + 2 * steps * d)
        return 2.0 * static + self._chain_flops(num_candidates)
