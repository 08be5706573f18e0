"""Reads a file in a format, and tells which format a file looks like."""

from collections.abc import Mapping

from cdc_flower.core.errors import UserError
from cdc_flower.core.registry import is_of_the_package
from cdc_flower.simulations.network.formats import Read, Recorded, trace_formats
from cdc_flower.simulations.network.trace import Trace

#: Characters of a file up to which it is tried in other formats.
MOST_TRIED = 2**20
#: Formats that are named at most.
_NUM_NAMED = 4


def read_links(
    format: str, text: str, source: str, columns: Mapping[str, str] | None = None
) -> list[Recorded]:
    """Reads the links of a file.

    Args:
        format: A registered trace format.
        text: Of the file.
        source: Its name.
        columns: ``network.columns``, for formats that take them.

    Raises:
        UserError: If it has a mistake, or no link.
    """
    entry = trace_formats[format]
    more = (columns or {},) if entry.facts.takes_columns else ()
    links = _links_of(entry.value(text, source, *more))
    if not links:
        raise UserError(f"{source}: must have a link that carries something")
    for link in links:
        if link.up is None and link.down is None:
            raise UserError(f"{source}: the format {format} must give up or down, got neither")
    return links


def _links_of(read: Read) -> list[Recorded]:
    if isinstance(read, Recorded):
        return [read]
    if isinstance(read, Mapping):
        ways: Mapping[str, Trace] = read
        return [Recorded(ways.get("up"), ways.get("down"))]
    return list(read)


def looks_like(text: str, source: str, format: str) -> str:
    """Says which other formats read a file; "" if none does, or it is long.

    Args:
        text: Of the file.
        source: Its name.
        format: In which it has a mistake.
    """
    if not text or len(text) > MOST_TRIED:
        return ""
    fits = [
        name
        for name in trace_formats
        if is_of_the_package(trace_formats[name].value) and name != format
        if _reads(name, text, source)
    ]
    if not fits:
        return ""
    return f"it looks like {' or '.join(fits[:_NUM_NAMED])} (network.format)"


def _reads(format: str, text: str, source: str) -> bool:
    try:
        return bool(read_links(format, text, source))
    except UserError:
        return False
