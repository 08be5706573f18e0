"""Runs a module on events of one device or many, in three ways that give the same logits."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from cdc_flower.models.layers import Parameters
from cdc_flower.models.module.calls import (
    Call,
    Groups,
    absent,
    own_call,
    padded_call,
    replaced,
    rows_call,
)
from cdc_flower.models.module.parts import Parts
from cdc_flower.models.module.recurrent import gru_call, recurrent_call
from cdc_flower.models.module.rows import Catalog, numbers


@dataclass(frozen=True)
class ModuleRuns:
    """Runs of one module.

    Attributes:
        module: In evaluation mode.
        parts: Of the module.
        shapes: Of its parameters, without devices.
    """

    module: nn.Module
    parts: Parts
    shapes: Mapping[str, tuple[int, ...]]

    def plain(
        self,
        named: Parameters,
        history: Tensor,
        candidates: Tensor,
        calls: Mapping[nn.Module, Call],
    ) -> Tensor:
        """Runs the module on ``t`` events.

        Args:
            named: Its parameters.
            history: ``[t, L]``.
            candidates: ``[t, C]``.
            calls: In place of those of submodules.
        """
        with replaced(calls):
            return numbers(functional_call(self.module, named, (history, candidates)))

    def by_calls(
        self,
        named: Parameters,
        history: Tensor,
        candidates: Tensor,
        calls: Mapping[nn.Module, Call],
        groups: Groups,
    ) -> Tensor:
        """Runs the module on ``t`` events, and its adaptive submodules device by device.

        Args:
            named: Its parameters, adaptive ones shared or stacked.
            history: ``[t, L]``.
            candidates: ``[t, C]``.
            calls: In place of those of static submodules.
            groups: Whose the events are.
        """
        own_calls: dict[nn.Module, Call] = {}
        for unit, names in self.parts.units.items():
            own = {
                local: self._stacked(named, name, groups.num_devices)
                for local, name in names.items()
            }
            own_calls[unit] = own_call(unit, own, groups)
        rest = {
            name: absent() if name in self.parts.adaptive else value
            for name, value in named.items()
        }
        return self.plain(rest, history, candidates, {**calls, **own_calls})

    def _stacked(self, named: Parameters, name: str, num_devices: int) -> Tensor:
        value = named[name]
        is_stacked = value.dim() > len(self.shapes[name])
        return value if is_stacked else value.expand(num_devices, *value.shape)

    def whole(
        self,
        named: Parameters,
        stacked: Sequence[str],
        history: Tensor,
        candidates: Tensor,
        groups: Groups,
        *,
        is_mapped: bool,
    ) -> Tensor:
        """Runs the whole module for each device.

        Args:
            named: Its parameters, shared or stacked.
            stacked: Names of stacked ones.
            history: ``[t, L]``.
            candidates: ``[t, C]``.
            groups: Whose the events are.
            is_mapped: All devices at once, or one after the other.
        """
        shared = {name: value for name, value in named.items() if name not in stacked}
        own = {name: named[name] for name in stacked}
        ids = groups.together(history), groups.together(candidates)

        calls: dict[nn.Module, Call] = {}
        if is_mapped:
            calls |= {part: recurrent_call(part) for part in self.parts.recurrent}
            calls |= {part: padded_call(part) for part in self.parts.padded}

        def one(mine: Parameters, its_history: Tensor, its_candidates: Tensor) -> Tensor:
            return self.plain({**shared, **mine}, its_history, its_candidates, calls)

        if is_mapped:
            with in_single_products():
                return groups.apart(vmap(one)(own, *ids))
        rows = [
            one({name: value[k] for name, value in own.items()}, ids[0][k], ids[1][k])
            for k in range(groups.num_devices)
        ]
        return groups.apart(torch.stack(rows))

    def catalog(
        self,
        named: Parameters,
        made: dict[str, Tensor] | None,
        tables: Mapping[str, Tensor] | None = None,
    ) -> Catalog:
        """Says which tables there are.

        Args:
            named: Parameters of the run.
            made: Where new ones go; None makes none.
            tables: Old ones; None for none.
        """
        names = {
            id(value): name for name, value in named.items() if name not in self.parts.adaptive
        }
        return Catalog(names, tables or {}, made)

    def row_calls(self, catalog: Catalog) -> dict[nn.Module, Call]:
        """Lets embeddings, and GRUs behind them, be looked up."""
        calls: dict[nn.Module, Call] = {part: gru_call(part) for part in self.parts.gru}
        return calls | {part: rows_call(part, catalog) for part in self.parts.embeddings}


@contextmanager
def in_single_products() -> Iterator[None]:
    """Lets attention run as products that PyTorch can count and map over devices."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
