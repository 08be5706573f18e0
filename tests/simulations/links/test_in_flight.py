"""Payloads that wait on the downlinks: which of several a device is handed, by hand."""

import numpy as np

from cdc_flower.simulations.links.in_flight import InFlight, Payload
from cdc_flower.wire.batch import MessageBatch

#: When what goes by a ticket arrives.
Arrivals = dict[int, float]


def waiting(*payloads: dict[int, int]) -> InFlight:
    """Payloads, oldest first: device -> ticket, also the number that the payload carries."""
    in_flight = InFlight()
    for age, tickets in enumerate(payloads):
        rows, numbers = np.array([*tickets]), np.array([*tickets.values()])
        layers = {"parameters": {"w": numbers[:, None].astype(np.float32)}}
        batch = MessageBatch("evaluate", rows + 2, arrays=layers)
        in_flight.add(Payload(batch, rows, numbers, np.full(len(rows), 100.0 * age)))
    return in_flight


def landed(
    in_flight: InFlight,
    before_s: float,
    arrivals: Arrivals,
    served: tuple[int, ...] = (),
    asked: int = 3,
) -> dict[int, tuple[float, float]]:
    """Device -> what it is handed, and when that was asked for."""
    is_served = np.zeros(3, np.bool_)
    is_served[list(served)] = True
    parts = in_flight.land(
        np.arange(3) < asked,
        is_served,
        before_s,
        lambda tickets: np.array([arrivals[k] for k in tickets.tolist()]),
    )
    got = [
        (row, (number, made_s))
        for part in parts
        for row, number, made_s in zip(
            part.rows.tolist(),
            part.batch.array("parameters", "w")[:, 0].tolist(),
            part.made_s.tolist(),
            strict=True,
        )
    ]
    assert len(dict(got)) == len(got), "a device is handed one payload"
    assert is_served.nonzero()[0].tolist() == sorted({*served, *dict(got)})
    return dict(got)


def test_of_two_that_wait_the_newer_counts_and_the_older_is_gone() -> None:
    in_flight = waiting({0: 10, 1: 11}, {0: 20, 1: 21})
    arrivals = {10: 210.0, 11: 220.0, 20: 230.0, 21: 330.0}
    # Device 0 has both by 300 s; device 1 has the older one, and the newer one in the segment
    # after.
    assert landed(in_flight, 300.0, arrivals) == {0: (20, 100), 1: (11, 0)}
    assert landed(in_flight, 400.0, arrivals) == {1: (21, 100)}
    assert landed(in_flight, 1e9, arrivals) == {}


def test_of_three_that_wait_the_order_stays_that_of_sending() -> None:
    in_flight = waiting({0: 10}, {0: 20}, {0: 30})
    nothing_yet = {10: np.inf, 20: np.inf, 30: np.inf}
    assert landed(in_flight, 300.0, nothing_yet) == {}
    assert landed(in_flight, 400.0, {10: 310.0, 20: 320.0, 30: np.inf}) == {0: (20, 100)}
    assert landed(in_flight, 500.0, {30: 410.0}) == {0: (30, 200)}


def test_what_was_overtaken_never_takes_the_place_of_something_newer() -> None:
    in_flight = waiting({0: 10}, {0: 20})
    arrivals = {10: 350.0, 20: 250.0}
    assert landed(in_flight, 300.0, arrivals) == {0: (20, 100)}
    assert landed(in_flight, 400.0, arrivals) == {}


def test_what_is_older_than_what_a_device_was_sent_now_is_dropped() -> None:
    in_flight = waiting({0: 10, 1: 11})
    arrivals = {10: 210.0, 11: 220.0}
    assert landed(in_flight, 300.0, arrivals, served=(0,)) == {1: (11, 0)}
    assert landed(in_flight, 400.0, arrivals) == {}


def test_what_is_lost_is_dropped_and_what_nobody_asks_for_stays() -> None:
    in_flight = waiting({0: 10, 1: 11, 2: 12})
    arrivals = {10: -np.inf, 11: 220.0, 12: 230.0}
    assert landed(in_flight, 300.0, arrivals, asked=2) == {1: (11, 0)}
    assert landed(in_flight, 400.0, {10: 310.0, 12: 230.0}) == {2: (12, 0)}
