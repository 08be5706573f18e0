"""Looks up, in tables of all items, what a module makes of each item by itself.

A module that runs linear layers over the embeddings of its candidates does so for every event and
candidate anew. Where the layers see one item at a time, a table of all items gives the same. So a
looked-up embedding is an :class:`ItemRows`: linear layers, activations and layer normalizations on
it are noted down and not done, and whatever else wants its numbers gets them from the table of that
chain. Without a table they are computed as the module says.
"""

from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_map

Value = TypeVar("Value")
#: Functions of each number by itself; their other arguments are plain values.
ACTIVATIONS = frozenset(
    {
        *(torch.tanh, torch.sigmoid, torch.relu, Tensor.tanh, Tensor.sigmoid, Tensor.relu),
        *(F.relu, F.gelu, F.silu, F.elu, F.selu, F.leaky_relu, F.softplus, F.mish),
    }
)
#: Facts of a tensor that need none of its numbers.
SHAPES = frozenset(
    {
        *(getattr(Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "device")),
        *(Tensor.dim, Tensor.size, Tensor.numel, Tensor.__len__),
    }
)


@dataclass(frozen=True)
class Catalog:
    """Holds the tables of one run of a module.

    Attributes:
        names: Name of each static parameter, by the identity of its tensor.
        tables: Rows of all items by chain.
        made: Where tables are put that are not there yet; None makes none.
    """

    names: Mapping[int, str]
    tables: Mapping[str, Tensor]
    made: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class Chain:
    """Maps of single items: an embedding and what is done with it.

    Attributes:
        catalog: Of the run.
        key: Names functions and parameters; the same for the same map.
        weight: Of the embedding, ``[v, d]``.
        padding_idx: Of the embedding: a row that is not trained.
        width: Of what comes out.
        steps: Functions after the embedding.
    """

    catalog: Catalog
    key: str
    weight: Tensor
    padding_idx: int | None
    width: int
    steps: tuple[Callable[[Tensor], Tensor], ...] = field(default=())

    def rows(self, ids: Tensor) -> Tensor:
        """Makes ``[..., width]`` of ids ``[...]``, from the table where there is one."""
        made = self.catalog.made
        table = (self.catalog.tables if made is None else made).get(self.key)
        if table is None and made is not None:
            table = self._computed(torch.arange(len(self.weight), device=self.weight.device))
            made[self.key] = table
        return self._computed(ids) if table is None else F.embedding(ids, table)

    def _computed(self, ids: Tensor) -> Tensor:
        value = F.embedding(ids, self.weight, self.padding_idx)
        for step in self.steps:
            value = step(value)
        return value

    def then(self, name: str, width: int, step: Callable[[Tensor], Tensor]) -> "Chain":
        """Adds a map.

        Args:
            name: For the key.
            width: Of what it gives.
            step: The map.
        """
        return replace(self, key=f"{self.key} > {name}", width=width, steps=(*self.steps, step))


class ItemRows(Tensor):
    """Stands for rows ``[..., width]`` of a chain, which are made when something needs them."""

    chain: Chain
    ids: Tensor
    _value: Tensor | None

    @staticmethod
    def of(chain: Chain, ids: Tensor) -> "ItemRows":
        """Makes the rows of ids ``[...]``."""
        # One number in place of all of them: the shape is asked for, the number never.
        stand_in = chain.weight.detach().new_zeros(()).expand(*ids.shape, chain.width)
        made = stand_in.as_subclass(ItemRows)
        made.chain = chain
        made.ids = ids
        made._value = None
        return made

    def value(self) -> Tensor:
        """Gives the numbers, the same tensor each time, so that it may be changed in place."""
        if self._value is None:
            self._value = self.chain.rows(self.ids)
        return self._value

    @property
    def made(self) -> Tensor | None:
        """Gives the numbers if they have been made."""
        return self._value

    def is_same(self, other: object) -> bool:
        """Tells whether other rows, of which no numbers were made, are the same map of the same."""
        return (
            isinstance(other, ItemRows)
            and other.made is None
            and self.chain.key == other.chain.key
            and torch.equal(self.ids, other.ids)
        )

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Notes a map of single items down, and gives everything else the numbers.

        Args:
            func: Of PyTorch.
            types: Of the arguments; not read.
            args: Of the function.
            kwargs: Of the function.
        """
        named = dict(kwargs or {})
        if func in SHAPES:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **named)
        if args and isinstance(args[0], ItemRows) and args[0]._value is None:
            chain = _longer(args[0].chain, func, args[1:], named)
            if chain is not None:
                return ItemRows.of(chain, args[0].ids)
        return func(*tree_map(numbers, args), **tree_map(numbers, named))


def numbers(value: Value) -> Value | Tensor:
    """Gives the numbers of rows, and anything else as it is."""
    return value.value() if isinstance(value, ItemRows) else value


def _longer(
    chain: Chain, func: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
) -> Chain | None:
    """Adds a function to a chain; None if it is no map of single items that we know.

    Args:
        chain: Before it.
        func: Of PyTorch.
        args: After the first.
        kwargs: Of the function.
    """
    words, width = [], chain.width
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            name = chain.catalog.names.get(id(value))
            if name is None:
                return None  # no static parameter: it may differ between devices or events
            words.append(name)
        else:
            words.append(repr(value))
    if func is F.linear:
        weight = args[0] if args else kwargs["weight"]
        width = len(weight) if isinstance(weight, Tensor) else width
    elif func is F.layer_norm:
        shape = args[0] if args else kwargs["normalized_shape"]
        if not isinstance(shape, Sized) or len(shape) != 1:
            return None
    elif func is F.dropout:
        if args[1] if len(args) > 1 else kwargs.get("training", True):
            return None
    elif func not in ACTIVATIONS or kwargs.get("inplace"):
        return None
    name = f"{getattr(func, '__name__', func)}({', '.join([*words, *kwargs])})"
    step = cast(Callable[..., Tensor], func)
    return chain.then(name, width, lambda value: step(value, *args, **kwargs))
