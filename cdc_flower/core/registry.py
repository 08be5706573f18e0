"""Registers strategies, models, tasks, policies and all else that a configuration can name.

Each kind has one registry, in the room of that kind. An entry comes from a decorator in the module
that defines it. The modules of the package are found by scanning a folder, those of installed
packages by entry points of the group ``cdc_flower.KIND``; so adding one touches no list. Nothing is
imported before the first look-up.

A configuration may also name a class that nobody registered, by its path under ``_target_``. Its
facts are then its class attributes of the same names, and what a class lacks is the default.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass
from importlib.metadata import entry_points
from typing import Generic, TypeVar, cast

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.core.options import Option, argument_names, checked_values, option, options_of
from cdc_flower.core.targets import TARGET, Shape, check_shape, import_target

Value = TypeVar("Value")
Facts = TypeVar("Facts")
#: Key of a registered name in a node of a configuration.
NAME = "name"
#: Kinds, as in :attr:`Registry.plural`, of which other modules than the package's registered some.
OWN_KINDS: set[str] = set()


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

    def options(self, given: tuple[str, ...] = ()) -> dict[str, Option]:
        """Lists what a node that configures it may hold: its options, its name or its path.

        Args:
            given: Names of its arguments that are not configured.
        """
        own = options_of(cast(Callable[..., object], self.value))
        return {
            **NODE_OPTIONS,
            **{name: each for name, each in own.items() if name not in given},
        }

    def checked(self, node: Mapping[str, object], place: str) -> dict[str, object]:
        """Checks a node that configures it: every key, and every value in its range.

        Args:
            node: As configured.
            place: Of the node.

        Raises:
            UserError: If something is wrong.
        """
        return checked_values(self.options(), node, place)

    def arguments(self, checked: Mapping[str, object]) -> dict[str, object]:
        """Selects the values of a checked node that it takes, which the path to it is not."""
        own = options_of(cast(Callable[..., object], self.value))
        return {
            key: value for key, value in checked.items() if key in own or key not in (NAME, TARGET)
        }


class Registry(Generic[Value, Facts]):
    """Finds classes or functions of one kind by name.

    Args:
        kind: Singular word for messages, such as ``strategy``.
        plural: As in ``cdc-flower list strategies`` and in the group of entry points.
        facts: The dataclass of facts; its fields are the arguments of :meth:`register`.
        package: Dotted name of the folder whose modules are scanned, with those of folders in it;
            "" scans nothing.
        shape: Which classes or functions it takes; None: any.
    """

    def __init__(
        self,
        kind: str,
        plural: str,
        facts: type[Facts],
        package: str = "",
        shape: Shape | None = None,
    ) -> None:
        self.kind = kind
        self._shape = shape
        self.plural = plural
        self.facts = facts
        self._package = package
        self._is_complete = False
        self._entries: dict[str, Entry[Value, Facts]] = {}

    def register(self, name: str, **facts: object) -> Callable[[Value], Value]:
        """Makes a decorator that registers a class or function.

        Args:
            name: As configurations will have it.
            facts: Fields of the dataclass of facts; those that are left out are class attributes
                of the same names, if it has them.

        Raises:
            ValueError: If another class or function has that name.
            UserError: If it is of another kind, or a fact is missing.
        """

        def add(value: Value) -> Value:
            known = self._entries.get(name)
            if known is not None and not _is_same(known.value, value):
                raise ValueError(f"{self.kind} {name!r} must be registered once, got {value!r} too")
            self._entries[name] = self._entry(name, value, facts, f"{self.kind} {name!r}")
            if not is_of_the_package(value):
                OWN_KINDS.add(self.plural)
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

    def of_node(self, node: Mapping[str, object], place: str) -> Entry[Value, Facts]:
        """Finds the entry that a node configures: by its path, or else by its name.

        Args:
            node: As configured.
            place: Of the node.

        Raises:
            UserError: If there is none.
        """
        if TARGET in node:
            return self.of_target(node[TARGET], f"{place}.{TARGET}")
        return self.find(str(node.get(NAME)), f"{place}.{NAME}")

    def of_target(self, path: object, place: str) -> Entry[Value, Facts]:
        """Imports a class or function by its path; if it is registered, that is the entry.

        Args:
            path: Such as ``my_module.Nudge``.
            place: The key that gave it.

        Raises:
            UserError: If it cannot be imported, is of another kind, or lacks a fact.
        """
        value = cast(Value, import_target(path, place))
        for entry in self._complete().values():
            if entry.value is value:
                return entry
        made = self._entry(snake_case(str(path).rpartition(".")[2]), value, {}, place)
        try:
            made.options()
        except TypeError as error:  # arguments that no key could name
            raise UserError(f"{place}: {error}") from error
        return made

    def _entry(
        self, name: str, value: Value, given: Mapping[str, object], place: str
    ) -> Entry[Value, Facts]:
        """Makes an entry with facts that are given, or else class attributes, or else defaults.

        Args:
            name: Of the entry.
            value: The class or function.
            given: Facts by name.
            place: For errors.

        Raises:
            UserError: If it is of another kind, or a fact is missing or has another type.
        """
        shown = _shown(value)
        check_shape(value, self._shape, place, shown)
        facts = dict(given)
        for key, fact in options_of(self.facts).items():
            if key in facts:
                continue
            told = _attribute(value, key)
            if told is MISSING and fact.is_required:
                told = self._inherited(value, key)
            if told is MISSING and fact.is_required:
                examples = sorted({str(getattr(each.facts, key)) for each in self.entries()})
                raise UserError(
                    f"{place}: {shown} must have the class attribute {key}, such as "
                    f"{' or '.join(map(repr, examples)) or fact.words()}"
                )
            if told is not MISSING:
                try:
                    facts[key] = fact.check(told, f"{place}: {shown}.{key}")
                except ValueError as error:
                    raise UserError(str(error)) from error
        return Entry(name, value, self.facts(**facts))

    def _inherited(self, value: object, key: str) -> object:
        """Finds a fact of a registered class that a class derives from; ``MISSING`` if none."""
        bases = value.__mro__[1:] if isinstance(value, type) else ()
        known = {entry.value: entry.facts for entry in self._entries.values()}
        return next(
            (getattr(known[base], key) for base in bases if base in known),
            MISSING,
        )

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
                place = f"{self.plural}: the entry point {point.name}"
                self._entries[point.name] = self._entry(point.name, value, {}, place)


@dataclass(frozen=True)
class _Node:
    """Keys of every node that configures one of a registry."""

    name: str = option("", doc="as results call it")
    _target_: str = option("", doc="path of a class of your own, such as my_module.Mine")


#: Options of every node that configures one of a registry.
NODE_OPTIONS = options_of(_Node)


def snake_case(name: str) -> str:
    """Writes the name of a class as configurations have it: ``MeanPool`` is ``mean_pool``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def is_of_the_package(value: object) -> bool:
    """Tells whether a class or function is one of this package."""
    return str(getattr(value, "__module__", "")).partition(".")[0] == "cdc_flower"


def _shown(value: object) -> str:
    """Writes a class or function by its path."""
    if isinstance(value, type) or inspect.isroutine(value):
        return f"{value.__module__}.{value.__qualname__}"
    return repr(value)


def _attribute(value: object, name: str) -> object:
    """Takes a class attribute that may be a fact; options, methods and properties are none."""
    if not isinstance(value, type) or name in argument_names(value):
        return MISSING
    found = inspect.getattr_static(value, name, MISSING)
    is_code = inspect.isroutine(found) or isinstance(found, property | classmethod | staticmethod)
    return MISSING if is_code else found


def _is_same(one: object, other: object) -> bool:
    """Tells whether two objects are one definition; a module imported again makes it anew."""
    names = ("__module__", "__qualname__")
    return all(getattr(one, name, one) == getattr(other, name, other) for name in names)
