"""Plays a plain ``torch.nn.Module`` as the model of many devices.

The module computes logits of a batch of events: ``forward(history [B, L], candidates [B, C])``
gives ``[B, C]``. It runs as its author wrote it, in evaluation mode, on the events of all devices
at once, and only the calls of adaptive submodules are mapped over devices, each with its own
parameters (``torch.func.vmap``). Where adaptive parameters are used elsewhere, or all parameters
differ, the whole module is mapped; and where PyTorch cannot do that, devices run one after the
other. Which is right for a module is found by trying; see :mod:`cdc_flower.models.module.trials`.
"""

import hashlib
import inspect
import sys
import weakref
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cdc_flower.core.errors import UserError
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.layers import Parameters
from cdc_flower.models.module.calls import (
    Groups,
    Kept,
    after,
)
from cdc_flower.models.module.parts import Parts, parts_of
from cdc_flower.models.module.runs import ModuleRuns, in_single_products

#: Before the names of tables, beside those of parameters.
TABLE = "rows of "
#: Ways of running devices that have parameters of their own, the fastest first.
CALLS, WHOLE, LOOP = "calls", "whole", "loop"
#: Length of the history that events have where nothing says another.
HISTORY_LENGTH = 10


class ModuleModel(DeviceModel):
    """Plays a module whose adaptive submodules differ between devices.

    Parameters have the module's own names and shapes. Those that are not trained
    (``requires_grad=False``) and buffers stay as they are.

    Args:
        make: Makes the module; called again, under the seed of the run, for new initial values.
        num_items: Items are 1..num_items, and 0 is padding.
        adaptive: Names of submodules, or of single parameters, that differ between devices.
        history_length: ``L``.
        keeps_values: Whether the values that the module has are the initial ones.

    Raises:
        UserError: If a name is none of the module, or the module does not do what it must.
    """

    can_be_generated = False

    def __init__(
        self,
        make: Callable[[], nn.Module],
        num_items: int,
        adaptive: Sequence[str],
        history_length: int = HISTORY_LENGTH,
        keeps_values: bool = False,
    ) -> None:
        for name, size in (("num_items", num_items), ("history_length", history_length)):
            if size < 1:
                raise UserError(f"model.{name} must be >= 1, got {size}")
        self.num_items = num_items
        self.history_length = history_length
        self._make = make
        self._keeps_values = keeps_values
        self.module = _made(make, 0).eval()
        self.parts: Parts = parts_of(self.module, adaptive)
        self.shapes = {
            name: tuple(value.shape)
            for name, value in self.module.named_parameters()
            if value.requires_grad
        }
        self._runs = ModuleRuns(self.module, self.parts, self.shapes)
        #: How devices run that differ in adaptive parameters alone, and in all.
        self.ways = {"head": CALLS, "all": WHOLE}
        self._memory: _Memory | None = None
        self._flops: dict[tuple[str, int], float] = {}

    def __getstate__(self) -> dict[str, object]:
        """Leaves out what is kept between two steps."""
        return {**self.__dict__, "_memory": None}

    def __getattr__(self, name: str) -> object:
        """Answers who asks for the sizes of a chain of linear layers.

        Raises:
            UserError: For these.
            AttributeError: For any other name.
        """
        if name in ("head_sizes", "width"):
            raise self.no_chain()
        raise AttributeError(f"{type(self).__name__} has no {name}")

    @property
    def word(self) -> str:
        return type(self.module).__name__

    def no_chain(self) -> UserError:
        """Makes the error for a method that generates layers."""
        return UserError(
            f"model must be one with a head of linear layers and states of items, such as gru4rec, "
            f"where layers are generated; {self.word} is a plain nn.Module"
        )

    # Parameters

    @property
    def adaptive(self) -> dict[str, tuple[int, ...]]:
        return {name: shape for name, shape in self.shapes.items() if name in self.parts.adaptive}

    @property
    def num_adaptive(self) -> int:
        return sum(torch.Size(shape).numel() for shape in self.adaptive.values())

    def init(self, generator: torch.Generator) -> Parameters:
        seed = int(torch.randint(2**62, (), generator=generator))
        module = self.module if self._keeps_values else _made(self._make, seed)
        values = dict(module.named_parameters())
        return {name: values[name].detach().clone() for name in self.shapes}

    def init_static(self, generator: torch.Generator) -> Parameters:
        own = self.adaptive
        return {name: value for name, value in self.init(generator).items() if name not in own}

    def values(self) -> Parameters:
        """Copies the values that the module has."""
        named = dict(self.module.named_parameters())
        return {name: named[name].detach().clone() for name in self.shapes}

    def training_facts(self) -> dict[str, object]:
        """Lists the code of the module, its parts, and the values that it does not draw anew."""
        digest = hashlib.sha256(_source_of(type(self.module)))
        values = (
            self.module.state_dict() if self._keeps_values else dict(self.module.named_buffers())
        )
        for name, value in values.items():
            digest.update(name.encode() + value.detach().numpy().tobytes())
        return {
            "module": f"{type(self.module).__module__}.{type(self.module).__qualname__}",
            "digest": digest.hexdigest(),
            "adaptive": list(self.adaptive),
        }

    # Running

    def tabulate(self, parameters: Parameters) -> Parameters:
        history, candidates = self.some_events(2, 2)
        made: dict[str, Tensor] = {}
        named = self._named(parameters)
        catalog = self._runs.catalog(named, made)
        self._runs.plain(named, history, candidates, self._runs.row_calls(catalog))
        return {**parameters, **made}

    def run(self, parameters: Parameters, history: Tensor, candidates: Tensor) -> Tensor:
        """Runs the module on ``B`` events with shared parameters, and gives what it gives.

        Args:
            parameters: Shared.
            history: ``[B, L]``.
            candidates: ``[B, C]``.
        """
        return self._runs.plain(self._named(parameters), history, candidates, {})

    def score(self, parameters: Parameters, history: Tensor, candidates: Tensor) -> Tensor:
        """Scores candidates by the module, which runs as it is.

        Args:
            parameters: Shared or stacked.
            history: ``[..., L]`` ids.
            candidates: ``[..., C]`` ids.
        """
        return self._score(parameters, history, candidates, None)

    def encode(
        self, parameters: Parameters, history: Tensor, candidates: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Puts the ids of an event in a row, for :meth:`head`, which runs the whole module.

        Args:
            parameters: Not read.
            history: ``[..., L]``.
            candidates: ``[..., C]``.
        """
        length = history.new_full((*history.shape[:-1], 1), history.shape[-1])
        return torch.cat([length, history, candidates], -1).unsqueeze(-2), None

    def head(self, parameters: Parameters, x: Tensor) -> Tensor:
        """Runs the module on what :meth:`encode` gave.

        In training, what static submodules gave is kept from step to step, as long as the same
        tensors come.
        """
        ids = x.squeeze(-2)
        length = int(ids[..., 0].max()) if ids.numel() else 0
        history, candidates = ids[..., 1 : 1 + length], ids[..., 1 + length :]
        kept = self._kept(parameters, x)
        if kept is not None:  # which would keep the events themselves as long as a view of them
            history, candidates = history.clone(), candidates.clone()
        return self._score(parameters, history, candidates, kept).unsqueeze(-1)

    def _score(
        self, parameters: Parameters, history: Tensor, candidates: Tensor, kept: Kept | None
    ) -> Tensor:
        """Computes logits ``[..., C]``.

        Args:
            parameters: Shared or stacked.
            history: ``[..., L]``.
            candidates: ``[..., C]``.
            kept: Of the same events; None keeps nothing.
        """
        if not candidates.numel():
            return torch.zeros(candidates.shape)
        named = self._named(parameters)
        stacked = [name for name in named if named[name].dim() > len(self.shapes[name])]
        tables = {name: value for name, value in parameters.items() if name not in named}
        calls = self._runs.row_calls(self._runs.catalog(named, None, tables)) if tables else {}
        if kept is not None:
            kept.next.clear()
            for part in self.parts.static:
                calls[part] = after(kept.call(part), calls.get(part))
        flat = history.reshape(-1, history.shape[-1]), candidates.reshape(-1, candidates.shape[-1])
        if not stacked:
            return self._runs.plain(named, *flat, calls).view(candidates.shape)
        num_devices = len(named[stacked[0]])
        # A place without an event has nothing but zeros, and an item comes first in all others.
        is_real = (flat[0][:, 0] != 0) | (flat[1][:, 0] != 0)
        place = is_real.nonzero().squeeze(-1) if not bool(is_real.all()) else None
        if place is not None and not len(place):
            place = torch.zeros(1, dtype=torch.long)
        groups = Groups(num_devices, len(is_real) // num_devices, place)
        if place is not None:
            flat = flat[0][place], flat[1][place]
        way = self.ways["head" if set(stacked) <= set(self.adaptive) else "all"]
        if way == CALLS:
            logits = self._runs.by_calls(named, *flat, calls, groups)
        else:
            logits = self._runs.whole(named, stacked, *flat, groups, is_mapped=way == WHOLE)
        if place is not None:
            padded = logits.new_zeros(len(is_real), logits.shape[-1])
            padded[place] = logits
            logits = padded
        return logits.view(candidates.shape)

    def _named(self, parameters: Parameters) -> Parameters:
        return {name: parameters[name] for name in self.shapes}

    def some_events(self, num_events: int, num_candidates: int) -> tuple[Tensor, Tensor]:
        """Draws events: histories ``[B, L]`` of several lengths, and candidates ``[B, C]``."""
        draws = torch.Generator().manual_seed(0)
        shapes = (num_events, self.history_length), (num_events, num_candidates)
        history, candidates = (
            torch.randint(1, self.num_items + 1, shape, generator=draws) for shape in shapes
        )
        candidates.view(-1)[-1] = self.num_items
        length = torch.arange(num_events).unsqueeze(-1) % self.history_length + 1
        history[torch.arange(self.history_length) >= length] = 0
        return history, candidates

    # What is kept between steps

    def _kept(self, parameters: Parameters, x: Tensor) -> Kept | None:
        """Finds what earlier steps kept of the same events with the same static parameters."""
        own = set(self.adaptive)
        static = [value for name, value in parameters.items() if name not in own]
        is_training = torch.is_grad_enabled() and all(parameters[k].requires_grad for k in own)
        if not is_training or any(value.requires_grad for value in static):
            return None
        if self._memory is None or not self._memory.is_of([x, *static]):
            self._memory = _Memory([x, *static])
        return self._memory.kept

    # Work

    def flops(self, num_candidates: int) -> float:
        """Counts by PyTorch's own counter, once for each number of candidates."""
        return self._counted("all", num_candidates)

    def head_flops(self, num_candidates: int) -> float:
        """Counts what is left to do when outputs of static submodules are kept."""
        return self._counted("head", num_candidates)

    def _counted(self, layers: str, num_candidates: int) -> float:
        key = layers, num_candidates
        if key not in self._flops:
            events = self.some_events(1, num_candidates)
            named = self.values()
            kept = Kept()
            calls = {part: kept.call(part) for part in self.parts.static}
            with torch.inference_mode(False), torch.enable_grad(), in_single_products():
                for name in self.adaptive:
                    named[name].requires_grad_()
                if layers == "head":
                    self._runs.plain(named, *events, calls)
                    kept.next.clear()
                with FlopCounterMode(display=False) as counter:
                    self._runs.plain(named, *events, calls)
            self._flops[key] = float(counter.get_total_flops())
        return self._flops[key]

    # What only models with a chain of linear layers have

    def item_states(self, parameters: Parameters, history: Tensor) -> Tensor:
        raise self.no_chain()


class _Memory:
    """Keeps outputs as long as tensors are alive and unchanged.

    Args:
        tensors: The events first; when they are gone everything is forgotten.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        first, *others = tensors
        self.kept = Kept()
        forget = self.kept.calls.clear
        self._refs = [weakref.ref(first, lambda _: forget()), *map(weakref.ref, others)]
        self._versions = [value._version for value in tensors]

    def is_of(self, tensors: Sequence[Tensor]) -> bool:
        """Tells whether these are the same tensors, unchanged."""
        return len(tensors) == len(self._refs) and all(
            ref() is value and version == value._version
            for ref, value, version in zip(self._refs, tensors, self._versions, strict=True)
        )


def _made(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Makes a module under a seed, and leaves PyTorch's own generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def _source_of(kind: type[nn.Module]) -> bytes:
    """Reads the file of a class; where there is none, as in a notebook, its compiled forward."""
    try:
        return inspect.getsource(sys.modules[kind.__module__]).encode()
    except (OSError, TypeError, KeyError):
        code = kind.forward.__code__
        return code.co_code + repr((code.co_names, code.co_varnames)).encode()
