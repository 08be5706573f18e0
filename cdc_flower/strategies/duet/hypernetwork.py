"""DUET's hypernetwork: a device's recent items in, its adaptive layers out.

The equation numbers are those of the paper (see README.md beside this file).
"""

from typing import cast

import torch
from torch import Tensor, nn

from cdc_flower.core.seeds import torch_generator
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.generated_layers import generated_head, split_layer
from cdc_flower.models.layers import Parameters, gru_input, gru_last_state, linear
from cdc_flower.models.sequence_feature import feature_flops, pairs_of, reads_pairs
from cdc_flower.strategies.duet.decoders import Decoder, RandomDecoder


class Hypernetwork(nn.Module):
    """Generates every adaptive layer of a device model from a sequence.

    The shared encoder E_share is a GRU with a two-layer MLP on its last valid state; each layer has
    an encoder of its own (2) and a decoder (3). At first every sequence generates the base model's
    layers.

    Args:
        model: The device model.
        base: Its base parameters; the adaptive layers are where generation starts.
        width: Of the encoder and of the layer embeddings; ``decoder_width``: between a decoder's
            two maps.
        num_generators: Parallel maps in a decoder; ``temperature``: of their mixture.
        reads_pairs: Whether the encoder reads (state, what followed) and not single states.
        released_code: One random decoder a layer that is never trained and does not know the base
            model, and no layer encoders.
        seed: Of the initialization.
    """

    def __init__(
        self,
        model: DeviceModel,
        base: Parameters,
        *,
        width: int = 32,
        decoder_width: int = 32,
        num_generators: int = 1,
        temperature: float = 1.0,
        released_code: bool = False,
        reads_pairs: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.shapes, self.width = model.head_sizes, width
        starts = [
            torch.cat([base[f"head.{layer}.weight"].flatten(), base[f"head.{layer}.bias"]])
            for layer in range(len(self.shapes))
        ]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inputs = 2 * model.width if reads_pairs else model.width
            self.gru_input = nn.Linear(inputs, 3 * width)
            self.gru_hidden = nn.Linear(width, 3 * width)
            self.encoder = nn.Sequential(
                nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width)
            )
            if released_code:
                draws = torch_generator(seed, "duet", "released")
                self.layer_encoders = nn.ModuleList(nn.Identity() for _ in starts)
                self.decoders = nn.ModuleList(
                    RandomDecoder(width, len(start), draws) for start in starts
                )
            else:
                mixture = num_generators, temperature
                self.layer_encoders = nn.ModuleList(nn.Linear(width, width) for _ in starts)
                self.decoders = nn.ModuleList(
                    Decoder(start, width, decoder_width, *mixture) for start in starts
                )

    def embed(self, item_states: Tensor, num_steps: Tensor) -> Tensor:
        """E_share: ``[B, L, d]`` and the number of items that count ``[B]`` -> ``[B, width]``."""
        gru: Parameters = {}
        for name, layer in (("gru.input", self.gru_input), ("gru.hidden", self.gru_hidden)):
            gru |= {f"{name}.weight": layer.weight.T, f"{name}.bias": layer.bias}
        weight, bias = gru_input(gru, "gru")
        if reads_pairs(weight, item_states.shape[-1]):
            item_states = pairs_of(item_states)
        gates = (linear(state, weight, bias) for state in item_states.unbind(-2))
        return self.encoder(gru_last_state(gates, num_steps, gru, "gru"))

    def forward(self, item_states: Tensor, num_steps: Tensor) -> Parameters:
        """Generated adaptive layers, stacked ``[B, in, out]`` and ``[B, out]``.

        e⁽ⁿ⁾ = L_layer⁽ⁿ⁾(E_share(S)) (2);  [K⁽ⁿ⁾, k⁽ⁿ⁾] = g⁽ⁿ⁾(e⁽ⁿ⁾) (3).
        """
        shared = self.embed(item_states, num_steps)
        layers: Parameters = {}
        for layer, (num_inputs, num_outputs) in enumerate(self.shapes):
            flat = self.decoders[layer](self.layer_encoders[layer](shared))
            layers |= split_layer(flat, layer, num_inputs, num_outputs)
        return layers

    def head(self, x: Tensor, item_states: Tensor, num_steps: Tensor) -> Tensor:
        """Applies the generated head, as through :meth:`forward`, in a form made for training.

        Args:
            x: ``[B, k, in]``.
            item_states: ``[B, L, d]``.
            num_steps: ``[B]``, how many of them count.
        """
        shared = self.embed(item_states, num_steps)
        maps = [
            decoder.last_map(encode(shared))
            for decoder, encode in zip(self._decoders(), self.layer_encoders, strict=True)
        ]
        bases = [
            x.new_zeros(num_inputs + 1, num_outputs) for num_inputs, num_outputs in self.shapes
        ]
        return generated_head(
            x,
            bases,
            [hidden for hidden, _, _ in maps],
            [(weight, bias) for _, weight, bias in maps],
        )

    def _decoders(self) -> list[Decoder | RandomDecoder]:
        return cast(list[Decoder | RandomDecoder], list(self.decoders))

    def flops(self, num_steps: int) -> float:
        """Floating-point operations of one generation, counting a multiply-add as two."""
        layers = sum(decoder.flops for decoder in self._decoders())
        layers += sum(
            2.0 * self.width**2 for encoder in self.layer_encoders if isinstance(encoder, nn.Linear)
        )
        return feature_flops(self.gru_input.in_features, self.width, num_steps) + layers
