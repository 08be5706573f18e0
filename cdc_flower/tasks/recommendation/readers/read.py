"""The door of the readers: a config group in, an event table out."""

from collections.abc import Callable, Mapping
from typing import Any

from cdc_flower.core.errors import UserError
from cdc_flower.tasks.recommendation.events import EventTable
from cdc_flower.tasks.recommendation.readers.delimited import read_delimited
from cdc_flower.tasks.recommendation.readers.files import find_file, read_text
from cdc_flower.tasks.recommendation.readers.json_lists import read_json_lists
from cdc_flower.tasks.recommendation.readers.options import ReaderOptions
from cdc_flower.tasks.recommendation.readers.rows import Rows
from cdc_flower.tasks.recommendation.readers.user_lines import read_user_lines

#: Layout of a file -> what reads it. The keys are ``options.FORMATS``.
READERS: dict[str, Callable[[str, str, ReaderOptions], Rows]] = {
    "delimited": read_delimited,
    "user_lines": read_user_lines,
    "json_lists": read_json_lists,
}


def read_events(data: Mapping[str, Any]) -> EventTable:
    """Reads the interactions that the config group ``data`` names.

    Args:
        data: ``path`` and ``format``, and as the format needs ``columns``, ``sep``, ``header``,
            ``encoding``, ``files`` and ``on_error``; see :class:`ReaderOptions`. Other keys are
            ignored.

    Raises:
        UserError: If a key is wrong, the file is missing or unreadable, a row is malformed (unless
            ``on_error`` is ``skip``), or no event is left.
    """
    options = ReaderOptions.parse(data)
    path = find_file(options.path, options.files)
    source = str(path)
    rows = READERS[options.format](read_text(path, options.encoding), source, options)
    if not len(rows.users):
        skipped = f" ({rows.num_skipped} malformed rows skipped)" if rows.num_skipped else ""
        raise UserError(f"{source}: must hold at least one event, got none{skipped}")
    return EventTable.build(rows.users, rows.items, rows.times_s, source, rows.num_skipped)
