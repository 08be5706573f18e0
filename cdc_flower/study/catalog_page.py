"""The catalog on a terminal."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cdc_flower.study.catalog import Entry, described, entries_of, kinds


def kinds_table() -> Table:
    """Each kind with its names."""
    table = Table.grid(padding=(0, 2))
    for kind in kinds():
        table.add_row(Text(kind, style="bold"), Text(", ".join(entries_of(kind))))
    return table


def names_table(kind: str) -> Table:
    """Each name of a kind with its sentence.

    Raises:
        UserError: If there is no such kind.
    """
    table = Table.grid(padding=(0, 2))
    for name, entry in entries_of(kind).items():
        table.add_row(Text(name, style="bold"), Text(entry.summary))
    return table


def pages(name: str) -> Iterator[RenderableType]:
    """A page for each kind that has the name.

    Raises:
        UserError: If nothing has the name.
    """
    yield from map(_page, described(name))


def _page(entry: Entry) -> RenderableType:
    """Sentences, commands, options, paper and file of an entry."""
    parts: list[RenderableType] = [
        Text.assemble((entry.name, "bold"), f" ({entry.kind}): {entry.summary}"),
        *(Text(note) for note in entry.notes),
        *(Text(f"  {command}") for command in entry.commands),
    ]
    if entry.options:
        parts.append(Padding(_options(entry), (1, 0, 1, 0)))
    if entry.paper:
        parts.append(Text(f"Paper: {entry.paper}"))
    parts.append(Text(f"File: {entry.place}", style="dim"))
    return Group(*parts)


def _options(entry: Entry) -> Table:
    """A row for each option."""
    has_range = any(option.range for option in entry.options)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for head in ("option", "default", *(["range"] if has_range else []), "meaning"):
        table.add_column(head, header_style="bold", overflow="fold")
    for option in entry.options:
        range_ = [Text(option.range)] if has_range else []
        table.add_row(Text(option.name), Text(option.default), *range_, Text(option.meaning))
    return table
