"""Splits the last layers of a device model into static ones, the body, and adaptive ones, the head.

They are a chain of linear layers with Tanh between them, called ``head.0``, ``head.1``, ... by who
configures a model. Those before the first adaptive one are the same on all devices; they are called
``body.0``, ... in the model, and ``head`` is what is left.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Size = tuple[int, int]
HEAD = "head"


@dataclass(frozen=True)
class Chain:
    """Sizes (inputs, outputs) of linear layers.

    Attributes:
        body: Static ones, first.
        head: Adaptive ones, at least one.
    """

    body: tuple[Size, ...]
    head: tuple[Size, ...]

    @staticmethod
    def of(
        num_inputs: int, hidden: Sequence[int], num_outputs: int, adaptive: Sequence[str] = (HEAD,)
    ) -> "Chain":
        """Makes a chain of which the last layers are adaptive.

        Args:
            num_inputs: Of the first layer.
            hidden: Widths between two layers; none: one layer.
            num_outputs: Of the last layer.
            adaptive: ``head`` for all, or the last ones by name, such as ``head.1``.

        Raises:
            ValueError: If a width is below 1, or the names are others.
        """
        if any(width < 1 for width in hidden):
            raise ValueError(f"head_sizes must be widths >= 1, got {_listed(hidden)}")
        sizes = tuple(pairwise((num_inputs, *hidden, num_outputs)))
        names = [f"{HEAD}.{layer}" for layer in range(len(sizes))]
        chosen = {name for name in names if name in adaptive or HEAD in adaptive}
        unknown = [name for name in adaptive if name not in (HEAD, *names)]
        is_last = chosen == set(names[len(names) - len(chosen) :])
        if unknown or not chosen or not is_last:
            ends = ", ".join(_listed(names[first:]) for first in range(1, len(names)))
            others = f", or of its last layers {ends}" if ends else ""
            raise ValueError(
                f"adaptive must be [{HEAD}]{others}: a device differs in the end of its model's "
                f"head alone, got {_listed(adaptive)}"
            )
        return Chain(sizes[: len(sizes) - len(chosen)], sizes[len(sizes) - len(chosen) :])


def _listed(values: Sequence[object]) -> str:
    return f"[{', '.join(map(str, values))}]"
