"""Describes device models: static layers that all devices share, and adaptive ones of their own.

A model is a description without parameters. Its functions take a dictionary of tensors, shared or
stacked (see :mod:`cdc_flower.models.layers`), so one line of code serves one device, a batch of
them, and the cloud. ``C`` is the number of candidates and ``L`` the length of a history.
"""

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cdc_flower.models.layers import Parameters, mlp, tanh_, uniform_linear
from cdc_flower.models.losses import cross_entropy
from cdc_flower.wire import records

#: Makes models of modules; by its path, for it needs this file.
FROM_MODULE = "cdc_flower.models.from_module:from_module"


class DeviceModel(ABC):
    """Recommends in two parts: ``encode`` (static) and ``head`` (adaptive).

    Args:
        num_items: Items are 1..num_items; 0 is padding and has an embedding like any other.
        width: Width of embeddings and states; 32 in all released code.
        history_length: ``L``, 10 in all released code.

    Raises:
        ValueError: If a size is below 1, or a model cannot be that wide.
    """

    #: (inputs, outputs) of each adaptive layer, with Tanh between them.
    head_sizes: tuple[tuple[int, int], ...]
    #: Likewise of static layers between the model and these, with Tanh after each; see ``chain``.
    body_sizes: tuple[tuple[int, int], ...] = ()
    #: Whether state k of a sequence is made of item k alone, wherever it stands, so that a table of
    #: all items serves.
    states_are_of_items = True
    #: Whether the head runs once for each candidate and gives its score, or once for all of them.
    head_sees_candidates = False
    #: Whether the adaptive layers are such a chain, so that a strategy can generate them.
    can_be_generated = True

    def __init__(self, num_items: int, width: int = 32, history_length: int = 10) -> None:
        for name, size in (
            ("num_items", num_items),
            ("width", width),
            ("history_length", history_length),
        ):
            if size < 1:
                raise ValueError(f"{name} must be >= 1, got {size}")
        self.num_items = num_items
        self.width = width
        self.history_length = history_length

    @property
    def word(self) -> str:
        """Names the model in messages."""
        return type(self).__name__

    def training_facts(self) -> dict[str, object]:
        """Lists what training depends on and no configuration says, as plain values.

        Models of this package have nothing: their code is known.
        """
        return {}

    @staticmethod
    def from_module(
        module: nn.Module | Callable[..., nn.Module],
        num_items: int,
        adaptive: Sequence[str] | None = None,
        **options: object,
    ) -> "DeviceModel":
        """Makes a device model of a plain module; see :mod:`cdc_flower.models.from_module`.

        Args:
            module: An instance, or a class or function that makes one.
            num_items: Items are 1..num_items, and 0 is padding.
            adaptive: Names of submodules that differ between devices; None: the module's own.
            options: ``history_length``, and other arguments of what makes the module.

        Raises:
            UserError: If the module cannot be made or played; the text says why.
        """
        made: DeviceModel = pkgutil.resolve_name(FROM_MODULE)(
            module, num_items, adaptive, **options
        )
        return made

    @abstractmethod
    def init_static(self, generator: torch.Generator) -> Parameters:
        """Draws fresh static layers."""

    @abstractmethod
    def tabulate(self, parameters: Parameters) -> Parameters:
        """Applies maps of single items to the whole catalog once: shared parameters only.

        Returns the parameters with tables beside them; ``encode`` looks up a table where it finds
        one.
        """

    @abstractmethod
    def item_states(self, parameters: Parameters, history: Tensor) -> Tensor:
        """Turns ids ``[..., L]`` into states ``[..., L, d]`` that a generator may condition on."""

    def tabulate_sequences(self, parameters: Parameters) -> Parameters:
        """Adds tables of what :meth:`sequence` makes again and again in training, if that pays.

        By default there is none: item states are cheap. Shared parameters only.
        """
        return parameters

    def sequence_flops(self) -> float:
        """Counts the work of :meth:`sequence` for one device; 0 where states are looked up."""
        return 0.0

    def sequence(self, parameters: Parameters, history: Tensor) -> tuple[Tensor, Tensor]:
        """Turns ids ``[B, L]`` into states for a generator, and counts those in use.

        Returns:
            The states ``[B, k, d]``, and how many of them count, ``[B]``.
        """
        return self.item_states(parameters, history), (history != 0).sum(-1)

    def reported(
        self, parameters: Parameters, report: Mapping[str, NDArray]
    ) -> tuple[Tensor, Tensor]:
        """Does as :meth:`sequence`, from the arrays ``[n, ...]`` that devices report."""
        return self.sequence(
            parameters, torch.from_numpy(np.asarray(report[records.HISTORY]).astype(np.int64))
        )

    def to_upload(
        self, history: NDArray[np.int32], candidates: NDArray[np.int32]
    ) -> dict[str, NDArray]:
        """Makes labelled examples ``[T, ...]`` to be trained on in the cloud.

        The true candidate is the first.
        """
        return {records.HISTORY: history, records.CANDIDATES: candidates}

    def uploaded(
        self, parameters: Parameters, upload: Mapping[str, NDArray]
    ) -> tuple[Tensor, Tensor | None]:
        """Makes inputs of the head and targets ``[n, E, ...]`` from what went up.

        They are as :meth:`encode` gives them.
        """
        ids = (
            torch.from_numpy(upload[name].astype(np.int64))
            for name in (records.HISTORY, records.CANDIDATES)
        )
        return self.encode(parameters, *ids)

    @abstractmethod
    def encode(
        self, parameters: Parameters, history: Tensor, candidates: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Runs the static layers: makes inputs of the head ``[..., k, in]`` and targets.

        ``k`` is 1 where the head does not look at the candidate, else ``C``; targets are ``[..., C,
        d]`` or None where the head itself gives the score.

        Args:
            parameters: Shared or stacked.
            history: ``[..., L]`` ids.
            candidates: ``[..., C]`` ids.
        """

    @abstractmethod
    def flops(self, num_candidates: int) -> float:
        """Counts the floating-point operations of scoring one event, two for a multiply-add."""

    def head_flops(self, num_candidates: int) -> float:
        """Counts the part of :meth:`flops` of the adaptive layers: ``head`` and ``match``."""
        head = sum(num_inputs * num_outputs for num_inputs, num_outputs in self.head_sizes)
        return 2.0 * (
            num_candidates * head
            if self.head_sees_candidates
            else head + num_candidates * self.width
        )

    def head(self, parameters: Parameters, x: Tensor) -> Tensor:
        """Runs the adaptive layers, ``[..., k, in] -> [..., k, out]``.

        x ← Tanh(x K⁽ˡ⁾ + k⁽ˡ⁾), without Tanh after the last.
        """
        return mlp(x, parameters, "head", len(self.head_sizes))

    def body(self, parameters: Parameters, x: Tensor) -> Tensor:
        """Runs the static layers before the adaptive ones, ``[..., k, in] -> [..., k, out]``."""
        if not self.body_sizes:
            return x
        return tanh_(mlp(x, parameters, "body", len(self.body_sizes)))

    def _chain_flops(self, num_candidates: int) -> float:
        """Counts the part of :meth:`flops` of :meth:`body`, :meth:`head` and :meth:`match`."""
        rows = num_candidates if self.head_sees_candidates else 1
        body = sum(num_inputs * num_outputs for num_inputs, num_outputs in self.body_sizes)
        return 2.0 * rows * body + self.head_flops(num_candidates)

    def match(self, y: Tensor, targets: Tensor | None) -> Tensor:
        """Turns outputs of the head and targets into logits ``[..., C]``."""
        if targets is None:  # the head gives the score itself
            return y.squeeze(-1)
        return (targets @ y.transpose(-1, -2)).squeeze(-1)

    def loss(self, logits: Tensor) -> Tensor:
        """Computes what training minimizes, ``[..., C] -> [...]``; candidate 0 is the true one."""
        return cross_entropy(logits)

    def pays_to_tabulate(self, num_lookups: int) -> bool:
        """Tells whether :meth:`tabulate` pays for so many items looked up."""
        return num_lookups > self.num_items

    def score(self, parameters: Parameters, history: Tensor, candidates: Tensor) -> Tensor:
        """Computes logits ``[..., C]`` with one set of parameters, shared or stacked.

        Args:
            parameters: Shared or stacked.
            history: ``[..., L]`` ids.
            candidates: ``[..., C]`` ids.
        """
        x, targets = self.encode(parameters, history, candidates)
        return self.match(self.head(parameters, x), targets)

    def init(self, generator: torch.Generator) -> Parameters:
        """Draws fresh parameters, static and adaptive."""
        sizes = {f"body.{layer}": size for layer, size in enumerate(self.body_sizes)}
        sizes |= {f"head.{layer}": size for layer, size in enumerate(self.head_sizes)}
        return {**self.init_static(generator), **init_layers(generator, sizes)}

    @property
    def adaptive(self) -> dict[str, tuple[int, ...]]:
        """Maps the name of each adaptive array to its shape, in the order in which they travel."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, (num_inputs, num_outputs) in enumerate(self.head_sizes):
            shapes |= {
                f"head.{layer}.weight": (num_inputs, num_outputs),
                f"head.{layer}.bias": (num_outputs,),
            }
        return shapes

    @property
    def num_adaptive(self) -> int:
        """Counts the adaptive layers' numbers: 2,112 for GRU4Rec and SASRec, 16,641 for DIN."""
        return sum((num_inputs + 1) * num_outputs for num_inputs, num_outputs in self.head_sizes)


def item_embedding(generator: torch.Generator, num_items: int, width: int) -> Tensor:
    """Draws an embedding ``[num_items + 1, width]``, Xavier-uniform.

    Args:
        generator: Of the draws.
        num_items: Items are 1..num_items, and 0 is padding.
        width: Of an embedding.
    """
    bound = (6.0 / (num_items + 1 + width)) ** 0.5
    return torch.empty(num_items + 1, width).uniform_(-bound, bound, generator=generator)


def init_layers(generator: torch.Generator, sizes: dict[str, tuple[int, int]]) -> Parameters:
    """Draws linear layers by name: ``NAME.weight`` and ``NAME.bias``."""
    parameters: Parameters = {}
    for name, (num_inputs, num_outputs) in sizes.items():
        weight, bias = uniform_linear(generator, num_inputs, num_outputs)
        parameters |= {f"{name}.weight": weight, f"{name}.bias": bias}
    return parameters
