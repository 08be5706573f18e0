"""Streams of tables of events, cut by each device's own events, by the calendar, or at the last."""

from dataclasses import replace

from cdc_flower.tasks.cut import cut_by_calendar, cut_by_events, cut_last, even_starts_s
from cdc_flower.tasks.data.interactions import CutOptions
from cdc_flower.tasks.recommendation.contexts import segment_contexts
from cdc_flower.tasks.recommendation.event_kinds import TimedEvents
from cdc_flower.tasks.recommendation.segment_events import events_by_calendar, events_by_share
from cdc_flower.tasks.recommendation.stream import Cut, EventStream, Ranking


def event_stream(
    events: TimedEvents,
    options: CutOptions | None = None,
    *,
    num_segments: int,
    seed: int,
    ranking: Ranking | None = None,
) -> EventStream:
    """Makes the stream of a table that was read from a file, cut as configured.

    Args:
        events: The table.
        options: ``events`` cuts each device by its own number of events and sets the clock by
            ``segment_s``; ``calendar`` cuts all devices at the same real times, and negatives are
            then items that exist by then; ``last`` leaves the last event of each device out, the
            only one of its only segment.
        num_segments: Segments after the historical part.
        seed: Of the run.
        ranking: Candidates of each event.

    Raises:
        UserError: If a configured value does not fit the table.
    """
    options, ranking = options or CutOptions(), ranking or Ranking()
    contexts = getattr(events, "contexts", None)  # of each event, where the table knows them
    if options.cut == "calendar":
        bounds, starts_s, times_s = cut_by_calendar(
            events.offsets,
            events.times_s,
            num_segments,
            options.historical_fraction,
            events.source,
        )
        growing = replace(ranking, growing_catalog=True)
        known = segment_contexts(contexts, events.offsets, bounds)
        count = events_by_calendar(events.offsets, times_s, float(starts_s[1]))
        return EventStream(
            events, Cut(bounds, starts_s, times_s, *known, count), growing, seed=seed
        )
    if options.cut == "last":
        bounds, count = cut_last(events.offsets, num_segments), 0  # a report is of that very moment
    else:
        bounds = cut_by_events(events.offsets, num_segments, options.historical_fraction)
        count = events_by_share(events.offsets, bounds, num_segments, options.historical_fraction)
    starts_s = even_starts_s(num_segments, options.segment_s)
    known = segment_contexts(contexts, events.offsets, bounds)
    cut = Cut(bounds, starts_s, None, *known, count)
    return EventStream(events, cut, ranking, seed=seed)
