"""The door of the readers: options of a file in, an event table out."""

from cdc_flower.core.errors import UserError
from cdc_flower.tasks.data.interactions import EventFileOptions
from cdc_flower.tasks.recommendation.events import EventTable
from cdc_flower.tasks.recommendation.readers.files import find_file, read_text
from cdc_flower.tasks.recommendation.readers.options import ReaderOptions
from cdc_flower.tasks.recommendation.readers.registry import readers


def read_events(options: EventFileOptions) -> EventTable:
    """Reads a file of interactions.

    Raises:
        UserError: If the file is missing or unreadable, a row is malformed (unless ``on_error`` is
            ``skip``), or no event is left.
    """
    read = readers.find(options.format, "data.format").value
    path = find_file(options.path, options.files or ())
    source = str(path)
    rows = read(read_text(path, options.encoding or "utf-8"), source, ReaderOptions.of(options))
    if not len(rows.users):
        skipped = f" ({rows.num_skipped} malformed rows skipped)" if rows.num_skipped else ""
        raise UserError(f"{source}: must hold at least one event, got none{skipped}")
    return EventTable.build(rows.users, rows.items, rows.times_s, source, rows.num_skipped)
