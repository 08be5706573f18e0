"""Takes strategies by name, as classes and as objects."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from flwr.serverapp.strategy import Strategy

from cdc_flower.api.filed import filed_name
from cdc_flower.core.errors import UserError, check_name
from cdc_flower.core.held import held
from cdc_flower.core.registry import snake_case
from cdc_flower.strategies.base import OnDevices
from cdc_flower.strategies.registry import strategies as registered
from cdc_flower.strategies.stock import on_devices, put_on_devices
from cdc_flower.study.arms import METHOD

GROUP = "strategy"
#: Names that are keys in Hydra's grammar; a dot would part two.
_KEY = re.compile(r"[A-Za-z_][\w-]*")


@dataclass
class Arms:
    """Strategies of a comparison.

    Attributes:
        names: In order.
        values: Classes and objects by name.
        methods: Names of methods by the name of their arm.
    """

    names: list[str] = field(default_factory=list)
    values: dict[str, object] = field(default_factory=dict)
    methods: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, given: object) -> "Arms":
        """Names strategies.

        Args:
            given: A name, class or object; several of them; or a mapping of names to them.

        Raises:
            UserError: If there is none, a name comes twice, or one is no strategy.
        """
        arms = cls()
        for name, own in _named(given):
            value = filed_name(own, registered, GROUP)
            check_name(name, "strategies")
            if name in arms.names:
                raise UserError(
                    f"strategies must have names of their own, got {name} twice; "
                    'name them: {"one": ..., "other": ...}'
                )
            arms.names.append(name)
            if not isinstance(value, str):
                arms.values[name] = _playable(name, value)
            elif value != name:
                arms.methods[name] = value
        if not arms.names:
            raise UserError('strategies must be at least one, such as ["static", "duet"]')
        return arms

    def keys(self) -> dict[str, object]:
        """Lists the keys of a configuration that name them."""
        methods = {
            f"{GROUP}.{name}.method": method
            for name, method in self.methods.items()
            if name not in self.odd
        }
        return {"strategies": self.names, **methods}

    @property
    def odd(self) -> list[str]:
        """Lists names of arms that are no keys in Hydra's grammar, such as ``v1.5``."""
        return [name for name in self.methods if not _KEY.fullmatch(name)]

    def nodes(
        self, settings: Mapping[str, Mapping[str, object]]
    ) -> dict[str, Mapping[str, object]]:
        """Makes the nodes of classes, objects and arms of odd names.

        Args:
            settings: Configured options by name.

        Raises:
            UserError: If an option is none or out of its range.
        """
        own = {
            name: held(value, name, f"{GROUP}.{name}", settings.get(name))
            for name, value in self.values.items()
        }
        return own | {
            name: {METHOD: self.methods[name], **settings.get(name, {})} for name in self.odd
        }


def _named(given: object) -> Iterator[tuple[str, object]]:
    if isinstance(given, Mapping):
        yield from given.items()
        return
    if isinstance(given, str | type | Strategy | OnDevices):
        given = [given]
    if not isinstance(given, Iterable):
        raise UserError(f"strategies must be names, classes or objects, got {given!r}")
    for value in given:
        if not isinstance(value, str | type | Strategy):
            raise UserError(
                f"strategies must be names, classes or objects of strategies, got {value!r}"
            )
        yield (value if isinstance(value, str) else own_name(value)), value


def own_name(value: object) -> str:
    """Names a strategy after its class: the registered name, else its name in snake case."""
    kind = value if isinstance(value, type) else type(value)
    for entry in registered.entries():
        if entry.value is kind:
            return entry.name
    return snake_case(kind.__name__)


def _playable(name: str, value: object) -> object:
    """Takes a class or an object if it can be played.

    Raises:
        UserError: If it cannot, or has the name of another strategy.
    """
    kind = value if isinstance(value, type) else type(value)
    try:
        played = on_devices(kind)
        if played is not kind:
            is_class = isinstance(value, type)
            value = played if is_class else put_on_devices(cast(Strategy, value))
    except UserError as error:
        raise UserError(f"strategies: {name}: {error}") from error
    if name in registered and registered[name].value is not kind:
        raise UserError(
            f"strategies: {name} is the name of another strategy; give yours one of its own: "
            f'{{"my_{name}": {kind.__name__}}}'
        )
    return value
