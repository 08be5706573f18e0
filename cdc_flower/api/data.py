"""Takes data as a DataFrame, as a stream, or as what makes streams."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cdc_flower.core.errors import UserError
from cdc_flower.core.held import Held, class_path, held
from cdc_flower.core.options import checked_values, options_of
from cdc_flower.core.registry import NAME, snake_case
from cdc_flower.core.targets import TARGET
from cdc_flower.tasks.data.interactions import FrameOptions
from cdc_flower.tasks.data.registry import OwnStream, StreamShape
from cdc_flower.tasks.recommendation.frames import FrameSource, events_of

#: What a stream must have; see :class:`~cdc_flower.core.stream.Stream`.
PARTS = (
    *("num_devices", "num_items", "num_segments", "history_length", "segment_starts_s"),
    *("segment", "num_events", "recent", "labelled", "historical"),
)


@dataclass(frozen=True)
class GivenStream:
    """Gives a stream that is there already, if it has the shape of the run."""

    whole: OwnStream

    def stream(self, shape: StreamShape) -> OwnStream:
        """Gives it.

        Raises:
            UserError: If the run asks for another shape.
        """
        for key, name in (
            ("devices", "num_devices"),
            ("segments", "num_segments"),
            ("model.history_length", "history_length"),
        ):
            wanted = getattr(shape, name)
            has = getattr(self.whole, name)
            if wanted is not None and wanted != has:
                raise UserError(f"{key} must be {has}, as the stream has it, got {wanted}")
        return self.whole


def data_node(value: object, settings: Mapping[str, object]) -> Held:
    """Makes the node of data that are given in Python.

    Args:
        value: A DataFrame, a stream, or an object or class with a method ``stream(shape)``.
        settings: Configured options.

    Raises:
        UserError: If it is something else, or an option or a row is wrong.
    """
    if isinstance(value, pd.DataFrame):
        return _frame_node(value, settings)
    fits = str(getattr(value, "gives", "items"))
    kind = value if isinstance(value, type) else type(value)
    name = snake_case(kind.__name__)
    if callable(getattr(value, "stream", None)):
        node = held(value, str(getattr(value, NAME, "") or name), "data", settings)
        source = node.made("data") if isinstance(value, type) else value
        return Held(source, node, fits=fits)
    missing = [part for part in PARTS if not hasattr(value, part)]
    if missing or isinstance(value, type):
        raise UserError(
            "data must be a name, a DataFrame with user, item and time, a cdc_flower.Stream with "
            f"historical(), or have stream(shape); got {kind.__name__}"
            + (f" without {', '.join(missing)}" if len(missing) < len(PARTS) else "")
        )
    node = held(value, name, "data", settings)
    return Held(GivenStream(value), {**node, "content": _content(value)}, fits=fits)


def num_segments_of(node: Held) -> int | None:
    """Counts the segments of a stream that is there already; None where they are not cut yet."""
    return int(node.value.whole.num_segments) if isinstance(node.value, GivenStream) else None


def _frame_node(frame: pd.DataFrame, settings: Mapping[str, object]) -> Held:
    checked: dict[str, Any] = checked_values(options_of(FrameOptions), settings, "data")
    options = FrameOptions(**checked)
    source = FrameSource(events_of(frame, options.time_unit), options)
    known = {name: getattr(options, name) for name in options_of(FrameOptions)}
    told = {TARGET: class_path(frame), "content": source.content_hash()[:20]}
    return Held(source, {**known, **told})


def _content(stream: OwnStream) -> str:
    return str(stream.historical().content_hash())
