"""Checks options of methods, models, policies and runs, each declared once with type and range.

An option is a field of a dataclass, made by :func:`option`. From it follow the check of a value,
the keys of a configuration and their defaults, the rows of the table in a method's card, and what a
trained model depends on. A class of a user's own needs no such fields: the arguments of its
constructor are its options, with the types that they are annotated with.
"""

import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field

from cdc_flower.core.errors import UserError, nearest_name, unknown_name
from cdc_flower.core.option_words import shown, type_words

_METADATA = "cdc_flower.option"
#: Configured whole numbers are held in 32 bits by some of those who read them.
LARGEST_WHOLE = 2**31 - 1
Choice = str | int | float | bool | None


@dataclass(frozen=True)
class Rule:
    """Restricts the values that an option may have, beside its type.

    Attributes:
        doc: A line for the table of options: meaning, unit, and the effect of the neutral value.
        least: The smallest value; None: no bound. Likewise ``most`` is the largest.
        above: The value must be larger. Likewise it must be smaller than ``below``.
        choices: The values to choose from; empty: any.
        neutral: The value at which the option does nothing; None: there is none.
        task: The one task that the option concerns; "": every task.
        changes_results: Whether a table may differ with it.
        changes_training: Whether trained parameters may differ with it.
    """

    doc: str = ""
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[Choice, ...] = ()
    neutral: Choice = None
    task: str = ""
    changes_results: bool = True
    changes_training: bool = True


def option(
    default: object = MISSING, *, default_factory: object = MISSING, **rule: typing.Any
) -> typing.Any:
    """Makes a dataclass field with a :class:`Rule`.

    Args:
        default: The value where none is given; without one it must be given.
        default_factory: Makes the default, where it is a list or a mapping.
        rule: The fields of :class:`Rule`.
    """
    given = {"default": default, "metadata": {_METADATA: Rule(**rule)}}
    if default_factory is not MISSING:
        del given["default"]
        given["default_factory"] = default_factory
    return field(**given)  # type: ignore[call-overload]


@dataclass(frozen=True)
class Option:
    """Describes one option of a class.

    Attributes:
        name: Of the argument and of the key in a configuration.
        kind: Its annotated type; ``object`` where nothing is annotated.
        default: ``MISSING`` where it must be given.
        rule: Its range.
    """

    name: str
    kind: object
    default: object
    rule: Rule

    @property
    def is_required(self) -> bool:
        """Tells whether it must be given."""
        return self.default is MISSING

    def check(self, value: object, place: str) -> object:
        """Checks a value and returns it in the type of the option (a whole number as a float).

        Args:
            value: As configured.
            place: Name for the message, such as ``strategy.duet.rate``.

        Raises:
            ValueError: If the type is another or the value is out of range.
        """
        if value is None and type(None) in _alternatives(self.kind):
            return None
        fitted = _fitted(value, self.kind)
        if fitted is MISSING or not self._is_inside(fitted):
            near = nearest_name(str(value), [str(choice) for choice in self.rule.choices])
            hint = f"; did you mean {near}?" if near else ""
            raise ValueError(f"{place} must be {self.words()}, got {shown(value)}{hint}")
        if isinstance(fitted, int) and not isinstance(fitted, bool) and abs(fitted) > LARGEST_WHOLE:
            raise ValueError(f"{place} must be <= {LARGEST_WHOLE}, got {fitted}")
        return fitted

    def _is_inside(self, value: object) -> bool:
        rule = self.rule
        if rule.choices and value not in rule.choices:
            return False
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        return (
            not math.isnan(value)
            and (rule.least is None or value >= rule.least)
            and (rule.most is None or value <= rule.most)
            and (rule.above is None or value > rule.above)
            and (rule.below is None or value < rule.below)
        )

    def words(self) -> str:
        """Says what a value must be: ``a number >= 0``, ``one of head, all``."""
        may_be_null = type(None) in _alternatives(self.kind)
        kinds = [kind for kind in _alternatives(self.kind) if kind is not type(None)]
        if self.rule.choices:
            said = f"one of {', '.join(shown(choice) for choice in self.rule.choices)}"
        else:
            literals = [kind for kind in kinds if typing.get_origin(kind) is typing.Literal]
            typed = [type_words(kind) for kind in kinds if kind not in literals]
            said = f"{' or '.join(typed) or 'null'}{self._range_words()}"
            said = " or ".join([said, *map(type_words, literals)])
        return f"{said} or null" if may_be_null else said

    def _range_words(self) -> str:
        rule = self.rule
        if rule.below == math.inf:
            return f"{dataclasses.replace(self, rule=_open_above(rule))._range_words()} and finite"
        low_is_closed = rule.least is not None
        low = rule.least if low_is_closed else rule.above
        high_is_closed = rule.most is not None
        high = rule.most if high_is_closed else rule.below
        if low is not None and high is not None:
            left = "[" if low_is_closed else "("
            right = "]" if high_is_closed else ")"
            return f" in {left}{low:g}, {high:g}{right}"
        if low is not None:
            return f" {'>=' if low_is_closed else '>'} {low:g}"
        if high is not None:
            return f" {'<=' if high_is_closed else '<'} {high:g}"
        return ""


def options_of(owner: Callable[..., object]) -> dict[str, Option]:
    """Lists the options of a class or function by name.

    They are the fields of a dataclass, or else the arguments of the constructor or function.

    A class whose options are neither has a class method ``list_options``.

    Raises:
        TypeError: If an argument is taken by position only.
    """
    listed = getattr(owner, "list_options", None)
    return constructor_options(owner) if listed is None else listed()


def constructor_options(owner: Callable[..., object]) -> dict[str, Option]:
    """Lists the fields of a dataclass, or the arguments of a constructor or function, by name.

    Raises:
        TypeError: As :func:`options_of`.
    """
    if isinstance(owner, type) and _has_made_constructor(owner):
        return _fields_of(owner)
    function, arguments = _arguments_of(owner)
    kinds = _kinds_of(function)
    found: dict[str, Option] = {}
    for parameter in arguments:
        name = parameter.name
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise TypeError(f"{owner.__name__} must take {name} by name, not by position only")
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue  # they have no names that could be checked
        default = MISSING if parameter.default is parameter.empty else parameter.default
        found[name] = Option(name, kinds.get(name, object), default, Rule())
    return found


def _fields_of(owner: type) -> dict[str, Option]:
    """Lists the options that the fields of a dataclass are."""
    kinds = _kinds_of(owner)
    return {
        each.name: Option(
            each.name, kinds.get(each.name, object), _default_of(each), _rule_of(each)
        )
        for each in dataclasses.fields(owner)
        if each.init
    }


def argument_names(owner: Callable[..., object]) -> list[str]:
    """Lists the names of the arguments that a class or function is called with."""
    return [argument.name for argument in _arguments_of(owner)[1]]


def _has_made_constructor(owner: type) -> bool:
    """Tells whether a class is constructed by its fields, and not by a constructor in its text."""
    if not dataclasses.is_dataclass(owner):
        return False
    fields = [each.name for each in dataclasses.fields(owner) if each.init]
    return sorted(fields) == sorted(argument_names(owner))


def _arguments_of(owner: Callable[..., object]) -> tuple[object, list[inspect.Parameter]]:
    """Finds the function that a class or function is called by, and its arguments."""
    if not isinstance(owner, type):
        return owner, list(inspect.signature(owner).parameters.values())
    constructor = inspect.getattr_static(owner, "__init__")
    if constructor is object.__init__:
        return constructor, []
    return constructor, list(inspect.signature(constructor).parameters.values())[1:]


def _kinds_of(function: object) -> dict[str, object]:
    """Reads annotations; none where they name what is there for type checkers alone."""
    try:
        return typing.get_type_hints(function)
    except NameError:
        return {}


def check_options(owner: object, place: str = "") -> None:
    """Checks the values of a dataclass instance in place.

    A whole number becomes a float where one is due.

    Args:
        owner: An instance of a dataclass.
        place: Before the names in messages, such as ``network``. "" leaves the names alone.

    Raises:
        ValueError: If a value has another type or is out of its range; with a place, a
            ``UserError``.
    """
    kind = type(owner)
    # A class with a constructor of its own may derive from a dataclass, whose fields are checked.
    options = _fields_of(kind) if dataclasses.is_dataclass(kind) else options_of(kind)
    for name, each in options.items():
        value = getattr(owner, name)
        try:
            checked = each.check(value, f"{place}.{name}" if place else name)
        except ValueError as error:
            if place:
                raise UserError(str(error)) from error
            raise
        if checked is not value:
            object.__setattr__(owner, name, checked)  # the class may be frozen


def checked_values(
    options: Mapping[str, Option], values: Mapping[str, object], place: str, kind: str = "key"
) -> dict[str, object]:
    """Checks configured values: every key is an option, and every value in its range.

    Args:
        options: By name.
        values: By key.
        place: Before the keys in messages, such as ``strategy.duet``. "": the configuration's top.
        kind: Word for a key in messages.

    Returns:
        The values that were given, in the types of their options.

    Raises:
        UserError: If a key is none, a value has another type or is out of its range, or one that
            must be given is missing.
    """
    checked: dict[str, object] = {}
    for key, value in values.items():
        if key not in options:
            raise unknown_name(kind, str(key), options, place or "configuration")
        try:
            checked[key] = options[key].check(value, f"{place}.{key}" if place else key)
        except ValueError as error:
            raise UserError(str(error)) from error
    for name, each in options.items():
        if each.is_required and name not in values:
            raise UserError(f"{place}.{name} must be given: {each.words()}".lstrip("."))
    return checked


def defaults_of(options: Mapping[str, Option]) -> dict[str, object]:
    """Lists the defaults by key, as a node of a configuration; ``???`` where one must be given."""
    return {
        name: "???" if each.is_required else _plain(each.default) for name, each in options.items()
    }


def option_rows(options: Mapping[str, Option]) -> list[tuple[str, str, str, str]]:
    """Makes the rows of a table of options: name, default, range, meaning."""
    rows = []
    for name, each in options.items():
        default = "must be given" if each.is_required else shown(_plain(each.default))
        rows.append((name, default, each.words(), each.rule.doc))
    return rows


def training_values(owner: object) -> dict[str, object]:
    """Lists the values of a dataclass instance on which trained parameters depend."""
    return {
        name: _plain(getattr(owner, name))
        for name, each in options_of(type(owner)).items()
        if each.rule.changes_training
    }


def is_plain(value: object) -> bool:
    """Tells whether a YAML file can hold a value."""
    if isinstance(value, list):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(map(is_plain, value.values()))
    return value is None or isinstance(value, bool | int | float | str)


def _open_above(rule: Rule) -> Rule:
    return dataclasses.replace(rule, below=None)


def _default_of(each: "dataclasses.Field[object]") -> object:
    if each.default_factory is not MISSING:
        return each.default_factory()
    return each.default


def _rule_of(each: "dataclasses.Field[object]") -> Rule:
    rule = each.metadata.get(_METADATA)
    return rule if isinstance(rule, Rule) else Rule()


def _alternatives(kind: object) -> tuple[object, ...]:
    """Lists the members of a union; another type alone."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return typing.get_args(kind)
    return (kind,)


def _fitted(value: object, kind: object) -> object:
    """Fits a value to one of the alternatives of a type; ``MISSING`` where it fits none."""
    for alternative in _alternatives(kind):
        fitted = _fitted_to_one(value, alternative)
        if fitted is not MISSING:
            return fitted
    return MISSING


def _fitted_to_one(value: object, kind: object) -> object:
    origin = typing.get_origin(kind)
    if origin is not None:
        return _fitted_to_generic(value, origin, typing.get_args(kind))
    if kind is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if is_number else MISSING  # type: ignore[arg-type]
    if kind is int:
        return value if isinstance(value, int) and not isinstance(value, bool) else MISSING
    if kind in (bool, str, type(None)):
        return value if isinstance(value, kind) else MISSING
    return value  # a type of the user's own: the constructor says what it takes


def _fitted_to_generic(value: object, origin: object, inner: Sequence[object]) -> object:
    """Fits the members of a list, tuple or mapping; a text is no list of letters."""
    if origin in (list, tuple) or (inspect.isclass(origin) and issubclass(origin, Sequence)):
        if isinstance(value, str) or not isinstance(value, list | tuple):
            return MISSING
        members = [_fitted(each, inner[0] if inner else object) for each in value]
        if any(member is MISSING for member in members):
            return MISSING
        return tuple(members) if origin is tuple else members
    if origin is typing.Literal:
        return value if isinstance(value, str) and value in inner else MISSING
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return value if isinstance(value, Mapping) else MISSING
    return value


def _plain(value: object) -> object:
    """Turns a default into plain values, as YAML and JSON have them."""
    return list(value) if isinstance(value, tuple) else value
