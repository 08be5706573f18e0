"""Streams of interaction files: options of a file in, an event table or a stream out."""

import sys

from cdc_flower.core.errors import UserError
from cdc_flower.tasks.data.interactions import EventFileOptions, FrameOptions
from cdc_flower.tasks.data.registry import StreamShape
from cdc_flower.tasks.recommendation.cut_streams import event_stream
from cdc_flower.tasks.recommendation.events import EventTable
from cdc_flower.tasks.recommendation.readers import readers
from cdc_flower.tasks.recommendation.readers.files import find_file, read_text
from cdc_flower.tasks.recommendation.readers.options import ReaderOptions
from cdc_flower.tasks.recommendation.stream import EventStream, Ranking


def stream_of(options: EventFileOptions, shape: StreamShape) -> EventStream:
    """Makes the stream of configured data: reads the file and cuts it.

    Raises:
        UserError: As :func:`read_events`, or if the events do not fit the shape.
    """
    events = read_events(options)
    if events.num_skipped:
        skipped = f"{events.num_skipped:,} malformed rows skipped"
        print(f"{events.source}: {skipped}", file=sys.stderr)
    return cut_stream(events, options, shape)


def cut_stream(
    events: EventTable, options: EventFileOptions | FrameOptions, shape: StreamShape
) -> EventStream:
    """Makes the stream of a table: leaves rare devices and items out, and cuts the rest.

    Args:
        events: Of all devices.
        options: Of the cut, and how many events a device and an item must have.
        shape: Of the run.

    Raises:
        UserError: If the events do not fit the shape, or none is left.
    """
    events = events.frequent(options.min_user_events, options.min_item_events)
    if shape.num_devices is not None:
        events = events.first_devices(shape.num_devices)
    ranking = Ranking(shape.history_length, shape.num_negatives, options.exclude_seen)
    return event_stream(
        events, options, num_segments=shape.num_segments, seed=shape.seed, ranking=ranking
    )


def read_events(options: EventFileOptions) -> EventTable:
    """Reads a file of interactions.

    Raises:
        UserError: If the file is missing or unreadable, a row is malformed (unless ``on_error`` is
            ``skip``), or no event is left.
    """
    read = readers.find(options.format, "data.format").value
    path = find_file(options.path, options.files or ())
    source = str(path)
    rows = read(read_text(path, options.encoding or "utf-8"), source, _layout(options))
    if not len(rows.users):
        skipped = f" ({rows.num_skipped} malformed rows skipped)" if rows.num_skipped else ""
        raise UserError(f"{source}: must hold at least one event, got none{skipped}")
    return EventTable.build(rows.users, rows.items, rows.times_s, source, rows.num_skipped)


def _layout(options: EventFileOptions) -> ReaderOptions:
    header = options.header if isinstance(options.header, bool) else None
    columns = tuple(options.columns or ())
    return ReaderOptions(columns, options.fields_sep, header, options.on_error == "skip")
