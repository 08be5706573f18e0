"""Finds the parts of a module: adaptive submodules, static ones, and embeddings of items."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from cdc_flower.core.errors import UserError, nearest_name
from cdc_flower.models.module.recurrent import has_plain_gates


@dataclass(frozen=True)
class Parts:
    """Says which parts of a module are whose.

    Attributes:
        adaptive: Names of parameters that differ between devices, in the module's order.
        units: Adaptive submodules that are called: each with its parameters' names within it, and
            their names in the whole.
        static: The largest submodules without an adaptive parameter.
        embeddings: Static embeddings, which are looked up by plain rows.
        gru: Static GRUs of one layer, whose gates may be looked up too.
        recurrent: Recurrent layers of any kind, adaptive or not.
        padded: Embeddings with a padding row, adaptive or not.
    """

    adaptive: tuple[str, ...]
    units: dict[nn.Module, dict[str, str]]
    static: tuple[nn.Module, ...]
    embeddings: tuple[nn.Embedding, ...]
    gru: tuple[nn.GRU, ...]
    recurrent: tuple[nn.RNNBase, ...]
    padded: tuple[nn.Embedding, ...]


def parts_of(module: nn.Module, adaptive: Sequence[str]) -> Parts:
    """Finds the parts.

    Args:
        module: The whole.
        adaptive: Names of submodules or of single parameters.

    Raises:
        UserError: If there is no such name, or nothing adaptive is trained.
    """
    word = type(module).__name__
    if isinstance(adaptive, str) or not adaptive:
        raise UserError(
            f"model.adaptive must be a list of names of submodules of {word}, such as [head], "
            f"got {adaptive!r}"
        )
    # A parameter that is tied to another is known by the name of the first.
    names = {id(value): name for name, value in module.named_parameters() if value.requires_grad}
    parameters = dict(module.named_parameters(remove_duplicate=False))
    submodules = dict(module.named_modules(remove_duplicate=False))
    chosen: set[str] = set()
    units: dict[nn.Module, dict[str, str]] = {}
    for name in adaptive:
        if name in submodules and name:
            inside = dict(submodules[name].named_parameters())
            units |= {unit: {} for unit in _called(submodules[name])}
        elif name in parameters:
            inside = {name: parameters[name]}
        else:
            raise _unknown(word, str(name), [*submodules, *parameters])
        mine = {names[id(value)] for value in inside.values() if id(value) in names}
        if not mine:
            raise UserError(f"model.adaptive: {name} of {word} has no parameter that is trained")
        chosen |= mine
    inner = {part for unit in units for part in unit.modules() if part is not unit}
    units = {unit: {} for unit in units if unit not in inner}
    for unit in units:
        own = unit.named_parameters()
        units[unit] = {local: names[id(value)] for local, value in own if id(value) in names}
    mixed = {id(value) for value in module.parameters() if names.get(id(value)) in chosen}
    static = tuple(_largest_static(module, mixed))
    embeddings = tuple(
        part
        for part in module.modules()
        if type(part) is nn.Embedding and id(part.weight) not in mixed and _is_plain(part)
    )
    gru = tuple(
        part
        for part in module.modules()
        if type(part) is nn.GRU and has_plain_gates(part) and not _has(part, mixed)
    )
    recurrent = tuple(part for part in module.modules() if isinstance(part, nn.RNNBase))
    padded = tuple(
        part
        for part in module.modules()
        if type(part) is nn.Embedding and part.padding_idx is not None and _is_plain(part)
    )
    order = [name for name, _ in module.named_parameters()]
    names_in_order = tuple(name for name in order if name in chosen)
    return Parts(names_in_order, units, static, embeddings, gru, recurrent, padded)


def _unknown(word: str, name: str, known: Sequence[str]) -> UserError:
    near = nearest_name(name, [each for each in known if each])
    hint = f"; did you mean {near}?" if near else ""
    children = ", ".join(sorted({each.partition(".")[0] for each in known if each}))
    return UserError(
        f"model.adaptive must name submodules or parameters of {word}, got {name!r}{hint} "
        f"(it has {children})"
    )


def _called(part: nn.Module) -> Iterator[nn.Module]:
    """Lists the part itself, or of a mere list of parts those in it that are called."""
    if type(part).forward is not nn.Module.forward:
        yield part
        return
    for child in part.children():
        yield from _called(child)


def _largest_static(part: nn.Module, adaptive: set[int]) -> Iterator[nn.Module]:
    """Lists the largest submodules that are called and have none of these parameters."""
    for child in part.children():
        own = {id(value) for value in child.parameters()}
        if own & adaptive:
            if not own <= adaptive:
                yield from _largest_static(child, adaptive)
        else:
            yield from _called(child)


def _has(part: nn.Module, parameters: set[int]) -> bool:
    return any(id(value) in parameters for value in part.parameters())


def _is_plain(embedding: nn.Embedding) -> bool:
    return embedding.max_norm is None and not (embedding.scale_grad_by_freq or embedding.sparse)
