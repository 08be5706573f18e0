"""What the config group ``data`` says about a file, checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cdc_flower.core.errors import UserError, unknown_name

FORMATS = ("delimited", "user_lines", "json_lists")
COLUMNS = ("user", "item", "rating", "time", "_")


def _one_of(key: str, kind: str, value: Any, known: Sequence[Any]) -> Any:
    if not any(type(value) is type(name) and value == name for name in known):  # 1 is not True here
        raise unknown_name(kind, str(value), [str(name).lower() for name in known], f"data.{key}")
    return value


def _path(value: Any) -> str:
    text = "" if value is None else str(value)
    if not text.strip() or text == "???":
        raise UserError(f"data.path must name a file or a directory (data.path=DIR), got {value!r}")
    return text


def _names(key: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise UserError(f"data.{key} must be a list of names, got {value!r}")
    return tuple(str(name) for name in value)


def _columns(value: Any) -> tuple[str, ...]:
    columns = _names("columns", value)
    for name in columns:
        _one_of("columns", "column", name, COLUMNS)
    text = f"[{', '.join(columns)}]"
    for name in COLUMNS[:-1]:
        if columns.count(name) > 1:
            raise UserError(f"data.columns must name {name} at most once, got {text}")
    for name in ("user", "item"):
        if name not in columns:
            raise UserError(f"data.columns must name {name}, got {text}")
    return columns


def _sep(value: Any) -> str | None:
    if value is None:
        return None
    sep = value.replace("\\t", "\t") if isinstance(value, str) else value
    if not isinstance(sep, str) or not sep or "\n" in sep or "\r" in sep:
        raise UserError(
            f"data.sep must be null or characters other than a line break, got {value!r}"
        )
    return sep


@dataclass(frozen=True)
class ReaderOptions:
    """How to read one file.

    Attributes:
        path: A file, or a directory that holds one of ``files``.
        format: ``delimited``, ``user_lines`` or ``json_lists``.
        columns: What each column of a delimited file is: user, item, rating, time, or ``_`` to
            ignore it. Empty for the other formats.
        sep: What stands between two fields; ``None`` is any run of white space.
        header: Whether the first row names the columns; ``None`` is to look at it and decide.
        encoding: A text encoding that Python knows.
        files: Names to look for in a directory, the first that exists is read; each may end in
            ``.gz``.
        skip_errors: Whether a malformed row is left out and counted. False raises at the first.
    """

    path: str
    format: str
    columns: tuple[str, ...]
    sep: str | None
    header: bool | None
    encoding: str
    files: tuple[str, ...]
    skip_errors: bool

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> "ReaderOptions":
        """Checks the config group ``data``.

        Raises:
            UserError: If a key is missing, of the wrong kind, or holds an unknown name.
        """
        kind = _one_of("format", "format", data.get("format"), FORMATS)
        header = _one_of("header", "choice", data.get("header", "auto"), ("auto", True, False))
        on_error = _one_of("on_error", "choice", data.get("on_error", "raise"), ("raise", "skip"))
        return cls(
            path=_path(data.get("path")),
            format=kind,
            columns=_columns(data.get("columns")) if kind == "delimited" else (),
            sep=_sep(data.get("sep")),
            header=None if header == "auto" else header,
            encoding=str(data.get("encoding") or "utf-8"),
            files=_names("files", data.get("files")),
            skip_errors=on_error == "skip",
        )
