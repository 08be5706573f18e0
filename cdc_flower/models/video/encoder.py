"""Encodes frames and words together by a small transformer, shared or stacked.

In the shape of All-in-one (Wang et al., CVPR 2023, arXiv 2203.07303), which CDC-MMPG's device model
most likely has: one unified encoder for patch tokens and word tokens, width 192, depth 12, 3 heads,
patches of 16 in its tiny form. Ours puts a two-layer map before it, joins the words into the token
that is pooled, and computes the last block for that token only, which is exact. Token rolling
across frames is left out: every patch sees every frame.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cdc_flower.models.base import init_layers
from cdc_flower.models.layers import Parameters, embed, layer_norm, linear

#: Of the first weights of attention, which otherwise start so small that every token is attended to
#: alike. From there training stays on a plateau for a number of epochs that differs much from seed
#: to seed.
ATTENTION_GAINS = {"query": 3.0, "keyvalue": 2.0}

gelu: Callable[[Tensor], Tensor] = torch.nn.functional.gelu


@dataclass(frozen=True)
class EncoderShape:
    """Sets the sizes of the encoder.

    Attributes:
        frame_shape: ``(height, width, 3)`` of uint8 pixels, or ``(F,)`` of features, one token a
            frame.
        num_frames: ``n``, of a clip.
        num_words: Of the vocabulary.
        num_tokens: ``W``, words of a query.
        width: ``d``, of tokens.
        depth: Number of blocks.
        heads: Of attention; they must divide the width.
        patch: Side of a patch in pixels, which must divide height and width.
        stem: Width between the two maps of the stem.
    """

    frame_shape: tuple[int, ...]
    num_frames: int
    num_words: int
    num_tokens: int
    width: int = 48
    depth: int = 2
    heads: int = 4
    patch: int = 8
    stem: int = 64

    def __post_init__(self) -> None:
        """Checks the sizes."""
        for name in ("width", "depth", "heads", "patch", "stem", "num_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.width % self.heads:
            raise ValueError(f"heads must divide the width {self.width}, got {self.heads}")
        if self.has_pixels and any(side % self.patch for side in self.frame_shape[:2]):
            raise ValueError(
                f"patch must divide height and width {self.frame_shape[:2]}, got {self.patch}"
            )

    @property
    def has_pixels(self) -> bool:
        """Tells whether frames are pixels, and not features."""
        return len(self.frame_shape) == 3

    @property
    def num_patches(self) -> int:
        """Counts the tokens of a frame."""
        return (
            (self.frame_shape[0] // self.patch) * (self.frame_shape[1] // self.patch)
            if self.has_pixels
            else 1
        )

    @property
    def patch_size(self) -> int:
        """Counts the numbers of a token before the stem."""
        return self.patch * self.patch * 3 if self.has_pixels else self.frame_shape[0]

    def flops(self) -> float:
        """Counts the floating-point operations of one clip with words, two for a multiply-add."""
        d = self.width
        seen = self.num_frames * self.num_patches
        tokens = seen + self.num_tokens + 1
        stem = seen * (self.patch_size * self.stem + self.stem * d)
        full = (self.depth - 1) * (tokens * 8 * d * d + 2 * tokens * tokens * d)
        last = tokens * 2 * d * d + 6 * d * d + 2 * tokens * d
        return 2.0 * (stem + full + last)


def init_encoder(shape: EncoderShape, generator: torch.Generator) -> Parameters:
    """Draws fresh parameters."""
    d = shape.width

    def table(rows: int) -> Tensor:
        return torch.empty(rows, d).normal_(0.0, 0.1, generator=generator)

    sizes = {"stem.0": (shape.patch_size, shape.stem), "stem.1": (shape.stem, d)}
    for layer in range(shape.depth):
        name = f"block.{layer}"
        sizes |= {f"{name}.query": (d, d), f"{name}.keyvalue": (d, 2 * d), f"{name}.out": (d, d)}
        sizes |= {f"{name}.wide": (d, 2 * d), f"{name}.narrow": (2 * d, d)}
    parameters = init_layers(generator, sizes)
    for layer in range(shape.depth):
        for which, gain in ATTENTION_GAINS.items():
            parameters[f"block.{layer}.{which}.weight"] *= gain
    norms: list[str] = []
    for layer in range(shape.depth):
        norms += [f"block.{layer}.before", f"block.{layer}.after"]
    for norm in (*norms, "last"):
        parameters |= {f"{norm}.weight": torch.ones(d), f"{norm}.bias": torch.zeros(d)}
    tables = {"space": shape.num_patches, "time": shape.num_frames, "word": shape.num_words}
    tables |= {"order": shape.num_tokens, "pool": 1}
    return parameters | {name: table(rows) for name, rows in tables.items()}


def to_tokens(shape: EncoderShape, frames: Tensor) -> Tensor:
    """Cuts ``[..., n, *frame_shape]`` into ``[..., n, patches, numbers]``; pixels come to -1..1."""
    if not shape.has_pixels:
        return frames.unsqueeze(-2)
    height, width, _ = shape.frame_shape
    p = shape.patch
    *lead, _, _, _ = frames.shape
    cut = frames.reshape(-1, height // p, p, width // p, p, 3).permute(0, 1, 3, 2, 4, 5)
    return cut.reshape(*lead, shape.num_patches, shape.patch_size).float() / 127.5 - 1.0


def stem(parameters: Parameters, tokens: Tensor) -> Tensor:
    """Maps tokens ``[..., numbers] -> [..., d]``: two maps with GELU between them."""
    x = gelu(linear(tokens, parameters["stem.0.weight"], parameters["stem.0.bias"]))
    return linear(x, parameters["stem.1.weight"], parameters["stem.1.bias"])


def frame_features(shape: EncoderShape, parameters: Parameters, frames: Tensor) -> Tensor:
    """Encodes each frame by itself: the mean of its tokens after the stem.

    ``[..., n, *frame_shape] -> [..., n, d]``.

    Args:
        shape: Of the encoder.
        parameters: Shared or stacked.
        frames: ``[..., n, *frame_shape]``.
    """
    return stem(parameters, to_tokens(shape, frames)).mean(-2)


def encode(
    shape: EncoderShape, parameters: Parameters, frames: Tensor | None, words: Tensor | None
) -> Tensor:
    """Encodes a clip, words, or both, as ``[..., d]``.

    Padding words (0) change nothing.

    Args:
        shape: Of the encoder.
        parameters: Shared or stacked.
        frames: ``[..., n, *frame_shape]``, or None.
        words: ``[..., W]``, or None, but not beside frames that are None.
    """
    given = words if frames is None else frames
    assert given is not None
    lead = given.shape[: given.dim() - (1 if frames is None else 1 + len(shape.frame_shape))]
    pooled = _rows(parameters["pool"], len(lead)).expand(*lead, 1, shape.width)
    parts: list[Tensor] = []
    masks: list[Tensor] = []
    if words is not None:
        said = embed(parameters["word"], words) + _rows(parameters["order"], len(lead))
        is_word = (words != 0).unsqueeze(-1)
        pooled = pooled + (said * is_word).sum(-2, keepdim=True)
        parts.append(said)
        masks.append(is_word.squeeze(-1))
    if frames is not None:
        seen = stem(parameters, to_tokens(shape, frames))
        seen = seen + _rows(parameters["space"], len(lead) + 1)
        seen = seen + _rows(parameters["time"], len(lead)).unsqueeze(-2)
        seen = seen.flatten(-3, -2)
        parts.append(seen)
        masks.append(torch.ones(seen.shape[:-1], dtype=torch.bool))
    x = torch.cat([pooled, *parts], -2)
    mask = torch.cat([torch.ones(*lead, 1, dtype=torch.bool), *masks], -1)
    for layer in range(shape.depth):
        x = _block(
            parameters, f"block.{layer}", x, mask, shape.heads, pooled_only=layer == shape.depth - 1
        )
    return layer_norm(x[..., 0, :], parameters["last.weight"], parameters["last.bias"])


def _rows(table: Tensor, num_leading: int) -> Tensor:
    """Shapes a table so that it goes with ``[..., r, d]``.

    It is shared ``[r, d]`` or stacked ``[m, r, d]``.
    """
    return (
        table
        if table.dim() == 2
        else table.view(len(table), *[1] * (num_leading - 1), *table.shape[1:])
    )


def _block(
    parameters: Parameters, name: str, x: Tensor, mask: Tensor, heads: int, pooled_only: bool
) -> Tensor:
    """Applies a pre-norm transformer block.

    With ``pooled_only`` it does so for the first token alone, ``[..., t, d] -> [..., 1, d]``.
    """

    def map_(which: str, value: Tensor) -> Tensor:
        return linear(
            value, parameters[f"{name}.{which}.weight"], parameters[f"{name}.{which}.bias"]
        )

    def split(value: Tensor) -> Tensor:
        return value.unflatten(-1, (heads, -1)).transpose(-2, -3)

    y = layer_norm(x, parameters[f"{name}.before.weight"], parameters[f"{name}.before.bias"])
    key, value = map_("keyvalue", y).chunk(2, -1)
    if pooled_only:
        # Keys and values are of all tokens already; the others are read by nobody after this.
        x = x[..., :1, :]
        y = y[..., :1, :]
    query = split(map_("query", y))
    allowed = mask[..., None, None, :]
    mixed = torch.nn.functional.scaled_dot_product_attention(
        query, split(key), split(value), attn_mask=allowed
    )
    x = x + map_("out", mixed.transpose(-2, -3).flatten(-2))
    y = layer_norm(x, parameters[f"{name}.after.weight"], parameters[f"{name}.after.bias"])
    return x + map_("narrow", gelu(map_("wide", y)))
