"""Implements SASRec, in the shapes that DUET and Persona use for it.

Kang and McAuley, Self-Attentive Sequential Recommendation, ICDM 2018, arXiv 1808.09781. One encoder
layer, 4 heads, feed-forward 128, post-norm, learned positions. The released code masks neither the
future nor the padding; only the last valid position is read, so we mask the padding, and a longer
padding changes nothing. Two adaptive layers 32→32→32: 2,112 numbers, 8,448 bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cdc_flower.models.base import DeviceModel, init_layers, item_embedding
from cdc_flower.models.chain import HEAD, Chain
from cdc_flower.models.layers import Parameters, embed, last_valid, layer_norm, linear, mlp, tanh_
from cdc_flower.models.registry import SequenceOptions, models

NUM_HEADS = 4
FEED_FORWARD = 128
#: Scale and shift that a layer normalization starts with.
NORM = {"weight": 1.0, "bias": 0.0}


@dataclass(frozen=True, kw_only=True)
class SASRecOptions(SequenceOptions):
    """Options of SASRec."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_width(self.width)


def check_width(width: int) -> None:
    """Checks that the width is a multiple of the number of heads.

    Raises:
        ValueError: If it is not.
    """
    if width % NUM_HEADS:
        raise ValueError(f"width must be a multiple of {NUM_HEADS}, got {width}")


@models.register("sasrec", options=SASRecOptions)
class SASRec(DeviceModel):
    """Runs a Transformer encoder layer where GRU4Rec has a GRU.

    The query is the last valid position.
    """

    states_are_of_items = False

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
        check_width(width)
        hidden = (width,) if head_sizes is None else head_sizes
        chain = Chain.of(width, hidden, width, adaptive)
        self.body_sizes, self.head_sizes = chain.body, chain.head

    def init_static(self, generator: torch.Generator) -> Parameters:
        d = self.width
        layers = {
            "target.0": (d, d),
            "target.1": (d, d),
            "sequence": (d, d),
            "attention.query": (d, d),
            "attention.key_value": (d, 2 * d),
            "attention.output": (d, d),
            "feed_forward.0": (d, FEED_FORWARD),
            "feed_forward.1": (FEED_FORWARD, d),
        }
        norms: Parameters = {}
        for layer in (0, 1):
            norms |= {f"norm.{layer}.{part}": torch.full((d,), v) for part, v in NORM.items()}
        return {
            "embedding": item_embedding(generator, self.num_items, d),
            "position": torch.empty(self.history_length, d).normal_(0, 0.02, generator=generator),
            **init_layers(generator, layers),
            **norms,
        }

    def tabulate(self, parameters: Parameters) -> Parameters:
        items = parameters["embedding"]
        weight = parameters["sequence.weight"]
        return {
            **parameters,
            "table.target": mlp(items, parameters, "target", 2),
            "table.sequence": linear(items, weight, parameters["sequence.bias"]),
            "table.position": parameters["position"] @ weight,
        }

    def item_states(self, parameters: Parameters, history: Tensor) -> Tensor:
        if "table.sequence" in parameters:
            return tanh_(
                embed(parameters["table.sequence"], history).add_(
                    self._positions(parameters["table.position"], history.shape[-1])
                )
            )
        position = self._positions(parameters["position"], history.shape[-1])
        if position.dim() == 3:
            position = position.view(len(position), *[1] * (history.dim() - 2), *position.shape[1:])
        items = embed(parameters["embedding"], history) + position
        return tanh_(linear(items, parameters["sequence.weight"], parameters["sequence.bias"]))

    def _positions(self, position: Tensor, length: int) -> Tensor:
        """Takes the positions ``[..., length, d]`` of a sequence from those that were learned.

        A report may be longer than a window. Each item beyond it stands last in a full window, as
        it did when it was the newest.
        """
        if length == self.history_length:
            return position
        return position[..., torch.arange(length).clamp(max=self.history_length - 1), :]

    def encode(
        self, parameters: Parameters, history: Tensor, candidates: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Attends from the last item of a history to all of them.

        Args:
            parameters: Shared or stacked.
            history: ``[..., L]`` ids.
            candidates: ``[..., C]`` ids.
        """
        states = self.item_states(parameters, history)
        index = last_valid(history)[..., None, None].expand(*history.shape[:-1], 1, self.width)
        last = states.gather(-2, index)
        x = layer_norm(
            last + self._attend(parameters, last, states, history),
            parameters["norm.0.weight"],
            parameters["norm.0.bias"],
        )
        hidden = linear(
            x, parameters["feed_forward.0.weight"], parameters["feed_forward.0.bias"]
        ).relu()
        hidden = linear(
            hidden, parameters["feed_forward.1.weight"], parameters["feed_forward.1.bias"]
        )
        x = layer_norm(x + hidden, parameters["norm.1.weight"], parameters["norm.1.bias"])
        x = self.body(parameters, x)
        if "table.target" in parameters:
            return x, embed(parameters["table.target"], candidates)
        return x, mlp(embed(parameters["embedding"], candidates), parameters, "target", 2)

    def _attend(
        self, parameters: Parameters, last: Tensor, states: Tensor, history: Tensor
    ) -> Tensor:
        """Attends from the last position ``[..., 1, d]`` over ``[..., L, d]``.

        What comes after it has no weight.
        """
        d = self.width // NUM_HEADS
        shape = states.shape[:-1]
        query = linear(
            last, parameters["attention.query.weight"], parameters["attention.query.bias"]
        )
        key_value = linear(
            states, parameters["attention.key_value.weight"], parameters["attention.key_value.bias"]
        )
        key, value = key_value.view(*shape, 2, NUM_HEADS, d).unbind(-3)
        logits = (query.view(*shape[:-1], 1, NUM_HEADS, d) * key).sum(-1) * d**-0.5
        is_padding = torch.arange(history.shape[-1]) > last_valid(history).unsqueeze(-1)
        logits = logits.masked_fill(is_padding.unsqueeze(-1), -1e8)
        attended = (torch.softmax(logits, -2).unsqueeze(-1) * value).sum(-3).reshape(last.shape)
        return linear(
            attended, parameters["attention.output.weight"], parameters["attention.output.bias"]
        )

    def flops(self, num_candidates: int) -> float:
        d = self.width
        steps = self.history_length
        sequence = steps * (3 * d * d + 2 * d) + 2 * d * d + 2 * d * FEED_FORWARD
        return 2.0 * (sequence + num_candidates * 2 * d * d) + self._chain_flops(num_candidates)
