"""Reads small files as `data=interactions` does, for tests of reading."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import cdc_flower
from cdc_flower.core.errors import UserError
from cdc_flower.tasks.data import data_of
from cdc_flower.tasks.data.interactions import EventFileOptions
from cdc_flower.tasks.recommendation.event_files import ReadEvents, read_parts

_CONFIG = Path(cdc_flower.__file__).parent / "configs" / "data" / "interactions.yaml"
DEFAULTS: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(_CONFIG))  # type: ignore[assignment]
#: One event a row: user, item, time.
Events = list[tuple[str, str, float | None]]


def options_of(path: Path, **keys: Any) -> EventFileOptions:
    """Makes the options of a file, those of `data=interactions` but for some."""
    options = data_of({**DEFAULTS, "path": str(path), **keys})
    assert isinstance(options, EventFileOptions)
    return options


def read(path: Path, content: str | bytes, **keys: Any) -> ReadEvents:
    """Writes a file and reads it."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_parts(options_of(path, **keys), keys.pop("num_devices", None))


def events(found: ReadEvents) -> Events:
    """Lists the events of a table, by device and time."""
    table = found.events
    rows: Events = []
    for device, name in enumerate(table.device_names):
        for index in range(table.offsets[device], table.offsets[device + 1]):
            time = None if table.times_s is None else float(table.times_s[index])
            rows.append((name, table.item_names[table.items[index] - 1], time))
    return rows


def message(path: Path, content: str | bytes, **keys: Any) -> str:
    """Writes a file that is refused, and gives the line that says so, without the path."""
    with pytest.raises(UserError) as caught:
        read(path, content, **keys)
    text = str(caught.value)
    assert "\n" not in text
    return text.removeprefix(str(path))
