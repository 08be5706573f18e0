"""Streams of interaction files: options of a file in, an event table or a stream out."""

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from cdc_flower.core.errors import UserError
from cdc_flower.tasks.cut import LEAST_EVENTS_TO_LEAVE_ONE_OUT
from cdc_flower.tasks.data.interactions import AUTO, EventFileOptions, FrameOptions
from cdc_flower.tasks.data.registry import StreamShape
from cdc_flower.tasks.recommendation.cut_streams import event_stream
from cdc_flower.tasks.recommendation.events import EventTable
from cdc_flower.tasks.recommendation.readers import readers
from cdc_flower.tasks.recommendation.readers.archives import is_whole
from cdc_flower.tasks.recommendation.readers.collect import Collector, TooFewKept
from cdc_flower.tasks.recommendation.readers.files import find_files, read_text
from cdc_flower.tasks.recommendation.readers.looks import format_of, hint
from cdc_flower.tasks.recommendation.readers.options import ReaderOptions
from cdc_flower.tasks.recommendation.readers.registry import PartsReader, TextReader
from cdc_flower.tasks.recommendation.readers.rows import Rows
from cdc_flower.tasks.recommendation.stream import EventStream, Ranking

log = logging.getLogger("cdc_flower")


@dataclass(frozen=True)
class ReadEvents:
    """Holds a table that was read, and what there is to say of it.

    Attributes:
        events: Of all devices, or of the first ones that were asked for.
        size: Words for events, users, items and times, without a full stop.
        notes: Sentences on what was left out or assumed, without a full stop.
    """

    events: EventTable
    size: str
    notes: tuple[str, ...]


def stream_of(options: EventFileOptions, shape: StreamShape) -> EventStream:
    """Makes the stream of configured data: reads the file and cuts it.

    Raises:
        UserError: As :func:`read_events`, or if the events do not fit the shape.
    """
    keeps_all = options.min_user_events == options.min_item_events == 1
    read = read_parts(options, shape.num_devices if keeps_all else None)
    said = "; ".join([f"{read.events.source}: {read.size}", *read.notes])
    log.info("data: %s", said)
    print(said, file=sys.stderr)
    return cut_stream(read.events, options, shape, read.notes)


def cut_stream(
    events: EventTable,
    options: EventFileOptions | FrameOptions,
    shape: StreamShape,
    notes: Sequence[str] = (),
) -> EventStream:
    """Makes the stream of a table: leaves rare devices and items out, and cuts the rest.

    Args:
        events: Of all devices.
        options: Of the cut, and how many events a device and an item must have.
        shape: Of the run.
        notes: What there is to say of the table.

    Raises:
        UserError: If the events do not fit the shape, or none is left.
    """
    whole = events
    events = events.frequent(options.min_user_events, options.min_item_events)
    said = [*notes, *_rare(whole, events, options)]
    if shape.num_devices is not None:
        events = events.first_devices(shape.num_devices)
    ranking = Ranking(shape.history_length, shape.num_negatives, options.exclude_seen)
    stream = event_stream(
        events, options, num_segments=shape.num_segments, seed=shape.seed, ranking=ranking
    )
    stream.notes = (*said, *_unscored(stream, options), *stream.short_of_unseen())
    return stream


def _rare(
    whole: EventTable, kept: EventTable, options: EventFileOptions | FrameOptions
) -> list[str]:
    """Says how many devices and items were left out as rare."""
    num_users, num_items = (
        whole.num_devices - kept.num_devices,
        whole.num_items - kept.num_items,
    )
    if not num_users and not num_items:
        return []
    return [
        f"{num_users:,} users and {num_items:,} items left out, which have fewer events than "
        f"data.min_user_events={options.min_user_events} or "
        f"data.min_item_events={options.min_item_events}"
    ]


def _unscored(stream: EventStream, options: EventFileOptions | FrameOptions) -> list[str]:
    """Says how many devices have no event that is scored."""
    first = np.maximum(stream.bounds[:, 0], stream.offsets[:-1] + 1)
    count = int((first >= stream.bounds[:, -1]).sum())
    if not count:
        return []
    least = LEAST_EVENTS_TO_LEAVE_ONE_OUT if options.cut == "last" else 2
    few = int((np.diff(stream.offsets) < least).sum())
    why = f", {few:,} of them because they have fewer than {least} events" if few else ""
    return [f"{count:,} of {stream.num_devices:,} devices have no event that is scored{why}"]


def read_events(options: EventFileOptions) -> EventTable:
    """Reads a file of interactions, or the parts of one.

    Raises:
        UserError: If the file is missing or unreadable, a row is malformed (unless ``on_error`` is
            ``skip``), or no event is left.
    """
    return read_parts(options).events


def read_parts(options: EventFileOptions, num_devices: int | None = None) -> ReadEvents:
    """Reads a file of interactions, or the parts of one, and says what was read.

    Args:
        options: Of the file.
        num_devices: Only the events of the first so many devices are kept; None keeps all.

    Raises:
        UserError: As :func:`read_events`.
    """
    parts = find_files(options.path, options.files or ())
    source = str(parts[0] if len(parts) == 1 else parts[0].parent)
    collector = Collector(source, num_devices, is_reversed=options.order == "reversed")
    try:
        for rows in _rows_of(parts, options, collector):
            collector.add(rows)
    except TooFewKept:
        return read_parts(options)
    if not collector.num_rows:
        skipped = collector.num_skipped
        words = f" ({skipped} malformed rows skipped)" if skipped else ""
        words += f" ({collector.num_unwanted:,} of other kinds)" if collector.num_unwanted else ""
        raise UserError(f"{source}: must hold at least one event, got none{words}")
    events, size = collector.table(options.time_unit)
    notes = list(collector.notes)
    if collector.num_skipped:
        notes.insert(0, f"{collector.num_skipped:,} malformed rows skipped")
    if collector.num_unwanted:
        notes.insert(0, f"{collector.num_unwanted:,} rows of other kinds left out")
    return ReadEvents(events, size, tuple(notes))


def _rows_of(
    parts: Sequence[Path], options: EventFileOptions, collector: Collector
) -> Iterator[Rows]:
    """Reads the rows of parts one after the other; damaged archives may be skipped."""
    num_damaged = 0
    for path in parts:
        if len(parts) > 1 and options.on_error == "skip" and not is_whole(path):
            num_damaged += 1
            continue
        yield from _rows_of_part(path, options)
    if num_damaged:
        collector.notes.append(f"{num_damaged:,} damaged files skipped")


def _rows_of_part(path: Path, options: EventFileOptions) -> Iterator[Rows]:
    """Reads one file; an error says what it looks like where that is another format."""
    names = tuple(options.files or ())
    name = format_of(path, names) if options.format == AUTO else options.format
    entry = readers.find(name, "data.format")
    layout = layout_of(options)
    if layout.sep == AUTO and not entry.facts.has_columns:
        layout = replace(layout, sep=None)
    try:
        if entry.facts.reads == "parts":
            rows = cast(PartsReader, entry.value)(path, layout)
        else:
            text = read_text(path, options.encoding or "utf-8", names)
            rows = iter([cast(TextReader, entry.value)(text, str(path), layout)])
        yield from rows
    except UserError as error:
        also = hint(path, name, names)
        if also and also not in str(error):
            raise UserError(f"{error}{also}") from error
        raise


def layout_of(options: EventFileOptions) -> ReaderOptions:
    """Makes the layout that readers are told."""
    header = options.header if isinstance(options.header, bool) else None
    return ReaderOptions(
        columns=options.columns,
        sep=options.fields_sep,
        header=header,
        skip_errors=options.on_error == "skip",
        encoding=options.encoding or "utf-8",
        quote=options.quote,
        decimal=options.decimal,
        comment=options.comment,
        kinds=None if options.kinds is None else tuple(options.kinds),
        order=options.order,
        files=tuple(options.files or ()),
    )
