"""The real files, where they are at hand: their counts are those that their publishers give."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

import cdc_flower
from cdc_flower.tasks.data import data_of
from cdc_flower.tasks.data.interactions import EventFileOptions
from cdc_flower.tasks.recommendation import event_files
from cdc_flower.tasks.recommendation.events import EventTable

DATA = os.environ.get("CDC_FLOWER_DATA")
pytestmark = [
    pytest.mark.data,
    pytest.mark.slow,
    pytest.mark.skipif(not DATA, reason="CDC_FLOWER_DATA is not set: no real files to read"),
]

CONFIGS = Path(cdc_flower.__file__).parent / "configs" / "data"

#: config -> folder, devices, items, events, first and last time in s
SETS = {
    "ml_100k": ("ml-100k", 943, 1_682, 100_000, (874_724_710, 893_286_638)),
    "ml_1m": ("ml-1m", 6_040, 3_706, 1_000_209, (956_712_368, 1_046_454_590)),
    "amazon_grocery": ("amazon-grocery", 14_681, 8_687, 121_892, (965_779_200, 1_405_987_200)),
    "amazon_instant_video": (
        "amazon-instant-video",
        8_072,
        11_830,
        63_836,
        (967_248_000, 1_406_073_600),
    ),
    "amazon_beauty": ("amazon-beauty", 22_363, 12_101, 198_502, None),
    "letter_beauty": ("letter-beauty", 22_363, 12_101, 198_502, None),
    "amazon_videogames": ("amazon-videogames", 31_013, 23_715, 287_107, None),
}


def load(name: str) -> EventTable:
    folder = Path(str(DATA)) / "rec" / SETS[name][0]
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    data: Any = OmegaConf.to_container(
        OmegaConf.merge(OmegaConf.load(CONFIGS / f"{name}.yaml"), {"path": str(folder)})
    )
    options = data_of(data)
    assert isinstance(options, EventFileOptions)
    return event_files.read_events(options)


@pytest.mark.parametrize("name", SETS)
def test_a_real_set_has_the_published_counts(name: str) -> None:
    _, num_devices, num_items, num_events, span = SETS[name]
    table = load(name)
    assert (table.num_devices, table.num_items, table.num_events) == (
        num_devices,
        num_items,
        num_events,
    )
    assert table.num_skipped == 0
    assert np.unique(table.items).tolist() == list(range(1, num_items + 1))
    assert (np.diff(table.offsets) > 0).all() and table.offsets[-1] == num_events
    if span is None:
        assert table.times_s is None
    else:
        assert table.times_s is not None and (table.times_s.min(), table.times_s.max()) == span
        steps = np.diff(table.times_s)
        steps[table.offsets[1:-1] - 1] = 0  # from one device to the next
        assert (steps >= 0).all()


def test_the_first_events_of_a_movielens_device_are_those_of_the_file() -> None:
    rows = [
        line.split("\t")
        for line in (Path(str(DATA)) / "rec/ml-100k/u.data").read_text().splitlines()
    ]
    table = load("ml_100k")
    for name in ("1", "405", "943"):
        device = table.device_names.index(name)
        events = slice(table.offsets[device], table.offsets[device + 1])
        expected = sorted((row for row in rows if row[0] == name), key=lambda row: int(row[3]))
        assert [table.item_names[item - 1] for item in table.items[events]] == [
            row[1] for row in expected
        ]


def test_both_publications_of_amazon_beauty_hold_the_same_events() -> None:
    assert load("amazon_beauty").content_hash() == load("letter_beauty").content_hash()
