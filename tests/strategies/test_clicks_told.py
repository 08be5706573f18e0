"""Clicks told and clicks trained on are counted at the device, for every method."""

import numpy as np
import pandas as pd
import pytest
from tiny import strategy, stream, table

from cdc_flower.devices.told import events_told


def counted(name: str, **settings: object) -> pd.DataFrame:
    """A row a device and segment."""
    rows = table(name, built=strategy(name, **settings))
    return rows.drop_duplicates(["device_id", "segment"])


def test_a_report_tells_its_items_and_trains_on_none() -> None:
    rows = counted("duet")
    assert rows.num_told.tolist() == [stream().history_length] * len(rows)
    assert not rows.num_labels.any()


def test_a_longer_report_tells_more() -> None:
    assert counted("duet", report_length=20).num_told.tolist() == [20] * len(counted("duet"))


def test_padding_is_no_click() -> None:
    assert events_told(np.array([[3, 1, 0], [0, 0, 0]], np.int32)).tolist() == [2, 0]


def test_a_report_of_a_clip_tells_of_one_event() -> None:
    assert events_told(None, 3).tolist() == [1, 1, 1]


@pytest.mark.parametrize(("name", "told"), [("cloud_fine_tuning", 8), ("fine_tuning", 0)])
def test_examples_that_are_trained_on_are_told_where_they_go_up(name: str, told: int) -> None:
    rows = counted(name)
    assert (rows.num_labels > 0).all()
    assert rows.num_told.tolist() == [told] * len(rows)


def test_trained_parameters_tell_no_click() -> None:
    rows = counted("fedavg")
    assert rows.num_labels.sum() > 0 and not rows.num_told.any()
