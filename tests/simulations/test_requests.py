"""Who reports: 0 % is never and 100 % is always, exactly, and what each policy goes by."""

import math

import numpy as np
import pandas as pd
import pytest
from tiny import LABELS, cloud, fleet, inline, same, strategy, stream, table

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.grids.requests import WithRequests
from cdc_flower.simulations.requests.policies import Devices
from cdc_flower.simulations.requests.policies.every import Every
from cdc_flower.simulations.requests.policies.on_drift import OnDrift
from cdc_flower.simulations.requests.policies.random import Random
from cdc_flower.simulations.requests.policies.uncertainty import Uncertainty
from cdc_flower.simulations.requests.setup import Requests, policy_of, requests_of
from cdc_flower.study.play import play
from cdc_flower.tasks.recommendation.sensor import HistorySensor, pool
from cdc_flower.tasks.recommendation.task import RECOMMENDATION
from cdc_flower.tasks.recommendation.uncertainty import DetectorDoubt, train_uncertainty

IDS = np.arange(4)
LIMIT = {"max_bytes": None}


def played(requests: Requests | None, name: str = "duet") -> pd.DataFrame:
    frames: list[pd.DataFrame] = []
    links = fleet(up_bps=3e3, down_bps=8e3)
    labels = {**LABELS, "strategy": name}
    starts_s = stream().segment_starts_s
    play(
        strategy(name),
        inline(),
        links,
        starts_s,
        labels=labels,
        collect=frames.append,
        chain=[] if requests is None else [WithRequests(requests)],
    )
    return pd.concat(frames, ignore_index=True)


def started(policy, sensor=None, doubt=None):
    """A policy that may look at these statistics."""
    policy.start(Devices(0, lambda: sensor, lambda epochs: doubt))
    return policy


def of(name: str, **settings) -> Requests:
    config = {"name": name, **LIMIT, **settings}
    return requests_of(config, RECOMMENDATION, stream(), cloud(), strategy("duet"))


ALWAYS = [
    ("random", {"rate": 1}),
    ("every", {"n": 1}),
    ("uncertainty", {"rate": 1, "epochs": 1}),
    ("always", {}),
]
NEVER = [("random", {"rate": 0}), ("uncertainty", {"rate": 0, "epochs": 1}), ("never", {})]


@pytest.mark.parametrize(("name", "settings"), ALWAYS)
def test_a_hundred_percent_is_always_exactly(name: str, settings: dict) -> None:
    same(table("duet", links=fleet(up_bps=3e3, down_bps=8e3)), played(of(name, **settings)))


@pytest.mark.parametrize(("name", "settings"), NEVER)
def test_zero_percent_is_never_exactly(name: str, settings: dict) -> None:
    rows = played(of(name, **settings))
    same(rows, played(Requests(Random(rate=0.0))))
    assert not rows.bytes_up.any() and not rows.bytes_down.any() and not rows.num_reports.any()


def test_the_other_strategies_are_not_asked_and_not_changed() -> None:
    for name in ("static", "fine_tuning", "fedavg"):
        same(played(None, name), played(Requests(Random(rate=0.0)), name))


def test_a_device_draws_for_itself_and_as_often_as_the_rate_says() -> None:
    policy, many = started(Random(rate=0.3)), np.arange(5000)
    np.testing.assert_array_equal(policy.decide(many, 2)[:4], policy.decide(IDS, 2))
    assert policy.decide(many, 2).mean() == pytest.approx(0.3, abs=0.02)
    assert (policy.decide(many, 2) != policy.decide(many, 3)).any()


def test_every_third_segment() -> None:
    assert [bool(Every(n=3).decide(IDS, segment).all()) for segment in range(7)] == [
        True,
        False,
        False,
    ] * 2 + [True]


def test_what_a_silent_device_costs_is_nothing_and_the_others_are_adapted() -> None:
    rows = played(Requests(Every(n=2))).drop_duplicates(["device_id", "segment"])
    odd = rows[rows.segment % 2 == 1]
    assert not odd.bytes_up.any() and not odd.bytes_down.any()
    assert rows[rows.segment % 2 == 0].num_reports.tolist() == [1] * 12


def test_a_device_that_has_spent_its_bytes_reports_no_more() -> None:
    whole = played(None).drop_duplicates(["device_id", "segment"])
    one = int((whole.bytes_up + whole.bytes_down).max())
    rows = played(Requests(Every(n=1, max_bytes=1.5 * one))).drop_duplicates(
        ["device_id", "segment"]
    )
    spent = (rows.bytes_up + rows.bytes_down).groupby(rows.device_id).sum()
    assert (spent <= 2.5 * one).all() and (rows.groupby("device_id").num_reports.sum() < 6).all()
    assert not played(Requests(Every(n=1, max_bytes=0))).bytes_up.any()


class Known:
    """A sensor with given values."""

    def __init__(self, values: list[list[list[float]]]) -> None:
        self.values = values

    def surprises(self, device_ids: np.ndarray, segment: int) -> list[list[float]]:
        return [self.values[segment][device] for device in device_ids]


@pytest.mark.parametrize("detector", ["page_hinkley", "adwin"])
def test_a_device_reports_when_its_own_statistics_change_and_not_before(detector: str) -> None:
    pytest.importorskip("river")
    rng = np.random.default_rng(0)
    steady = [rng.normal(0.2, 0.02, 20).tolist() for _ in range(6)]
    shifted = [*steady[:4], *(rng.normal(0.9, 0.02, 20).tolist() for _ in range(2))]
    known = Known([[steady[k], shifted[k]] for k in range(6)])
    policy = started(OnDrift(detector=detector, threshold=1.0, delta=0.002), known)
    fired = np.array([policy.decide(np.array([0, 1]), segment) for segment in range(6)])
    assert not fired[:, 0].any()
    assert not fired[:4, 1].any() and fired[4:, 1].any()


def test_an_infinite_threshold_never_reports() -> None:
    pytest.importorskip("river")
    sensor = HistorySensor(stream(), np.eye(61, dtype=np.float32))
    policy = started(OnDrift(threshold=math.inf), sensor)
    assert not any(policy.decide(IDS, segment).any() for segment in range(6))


def test_new_items_are_compared_with_those_before_and_counted_once() -> None:
    sensor = HistorySensor(stream(), np.eye(61, dtype=np.float32))
    first = sensor.surprises(IDS, 0)
    later = sensor.surprises(IDS, 1)
    recent = stream().recent(IDS, 0)
    assert [len(values) for values in first] == (recent != 0).sum(1).tolist()
    assert [len(values) for values in later] == np.minimum(stream().num_events(IDS, 0), 10).tolist()
    assert all(0 <= value <= 1 for values in first + later for value in values)


def test_padding_does_not_count_in_a_pooled_history() -> None:
    table = np.arange(6, dtype=np.float32).reshape(3, 2)
    history = np.array([[1, 2, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]], np.int32)
    assert pool(table, history).tolist() == [[3, 4], [4, 5], [0, 0]]


def test_the_detector_learns_when_stale_parameters_are_wrong() -> None:
    duet = strategy("duet")
    trained = train_uncertainty(cloud(), duet, epochs=2)
    again = train_uncertainty(cloud(), duet, epochs=2)
    np.testing.assert_array_equal(trained.scores, again.scores)  # nothing but the seed decides
    untrained = train_uncertainty(cloud(), duet, epochs=0)
    assert any(
        (one != other).any()
        for one, other in zip(
            trained.mapper.parameters(), untrained.mapper.parameters(), strict=True
        )
    )
    assert (np.diff(trained.scores) >= 0).all() and np.ptp(trained.scores) > 0


def test_the_share_of_held_out_histories_below_the_threshold_is_the_rate() -> None:
    trained = train_uncertainty(cloud(), strategy("duet"), epochs=1)
    sensor = HistorySensor(stream(), np.zeros((61, 8), np.float32))
    for rate in (0.1, 0.5, 0.9):
        policy = started(Uncertainty(rate=rate), doubt=DetectorDoubt(sensor, trained))
        assert (-trained.scores > policy.threshold).mean() == pytest.approx(
            rate, abs=2 / len(trained.scores) + 0.02
        )


@pytest.mark.parametrize(
    ("config", "rule"),
    [
        ({"name": "sometimes"}, "unknown policy 'sometimes'"),
        ({"name": "random", "rate": 1.5}, r"policy.rate must be a number in \[0, 1\], got 1.5"),
        ({"name": "every", "n": 0}, "policy.n must be a whole number >= 1, got 0"),
        (
            {"name": "uncertainty", "rate": 0.1, "epochs": -1},
            "policy.epochs must be a whole number >= 0",
        ),
        ({"name": "always", "max_bytes": -1}, "policy.max_bytes must be a number >= 0"),
    ],
)
def test_a_wrong_policy_is_refused(config: dict, rule: str) -> None:
    with pytest.raises(UserError, match=rule):
        policy_of({**LIMIT, **config})
