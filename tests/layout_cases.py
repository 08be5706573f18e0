"""Layouts of files of interactions, and reading of small ones by them, for tests of readers."""

from pathlib import Path
from typing import Any

import pytest

from cdc_flower.core.errors import UserError
from cdc_flower.tasks.data import data_of
from cdc_flower.tasks.data.interactions import EventFileOptions
from cdc_flower.tasks.recommendation import event_files
from cdc_flower.tasks.recommendation.events import EventTable

FULL = ["user", "item", "rating", "time"]
TAB: dict[str, Any] = {"format": "delimited", "columns": FULL, "sep": "\t"}
PAIRS: dict[str, Any] = {"format": "delimited", "columns": ["user", "item"], "sep": None}
LINES: dict[str, Any] = {"format": "user_lines"}
JSON: dict[str, Any] = {"format": "json_lists"}


def read_events(node: dict[str, Any]) -> EventTable:
    """Reads what a configuration of data says."""
    options = data_of({"name": "of_a_test", **node})
    assert isinstance(options, EventFileOptions)
    return event_files.read_events(options)


def read(path: Path, content: str | bytes, base: dict[str, Any], **keys: Any) -> EventTable:
    """Writes a file and reads it by a layout, with some other keys."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_events({**base, "path": str(path), **keys})


def message(path: Path, content: str | bytes, base: dict[str, Any], **keys: Any) -> str:
    """Writes a file that is refused, and gives the line that says so, without the path."""
    with pytest.raises(UserError) as caught:
        read(path, content, base, **keys)
    text = str(caught.value)
    assert "\n" not in text
    return text.removeprefix(str(path))
