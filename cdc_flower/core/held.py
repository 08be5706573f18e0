"""Holds an object of the user's own in the place of a configured node.

A configuration is a tree of plain values. Where a user gives an object in Python, its node is a
:class:`Held`: as a mapping it says what the object is (its name, the path of its class, and its
options as far as they are plain), which is what a run folder keeps and ``run_id`` counts; and it
carries the object itself to whoever would make one of the node.
"""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import yaml

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import Option, checked_values, options_of
from cdc_flower.core.registry import NAME
from cdc_flower.core.targets import TARGET

#: Digits of a digest that stands for an array.
_DIGITS = 12


class Held(dict[str, object]):
    """A node that carries an object, or a class to make one of.

    Args:
        value: The object or the class.
        node: What it is, in plain values.
        settings: Options to make one of the class with; none for an object.
        fits: What data give or a model reads, such as ``items``.
    """

    def __init__(
        self,
        value: object,
        node: Mapping[str, object],
        settings: Mapping[str, object] | None = None,
        fits: str = "items",
    ) -> None:
        super().__init__(node)
        self.value = value
        self.settings = dict(settings or {})
        self.fits = fits

    def made(self, place: str, **given: object) -> object:
        """Makes one of the class, or copies the object, which so stays as it was given.

        Args:
            place: For the message, such as ``strategy.nudge``.
            given: Further arguments of the class.

        Raises:
            UserError: If a value is wrong, or the object cannot be copied.
        """
        if isinstance(self.value, type):
            try:
                return self.value(**given, **copy.deepcopy(self.settings))
            except (TypeError, ValueError) as error:
                raise UserError(f"{place}: {error}") from error
        try:
            return copy.deepcopy(self.value)
        except (TypeError, NotImplementedError, RecursionError) as error:
            raise UserError(
                f"{place} must be an object that can be copied, so that each run starts afresh, "
                f"or a class; got {type(self.value).__name__} ({error})"
            ) from error


yaml.SafeDumper.add_representer(Held, yaml.representer.SafeRepresenter.represent_dict)


def held(
    value: object,
    name: str,
    place: str,
    settings: Mapping[str, object] | None = None,
    made_by_data: Sequence[str] = (),
) -> Held:
    """Makes the node of an object or a class.

    Args:
        value: The object or the class.
        name: As results call it.
        place: For messages, such as ``strategy.nudge``.
        settings: Configured options, for a class.
        made_by_data: Arguments of the class that the data give, and no user.

    Raises:
        UserError: If an option is none or out of its range, or an object is given options.
    """
    known = _options(value, place)
    options = {key: each for key, each in known.items() if key not in made_by_data}
    path = class_path(value)
    if isinstance(value, type):
        checked = checked_values(options, settings or {}, place)
        defaults = {key: described(each.default) for key, each in options.items()}
        node = {**defaults, **{key: described(each) for key, each in checked.items()}}
        return Held(value, {**node, NAME: name, TARGET: path}, checked)
    if settings:
        key = next(iter(settings))
        raise UserError(
            f"{place}.{key} must be set in the object that is given, or give its class: "
            f"{type(value).__name__} instead of {type(value).__name__}(...)"
        )
    node = {key: described(getattr(value, key)) for key in options if hasattr(value, key)}
    return Held(value, {**node, NAME: name, TARGET: path})


def _options(value: object, place: str) -> dict[str, Option]:
    is_class = isinstance(value, type)
    try:
        return options_of(cast(type, value) if is_class else type(value))
    except (TypeError, NameError) as error:  # an annotation may name what is not there
        if is_class:
            raise UserError(f"{place}: {error}") from error
        return {}


def described(value: object) -> object:
    """Turns a value into plain ones; arrays become digests, and other objects their class."""
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): described(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [described(each) for each in value]
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"{value.dtype} {list(value.shape)} {digest[:_DIGITS]}"
    return class_path(value)


def class_path(value: object) -> str:
    """Writes the path of a class, or of the class of an object."""
    kind = value if isinstance(value, type) else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
