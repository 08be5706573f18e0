"""The vectorized engine against the same links event by event, on random cases."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from network_model import Model, Trip, Way

from cdc_flower.simulations.fleet import Conditions, Fleet, Network, Speeds
from cdc_flower.simulations.links.accounting import Usage
from cdc_flower.simulations.links.links import Links
from cdc_flower.simulations.network.trace import Trace, TracePair
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

SEGMENT_S, NUM_CASES = 20.0, 1000


def some_trace(rng: np.random.Generator) -> Trace:
    count = int(rng.integers(1, 6))
    rates = rng.choice([0.0, 100.0, 800.0, 3000.0, 12345.6], count)
    rates[rng.integers(count)] = rng.uniform(50, 5000)
    return Trace(np.append(0.0, np.cumsum(rng.uniform(0.5, 7, count))), rates)


def some_fleet(rng: np.random.Generator, n: int) -> Fleet:
    traces = tuple(
        TracePair(some_trace(rng), some_trace(rng)) for _ in range(int(rng.integers(1, 4)))
    )
    network = Network(
        "n", rng.uniform(200, 5e3), rng.uniform(200, 5e3), rtt_s=float(rng.choice([0.0, 0.4]))
    )
    if rng.random() < 0.7:
        network = Network("n", rtt_s=network.rtt_s, traces=traces)
    maybe = lambda chance, value: value if rng.random() < chance else None  # noqa: E731
    conditions = Conditions(
        loss=float(rng.choice([0.0, 0.05, 0.4])),
        packet_bytes=int(rng.integers(50, 400)),
        ttl_s=maybe(0.3, float(rng.uniform(3, 40))),
        deadline_s=maybe(0.3, float(rng.uniform(5, 40))),
        cell_up_bps=maybe(0.5, float(rng.uniform(500, 8e3))),
        cell_down_bps=maybe(0.5, float(rng.uniform(500, 8e3))),
    )
    return Fleet.build(
        n,
        network,
        speeds=Speeds(
            cloud_flops_per_s=1.0,
            num_cloud_workers=maybe(0.6, int(rng.integers(1, 3))),
            cloud_s_per_device=float(rng.choice([0.0, 0.7])),
        ),
        conditions=conditions,
        seed=int(rng.integers(1 << 30)),
    )


def of_size(kind: str, rows: np.ndarray, size: int, flops: float = 0.0) -> MessageBatch:
    """Messages whose size on the wire is about ``size``."""
    content = {"x": np.zeros((len(rows), size), np.uint8)}
    record, is_reply = (
        (records.REPORT, True) if kind == records.TRAIN_REPORT else (records.PARAMETERS, False)
    )
    configs = {records.WORK: {records.FLOPS: flops}} if flops else {}
    return MessageBatch(
        kind, rows + 2, arrays={record: content}, configs=configs, is_reply=is_reply
    )


def by_engine(
    case: int,
) -> tuple[Fleet, list[Trip], Links, list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    rng = np.random.default_rng(case)
    n, num_rounds = int(rng.integers(1, 6)), int(rng.integers(1, 5))
    fleet = some_fleet(rng, n)
    links, usage, trips, tickets = Links(fleet, 0.0), Usage.zeros(n), [], []
    for segment in range(num_rounds):
        start_s = segment * SEGMENT_S
        rows = np.flatnonzero(rng.random(n) < 0.8)
        flops = float(rng.choice([0.0, 0.5, 3.0]))
        report = of_size(records.TRAIN_REPORT, rows, int(rng.integers(1, 2500)))
        answer = of_size(records.EVALUATE, rows, int(rng.integers(1, 4000)), flops)
        ready_s = start_s + rng.uniform(0, SEGMENT_S, len(rows))
        if len(rows):
            up_bytes, reports = links.up(rows, report, ready_s, usage, asked_s=start_s)
            down_bytes, answers = links.down(rows, answer, start_s, usage, is_answer=True)
            tickets.append((reports, answers))
            for k, row in enumerate(rows):
                expiry_s = min(ready_s[k] + links.ttl_s, start_s + links.deadline_s)
                work_s = flops + fleet.cloud_s_per_device if flops else 0.0
                trips.append(
                    Trip(
                        int(row), ready_s[k], int(up_bytes[k]), work_s, int(down_bytes[k]), expiry_s
                    )
                )
        links.run(start_s + SEGMENT_S)
        links.end_round(usage)
    links.run(1e7)
    links.end_round(usage)
    return fleet, trips, links, tickets, usage.num_dropped


@pytest.mark.parametrize(
    "tenth", [0, *(pytest.param(tenth, marks=pytest.mark.slow) for tenth in range(1, 10))]
)
def test_the_engine_equals_a_model_that_plays_every_event(tenth: int) -> None:
    num_late, num_lost = 0, 0
    for case in range(tenth * NUM_CASES // 10, (tenth + 1) * NUM_CASES // 10):
        fleet, trips, links, tickets, num_dropped = by_engine(case)
        up, down = fleet.channels()
        rules = fleet.conditions
        model = Model(
            Way(up, rules.cell_up_bps),
            Way(down, rules.cell_down_bps),
            fleet.num_cloud_workers,
            links.ttl_s,
        )
        model.play(trips)
        told = np.concatenate(
            [links.report_arrival_s(reports) for reports, _ in tickets] or [np.empty(0)]
        )
        came = np.concatenate([links.arrival_s(answers) for _, answers in tickets] or [np.empty(0)])
        np.testing.assert_allclose(
            told,
            [trip.report_arrival_s for trip in trips],
            rtol=1e-9,
            atol=1e-9,
            err_msg=f"case {case}",
        )
        np.testing.assert_allclose(
            came, [trip.arrival_s for trip in trips], rtol=1e-9, err_msg=f"case {case}"
        )
        assert num_dropped.tolist() == model.num_dropped, case
        num_lost += int((came == -np.inf).sum())
        num_late += int((came > np.array([trip.ready_s for trip in trips]) + SEGMENT_S).sum())
    assert num_lost > 20 and num_late > 20  # the cases are not all easy
