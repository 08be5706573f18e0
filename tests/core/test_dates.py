"""Seconds of dates, also of those that have no nanoseconds."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from cdc_flower.core.dates import seconds_since_1970

DAY_S = 86_400


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_seconds_do_not_depend_on_unit_and_zone(unit: str, zone: str | None) -> None:
    dates = pd.Series(pd.to_datetime(["1970-01-02", "1969-12-31", None])).dt.as_unit(unit)
    dates = dates if zone is None else dates.dt.tz_localize("UTC").dt.tz_convert(zone)
    np.testing.assert_array_equal(seconds_since_1970(dates), [DAY_S, -DAY_S, np.nan])


@pytest.mark.parametrize("year", [1, 1005, 3005, 9999])
def test_years_beyond_nanoseconds_have_seconds(year: int) -> None:
    dates = pd.Series([np.datetime64(f"{year:04d}-01-01", "s")])
    days = (date(year, 1, 1) - date(1970, 1, 1)).days
    assert seconds_since_1970(dates).tolist() == [days * DAY_S]
