"""Words for the types and values of options, as messages and tables have them."""

import inspect
import typing
from collections.abc import Iterable, Mapping, Sequence

_TYPE_WORDS = {
    object: "a value",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
}


def type_words(kind: object) -> str:
    """Says what a value of a type is, such as ``a list of numbers``."""
    if isinstance(kind, type) and kind in _TYPE_WORDS:
        return _TYPE_WORDS[kind]
    origin = typing.get_origin(kind)
    inner = typing.get_args(kind)
    if origin in (list, tuple) or (inspect.isclass(origin) and issubclass(origin, Sequence)):
        member = type_words(inner[0]).removeprefix("a ") if inner else "value"
        return f"a list of {member}s"
    if origin is typing.Literal:
        return " or ".join(map(str, inner))
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return "a mapping"
    return getattr(kind, "__name__", str(kind))


def shown(value: object) -> str:
    """Writes a value as a configuration would."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return repr(value) if not value or _reads_as_another(value) else value
    if isinstance(value, Iterable) and not isinstance(value, Mapping):
        return f"[{', '.join(shown(each) for each in value)}]"
    return str(value)


def _reads_as_another(text: str) -> bool:
    """Tells whether a text without quotes would be a number, a truth value or null."""
    if text.lower() in ("true", "false", "null"):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True
