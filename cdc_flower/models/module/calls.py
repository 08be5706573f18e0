"""Watches the calls of submodules while a module runs: who is called, with whose parameters.

A module stays as its author wrote it. For one run the calls of some submodules go elsewhere: those
of adaptive ones to the parameters of each device, those of static ones to what they gave before.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_flatten, tree_map

from cdc_flower.models.module.rows import Catalog, Chain, ItemRows, numbers

Forward = Callable[..., object]
Args = tuple[object, ...]
Named = dict[str, object]
#: Instead of a submodule's own forward: that forward, and what it is called with.
Call = Callable[[Forward, Args, Named], object]


class UsedOutsideError(Exception):
    """Reports that adaptive parameters are used outside of the calls of their submodule."""


class Absent(Tensor):
    """Stands where an adaptive parameter is not to be used."""

    @classmethod
    def __torch_function__(
        cls,
        func: Forward,
        types: object,
        args: Args = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Refuses every function.

        Raises:
            UsedOutsideError: Always.
        """
        raise UsedOutsideError(getattr(func, "__name__", str(func)))


def absent() -> Absent:
    """Makes a parameter that must not be used."""
    return torch.empty(0).as_subclass(Absent)


@contextmanager
def replaced(calls: Mapping[nn.Module, Call]) -> Iterator[None]:
    """Replaces what submodules do when they are called, for the time of a run.

    A call of another that comes from within goes where it always went.
    """
    kept = {module: module.__dict__.get("forward") for module in calls}
    for module, call in calls.items():
        module.__dict__["forward"] = _Replacement(module.forward, call)
    try:
        yield
    finally:
        for module, forward in kept.items():
            del module.__dict__["forward"]
            if forward is not None:
                module.__dict__["forward"] = forward


@dataclass
class _Replacement:
    """Stands in for a submodule's forward; the forward may call the submodule again."""

    forward: Forward
    call: Call
    is_inside: bool = False

    def __call__(self, *args: object, **kwargs: object) -> object:
        if self.is_inside:
            return self.forward(*args, **kwargs)
        self.is_inside = True
        try:
            return self.call(self.forward, args, kwargs)
        finally:
            self.is_inside = False


def padded_call(embedding: nn.Embedding) -> Call:
    """Makes the call of an embedding whose padding row is not trained, mapped over devices too.

    PyTorch's own gradient, when it is mapped, leaves out the padding row of one device alone.
    """

    def call(_: Forward, args: Args, kwargs: Named) -> object:
        """Looks up rows whose padding row has no gradient.

        Args:
            _: The submodule's own.
            args: It is called with.
            kwargs: It is called with, by name.
        """
        ids = args[0] if args else kwargs["input"]
        if not isinstance(ids, Tensor):
            raise TypeError(f"an embedding must be called with a tensor, got {type(ids).__name__}")
        rows = torch.arange(embedding.num_embeddings)
        is_padding = torch.eq(rows, -1 if embedding.padding_idx is None else embedding.padding_idx)
        weight = embedding.weight
        fixed = torch.where(is_padding.unsqueeze(-1), weight.detach(), weight)
        return nn.functional.embedding(ids, fixed)

    return call


def after(outer: Call, inner: Call | None) -> Call:
    """Makes the call that asks one call first, which may go on to another; None: to the forward."""
    if inner is None:
        return outer
    then = inner

    def call(forward: Forward, args: Args, kwargs: Named) -> object:
        """Asks the outer call, which may go on to the inner one.

        Args:
            forward: The submodule's own.
            args: It is called with.
            kwargs: It is called with, by name.
        """
        return outer(lambda *given, **named: then(forward, given, named), args, kwargs)

    return call


@dataclass(frozen=True)
class Groups:
    """Says which of ``t`` events are whose: events ``[t, ...]`` in places ``[n, slots]``.

    Attributes:
        num_devices: ``n``.
        num_slots: Of each device.
        place: ``[t]``, place of each event, counted through; None: the events fill all places.
    """

    num_devices: int
    num_slots: int
    place: Tensor | None = None

    def together(self, values: Tensor) -> Tensor:
        """Turns ``[t m, ...]``, events first, into ``[n, slots m, ...]``.

        A place without an event has the numbers of some event, so that nothing there is odd.

        Raises:
            ValueError: If they are not of all events.
        """
        num_places = self.num_devices * self.num_slots
        num_events = num_places if self.place is None else len(self.place)
        if not values.dim() or len(values) % num_events:
            raise ValueError(f"an argument must be of {num_events} events, got {values.shape}")
        events = values.reshape(num_events, -1, *values.shape[1:])
        if self.place is not None:
            event = torch.zeros(num_places, dtype=torch.long)
            event[self.place] = torch.arange(num_events)
            events = events[event]
        return events.reshape(self.num_devices, -1, *values.shape[1:])

    def apart(self, values: Tensor) -> Tensor:
        """Turns ``[n, slots m, ...]`` back into ``[t m, ...]``."""
        places = values.reshape(self.num_devices * self.num_slots, -1, *values.shape[2:])
        if self.place is not None:
            places = places[self.place]
        return places.reshape(-1, *values.shape[2:])


def own_call(submodule: nn.Module, own: Mapping[str, Tensor], groups: Groups) -> Call:
    """Makes the call that runs a submodule with each device's parameters on its own events.

    Args:
        submodule: An adaptive one.
        own: Its parameters by its own names, ``[n, ...]``.
        groups: Of the events.
    """

    def call(_: Forward, args: Args, kwargs: Named) -> object:
        """Runs the submodule once for each device.

        Args:
            _: The submodule's own.
            args: It is called with.
            kwargs: It is called with, by name.
        """
        leaves, spec = tree_flatten((args, kwargs))
        leaves = [numbers(leaf) for leaf in leaves]
        is_tensor = [isinstance(leaf, Tensor) for leaf in leaves]
        given = [leaf for leaf, is_one in zip(leaves, is_tensor, strict=True) if is_one]

        def one(parameters: dict[str, Tensor], tensors: list[Tensor]) -> object:
            left = iter(tensors)
            whole = [
                next(left) if is_one else leaf
                for leaf, is_one in zip(leaves, is_tensor, strict=True)
            ]
            positional, named = spec.unflatten(whole)
            return functional_call(submodule, parameters, positional, named)

        given = [groups.together(value) for value in given]
        return tree_map(groups.apart, vmap(one)(dict(own), given))

    return call


def rows_call(embedding: nn.Embedding, catalog: Catalog) -> Call:
    """Makes the call that looks rows up later; see :mod:`cdc_flower.models.module.rows`."""

    def call(forward: Forward, args: Args, kwargs: Named) -> object:
        """Gives places of rows, where they are looked up later.

        Args:
            forward: The submodule's own.
            args: It is called with.
            kwargs: It is called with, by name.
        """
        ids = numbers(args[0] if args else kwargs["input"])
        name = catalog.names.get(id(embedding.weight))
        if name is None or not isinstance(ids, Tensor):
            return forward(ids)
        key = f"rows of {name}" + (
            "" if embedding.padding_idx is None else f", {embedding.padding_idx} fixed"
        )
        width = embedding.embedding_dim
        chain = Chain(catalog, key, embedding.weight, embedding.padding_idx, width)
        return ItemRows.of(chain, ids)

    return call


@dataclass(frozen=True)
class _Given:
    """Holds one call: its input, its output, and how often each tensor had been changed then."""

    leaves: list[object]
    spec: object
    output: object
    versions: list[int]

    @staticmethod
    def of(arguments: object, output: object) -> "_Given":
        leaves, spec = tree_flatten(arguments)
        return _Given(leaves, spec, output, _versions([*leaves, output]))

    def is_for(self, arguments: object) -> bool:
        """Tells whether these arguments are the same, and nothing was changed in place since."""
        leaves, spec = tree_flatten(arguments)
        return (
            spec == self.spec
            and _versions([*self.leaves, self.output]) == self.versions
            and all(_is_same(*pair) for pair in zip(self.leaves, leaves, strict=True))
        )


@dataclass
class Kept:
    """Keeps what static submodules gave in one run, for later runs on the same events.

    Attributes:
        calls: Of each submodule, in their order.
        next: The number of the next call of each.
    """

    calls: dict[nn.Module, list[_Given]] = field(default_factory=dict)
    next: dict[nn.Module, int] = field(default_factory=dict)

    def call(self, submodule: nn.Module) -> Call:
        """Makes the call that gives again what the submodule gave for the same input.

        What depends on parameters that are trained now is never kept.
        """

        def call(forward: Forward, args: Args, kwargs: Named) -> object:
            """Gives what was kept, or runs the submodule and keeps it.

            Args:
                forward: The submodule's own.
                args: It is called with.
                kwargs: It is called with, by name.
            """
            number = self.next.get(submodule, 0)
            self.next[submodule] = number + 1
            before = self.calls.setdefault(submodule, [])
            if number < len(before) and before[number].is_for((args, kwargs)):
                return before[number].output
            output = forward(*args, **kwargs)
            if not any(_is_trained(leaf) for leaf in tree_flatten((args, kwargs, output))[0]):
                before[number:] = [_Given.of((args, kwargs), output)]
            return output

        return call


def _is_trained(value: object) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, ItemRows) and value.requires_grad


def _versions(values: object) -> list[int]:
    """Lists how often each tensor was changed in place; rows that nobody asked for, never."""
    made = [leaf.made if isinstance(leaf, ItemRows) else leaf for leaf in tree_flatten(values)[0]]
    return [leaf._version if isinstance(leaf, Tensor) else 0 for leaf in made]


def _is_same(one: object, other: object) -> bool:
    """Tells whether two arguments are equal, tensors number by number."""
    if isinstance(one, ItemRows):
        return one.is_same(other)
    if isinstance(one, Tensor):
        if not isinstance(other, Tensor) or isinstance(other, ItemRows):
            return False
        return one.shape == other.shape and torch.equal(one, other)
    return one is other or bool(one == other)
