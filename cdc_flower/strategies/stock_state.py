"""States of Flower's strategies, also of those that others are wrapped around."""

from collections.abc import Iterator, Sequence

from flwr.serverapp.strategy import Strategy

from cdc_flower.core.errors import UserError
from cdc_flower.core.packing import packed, unpacked
from cdc_flower.core.saveable import Arrays, Part, Saved, part_of, prefixed

#: The attribute in which Flower's wrappers (differential privacy) hold the strategy inside.
INSIDE = "strategy"


def wrapped(strategy: Strategy) -> Iterator[Strategy]:
    """Goes from a strategy to the one that it is wrapped around, and on."""
    inside: object = strategy
    while isinstance(inside, Strategy):
        yield inside
        inside = getattr(inside, INSIDE, None)


def state_arrays(strategy: Strategy, carried: Sequence[str]) -> Arrays:
    """Takes the states of the strategies inside a strategy.

    Args:
        strategy: The outer one, whose own state is not among them.
        carried: Attributes that a round reads and an earlier one wrote.

    Raises:
        UserError: If one keeps account of privacy, which cannot be saved.
    """
    saved: Arrays = {}
    for depth, inside in enumerate(wrapped(strategy)):
        if getattr(inside, "accountant", None) is not None:
            raise UserError(
                f"{type(inside).__name__} must have no accountant to be saved, got one, "
                "whose account would be lost"
            )
        if depth:
            for name in _held(inside, carried):
                saved |= prefixed(f"{INSIDE}.{depth}.{name}", packed(vars(inside)[name]))
    return saved


def take_up(strategy: Strategy, carried: Sequence[str], arrays: Saved) -> Saved:
    """Lets the strategies inside a strategy go on from what :func:`state_arrays` took.

    Args:
        strategy: The outer one.
        carried: As they were taken.
        arrays: Saved, with the outer one's own state.

    Returns:
        The outer one's own state.
    """
    used: set[str] = set()
    for depth, inside in enumerate(wrapped(strategy)):
        for name in _held(inside, carried) if depth else ():
            place = f"{INSIDE}.{depth}.{name}"
            vars(inside)[name] = unpacked(part_of(arrays, place))
            used.add(place)
    own = Part((k, value) for k, value in arrays.items() if k.partition("/")[0] not in used)
    own.place = getattr(arrays, "place", "")
    return own


def _held(strategy: Strategy, carried: Sequence[str]) -> list[str]:
    return [name for name in carried if name in vars(strategy)]
