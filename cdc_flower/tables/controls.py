"""Names controls: arms that are played beside a strategy to tell adaptation from training.

``NAME@mean`` is the strategy ``NAME`` with the mean of its new layers for every device, and
``NAME@other`` with the new layers of another device for each. No strategy has an ``@`` in its name.
"""

from collections.abc import Iterable

MARK = "@"
MEAN, OTHER = "mean", "other"
#: In the order of the table.
CONTROLS = (MEAN, OTHER)


def control_name(strategy: str, control: str) -> str:
    """Names a control of a strategy in the table."""
    return f"{strategy}{MARK}{control}"


def is_control(name: str) -> bool:
    """Tells whether a name of the table is that of a control."""
    return MARK in name


def controlled(name: str) -> str:
    """Names the strategy that rows belong to: of a control, the one beside which it is played."""
    return name.partition(MARK)[0]


def without_controls(names: Iterable[str]) -> list[str]:
    """Keeps the names of strategies and reference lines."""
    return [name for name in names if not is_control(name)]
