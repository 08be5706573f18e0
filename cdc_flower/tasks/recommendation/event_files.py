"""Streams of interaction files: options of a file in, an event table or a stream out."""

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from cdc_flower.core.errors import UserError
from cdc_flower.core.opening.compressed import check_whole
from cdc_flower.core.opening.damage import DamagedFile
from cdc_flower.core.words import counted, counted_of
from cdc_flower.tasks.cut import LEAST_EVENTS_TO_LEAVE_ONE_OUT
from cdc_flower.tasks.data.interactions import AUTO, EventFileOptions, FrameOptions
from cdc_flower.tasks.data.registry import StreamShape
from cdc_flower.tasks.recommendation.cut_streams import event_stream
from cdc_flower.tasks.recommendation.events import EventTable
from cdc_flower.tasks.recommendation.readers import readers
from cdc_flower.tasks.recommendation.readers.collect import Collector, TooFewKept
from cdc_flower.tasks.recommendation.readers.files import find_files, read_text
from cdc_flower.tasks.recommendation.readers.looks import format_of, hint
from cdc_flower.tasks.recommendation.readers.options import ReaderOptions
from cdc_flower.tasks.recommendation.readers.parquet import check_parquet, is_parquet
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
        f"{counted(num_users, 'user')} and {counted(num_items, 'item')} left out, which "
        f"have fewer events than data.min_user_events={options.min_user_events} or "
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
    having = "it has" if few == 1 else "they have"
    why = f", {few:,} of them because {having} fewer than {least} events" if few else ""
    share = counted_of(count, stream.num_devices, "device", ("has", "have"))
    return [f"{share} no event that is scored{why}"]


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
    left_out = _left_out(collector)
    if not collector.num_rows:
        words = f" ({'; '.join(left_out)})" if left_out else ""
        if collector.damaged:
            raise UserError(f"{source}: nothing is left to read{words}")
        raise UserError(f"{source}: must hold at least one event, got none{words}")
    events, size = collector.table(options.time_unit)
    return ReadEvents(events, size, (*left_out, *collector.notes))


def _left_out(collector: Collector) -> list[str]:
    """Says what was left out of the files."""
    words = []
    if collector.num_unwanted:
        words.append(f"{counted(collector.num_unwanted, 'row')} of other kinds left out")
    if collector.num_skipped:
        words.append(f"{counted(collector.num_skipped, 'malformed row')} skipped")
    if collector.damaged:
        count = counted(len(collector.damaged), "damaged file")
        words.append(f"{count} skipped, first {collector.damaged[0]}")
    return words


def _rows_of(
    parts: Sequence[Path], options: EventFileOptions, collector: Collector
) -> Iterator[Rows]:
    """Reads the rows of parts one after the other; damaged ones may be skipped.

    Of a part that is damaged nothing is read, so it is known to be whole before its rows count.

    Args:
        parts: Of the table.
        options: Of the files.
        collector: Gets the damage of those that are skipped.
    """
    for path in parts:
        if options.on_error == "skip":
            try:
                _check_whole(path, options)
            except DamagedFile as error:
                collector.damaged.append(str(error))
                continue
        yield from _rows_of_part(path, options)


def _check_whole(path: Path, options: EventFileOptions) -> None:
    """Reads a part to its end, if its bytes tell whether it is whole.

    Raises:
        DamagedFile: If it is not.
    """
    check_whole(path, tuple(options.files or ()))
    if options.format == "parquet" or is_parquet(path):
        check_parquet(path, layout_of(options))


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
