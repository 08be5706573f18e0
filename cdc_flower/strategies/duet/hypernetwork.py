"""DUET's hypernetwork: a device's recent items in, its adaptive layers out.

The equation numbers are those of the paper (see README.md beside this file).
"""

import torch
from torch import Tensor, nn

from cdc_flower.layers import Parameters, gru_last_state
from cdc_flower.models.base import DeviceModel


class Hypernetwork(nn.Module):
    """Generates every adaptive layer of a device model from a sequence.

    The shared encoder E_share is a GRU with a two-layer MLP on its last valid state; each layer has an encoder
    of its own (2) and a decoder of two linear maps (4). The decoders are registered parameters. They start
    so that every sequence generates the base model's layers.

    Args:
        model: The device model.
        base: Its base parameters; the adaptive layers are where generation starts.
        width: Of the encoder and of the layer embeddings; ``decoder_width``: between a decoder's two maps.
        seed: Of the initialization.
    """

    def __init__(
        self, model: DeviceModel, base: Parameters, *, width: int = 32, decoder_width: int = 32, seed: int = 0
    ) -> None:
        super().__init__()
        self.shapes, self.width, self.decoder_width = model.head_sizes, width, decoder_width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.gru_input = nn.Linear(model.width, 3 * width)
            self.gru_hidden = nn.Linear(width, 3 * width)
            self.encoder = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))
            self.layer_encoders = nn.ModuleList(nn.Linear(width, width) for _ in self.shapes)
            self.decoder_in = nn.ModuleList(nn.Linear(width, decoder_width) for _ in self.shapes)
            self.decoder_out = nn.ModuleList(nn.Linear(decoder_width, (a + 1) * b) for a, b in self.shapes)
        with torch.no_grad():
            for layer, decoder in enumerate(self.decoder_out):
                start = [base[f"head.{layer}.weight"].flatten(), base[f"head.{layer}.bias"]]
                decoder.load_state_dict(
                    {"weight": torch.zeros(sum(map(len, start)), decoder_width), "bias": torch.cat(start)}
                )

    def embed(self, item_states: Tensor, num_steps: Tensor) -> Tensor:
        """E_share: ``[B, L, d]`` and the number of items that count ``[B]`` -> ``[B, width]``."""
        hidden = self.gru_hidden.weight.T, self.gru_hidden.bias
        return self.encoder(gru_last_state(self.gru_input(item_states), num_steps, *hidden))

    def forward(self, item_states: Tensor, num_steps: Tensor) -> Parameters:
        """Generated adaptive layers, stacked ``[B, in, out]`` and ``[B, out]``.

        e⁽ⁿ⁾ = L_layer⁽ⁿ⁾(E_share(S)) (2);  [K⁽ⁿ⁾, k⁽ⁿ⁾] = (W₁ e⁽ⁿ⁾ + B₁) W₂ + B₂ (3, 4).
        """
        shared = self.embed(item_states, num_steps)
        generated: Parameters = {}
        for layer, (num_inputs, num_outputs) in enumerate(self.shapes):
            embedding = self.layer_encoders[layer](shared)
            flat = self.decoder_out[layer](self.decoder_in[layer](embedding))
            weight, bias = flat.split([num_inputs * num_outputs, num_outputs], -1)
            generated[f"head.{layer}.weight"] = weight.reshape(-1, num_inputs, num_outputs)
            generated[f"head.{layer}.bias"] = bias
        return generated

    def flops(self, history_length: int) -> float:
        """Floating-point operations of one generation, counting a multiply-add as two."""
        w, d = self.width, self.gru_input.in_features
        sequence = history_length * (d * 3 * w + w * 3 * w) + 2 * w * w
        decoders = sum(w * w + w * self.decoder_width + self.decoder_width * (a + 1) * b for a, b in self.shapes)
        return 2.0 * (sequence + decoders)
