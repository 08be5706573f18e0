"""Registers strategies, models, tasks, policies and all else that a configuration can name.

Each kind has one registry, in the room of that kind. An entry comes from a decorator in the module
that defines it. The modules of the package are found by scanning a folder, those of installed
packages by entry points of the group ``cdc_flower.KIND``; so adding one touches no list. Nothing is
imported before the first look-up.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from cdc_flower.core.errors import UserError, unknown_name

Value = TypeVar("Value")
Facts = TypeVar("Facts")


@dataclass(frozen=True)
class NoFacts:
    """Stands for the facts of a kind of which nothing but the name has to be known."""


@dataclass(frozen=True)
class Entry(Generic[Value, Facts]):
    """Holds a registered class or function.

    Attributes:
        name: As configurations have it.
        value: The class or function.
        facts: What has to be known of it before it is used.
    """

    name: str
    value: Value
    facts: Facts


class Registry(Generic[Value, Facts]):
    """Finds classes or functions of one kind by name.

    Args:
        kind: Singular word for messages, such as ``strategy``.
        plural: As in ``cdc-flower list strategies`` and in the group of entry points.
        facts: The dataclass of facts; its fields are the arguments of :meth:`register`.
        package: Dotted name of the folder whose modules are scanned, with those of folders in it;
            "" scans nothing.
    """

    def __init__(self, kind: str, plural: str, facts: type[Facts], package: str = "") -> None:
        self.kind = kind
        self.plural = plural
        self.facts = facts
        self._package = package
        self._is_complete = False
        self._entries: dict[str, Entry[Value, Facts]] = {}

    def register(self, name: str, **facts: object) -> Callable[[Value], Value]:
        """Makes a decorator that registers a class or function.

        Args:
            name: As configurations will have it.
            facts: Fields of the dataclass of facts.

        Raises:
            ValueError: If another class or function has that name.
        """

        def add(value: Value) -> Value:
            known = self._entries.get(name)
            if known is not None and not _is_same(known.value, value):
                raise ValueError(f"{self.kind} {name!r} must be registered once, got {value!r} too")
            self._entries[name] = Entry(name, value, self.facts(**facts))
            return value

        return add

    def __contains__(self, name: object) -> bool:
        return name in self._complete()

    def __iter__(self) -> Iterator[str]:
        """Lists names in alphabetical order."""
        return iter(sorted(self._complete()))

    def __len__(self) -> int:
        return len(self._complete())

    def __getitem__(self, name: str) -> Entry[Value, Facts]:
        """Finds the entry of that name.

        Raises:
            UserError: If there is none.
        """
        return self.find(name, self.plural)

    def find(self, name: str, place: str) -> Entry[Value, Facts]:
        """Finds the entry of a configured name.

        Args:
            name: As configured.
            place: The key that gave it, for the message.

        Raises:
            UserError: If there is none.
        """
        entries = self._complete()
        if name not in entries:
            raise unknown_name(self.kind, name, entries, place)
        return entries[name]

    def entries(self) -> list[Entry[Value, Facts]]:
        """Lists all entries in alphabetical order of their names."""
        complete = self._complete()
        return [complete[name] for name in sorted(complete)]

    def _complete(self) -> dict[str, Entry[Value, Facts]]:
        """Imports the folder and the entry points once, and returns all entries."""
        if not self._is_complete:
            # Set first, for a module may look something up while it is imported.
            self._is_complete = True
            self._scan()
            self._load_entry_points()
        return self._entries

    def _scan(self) -> None:
        if not self._package:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.walk_packages(package.__path__, f"{self._package}."):
            importlib.import_module(module.name)

    def _load_entry_points(self) -> None:
        for point in entry_points(group=f"cdc_flower.{self.plural}"):
            try:
                value = point.load()
            except Exception as error:  # an installed package may fail in any way
                raise UserError(
                    f"{self.plural}: the entry point {point.name} ({point.value}) must be "
                    f"importable, got {type(error).__name__}: {error}"
                ) from error
            # Its module may have registered it already, with facts.
            if point.name not in self._entries:
                self.register(point.name)(value)


def _is_same(one: object, other: object) -> bool:
    """Tells whether two objects are one definition; a module imported again makes it anew."""
    names = ("__module__", "__qualname__")
    return all(getattr(one, name, one) == getattr(other, name, other) for name in names)
