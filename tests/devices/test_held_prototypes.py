"""Prototypes that devices hold: replaced, missed, versions apart, and in flight."""

from typing import Any

import numpy as np
import pytest
from decoder_cases import (
    assert_same,
    by_rows,
    deployed,
    held,
    holding,
    in_use,
    plus,
    told,
    versions,
)
from device_cases import (
    EVERYONE,
    NUM_DEVICES,
    SEGMENT_S,
    STREAM,
    app_of,
    by_hand,
    heads,
    to_devices,
)

from cdc_flower.simulations.fleet import Fleet
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.simulations.grids.links import LinkGrid
from cdc_flower.strategies.persona.decoder import HELD, PROTOTYPE
from cdc_flower.wire import records

NEVER_S = np.full(NUM_DEVICES, np.inf)


def test_no_edit_gives_every_device_the_prototype_without_a_copy() -> None:
    app = app_of()
    _, edited = app.handle(told(edit=heads(app, NUM_DEVICES)), deployed(app, prototype=0))
    assert edited.num_sets == NUM_DEVICES + 1
    _, back = app.handle(told(2), edited)
    assert back.num_sets == 1
    assert_same(in_use(app, back), in_use(app, deployed(app)))


def test_a_prototype_takes_the_place_of_the_one_before_and_is_held_once() -> None:
    app = app_of()
    index = EVERYONE % 2
    prototypes = by_rows(heads(app, 2, seed=8), index)
    _, after = app.handle(
        told(version=(index, 4), prototype=prototypes), deployed(app, prototype=0)
    )
    assert_same(holding(app, after), prototypes)
    assert_same(in_use(app, after), prototypes)
    assert after.num_sets == 2 and versions(after).tolist() == [[k % 2, 4] for k in EVERYONE]
    edit = heads(app, NUM_DEVICES, seed=9)
    _, edited = app.handle(told(2, version=(index, 4), edit=edit), after)
    assert_same(in_use(app, edited), plus(prototypes, edit))
    assert_same(holding(app, edited), prototypes)


def test_a_prototype_and_an_edit_may_come_together() -> None:
    app = app_of()
    prototype, edit = by_rows(heads(app, 1, seed=8), 0), heads(app, NUM_DEVICES, seed=9)
    message = told(version=(2, 1), shared={PROTOTYPE: prototype}, edit=edit)
    _, after = app.handle(message, deployed(app))  # held none before
    assert_same(in_use(app, after), {name: prototype[name] + edit[name] for name in prototype})
    assert after.num_sets == NUM_DEVICES + 1 and versions(after).tolist() == [[2, 1]] * NUM_DEVICES


def test_a_device_that_missed_a_message_recovers_when_the_prototype_comes_again() -> None:
    app = app_of()
    new, edits = (
        by_rows(heads(app, 1, seed=8), 0),
        [heads(app, NUM_DEVICES, seed) for seed in (1, 2, 3)],
    )
    everyone = {name: value[None].repeat(NUM_DEVICES, 0) for name, value in new.items()}
    _, states = app.handle(told(0, edit=edits[0]), deployed(app, prototype=0))
    before = in_use(app, states)

    got = np.array([0, 2, 3, 5])  # to these the new prototype comes
    missed = np.array([1, 4, 6])
    _, part = app.handle(
        told(1, version=(0, 1), shared={PROTOTYPE: new}, rows=got), states.select(got)
    )
    states = states.update(got, part)
    reports, _ = app.handle(to_devices(records.TRAIN_REPORT, EVERYONE, 2), states)
    told_held = reports.array(records.REPORT, HELD)
    assert told_held.tolist() == [[0, 1 if row in got else 0] for row in EVERYONE]

    _, states = app.handle(told(2, version=(0, 1), edit=edits[1]), states)
    now = in_use(app, states)
    assert_same(by_rows(now, missed), by_rows(before, missed))
    assert_same(by_rows(now, got), by_rows(plus(everyone, edits[1]), got))
    assert versions(states)[:, 1].tolist() == told_held[:, 1].tolist()

    message = told(3, version=(0, 1), shared={PROTOTYPE: new}, edit=edits[2])
    _, states = app.handle(message, states)
    assert_same(in_use(app, states), plus(everyone, edits[2]))
    assert versions(states).tolist() == [[0, 1]] * NUM_DEVICES


def test_an_edit_of_another_prototype_is_not_applied() -> None:
    app = app_of()
    states = deployed(app, prototype=0)
    index, version = np.array([0, 1, 0, 0, 2, 0, 0]), np.array([0, 0, 1, 0, 0, 0, 5])
    edit = heads(app, NUM_DEVICES)
    _, after = app.handle(told(version=(index, version), edit=edit), states)
    applies = (index == 0) & (version == 0)
    expected = plus(in_use(app, states), edit)
    assert_same(by_rows(in_use(app, after), applies), by_rows(expected, applies))
    assert_same(by_rows(in_use(app, after), ~applies), by_rows(in_use(app, states), ~applies))


@pytest.mark.parametrize("settings", [{}, {"prototype": -1}])
def test_a_device_that_holds_no_prototype_applies_no_edit(settings: dict[str, int]) -> None:
    app = app_of()
    states = deployed(app, **settings)
    for version in ((0, 0), (-1, 0)):
        _, after = app.handle(told(version=version, edit=heads(app, NUM_DEVICES)), states)
        assert_same(in_use(app, after), in_use(app, states))
        assert (held(after) < 0).all()


def test_a_device_that_trains_and_cannot_use_an_edit_goes_on_with_its_own() -> None:
    app = app_of()
    _, busy = app.handle(to_devices(records.TRAIN_LOCAL, EVERYONE, 1), deployed(app, prototype=0))
    clock = {records.ARRIVAL_S: np.full(NUM_DEVICES, 1.5 * SEGMENT_S)}
    _, after = app.handle(told(version=(0, 9), clock=clock, edit=heads(app, NUM_DEVICES)), busy)
    assert_same(
        in_use(app, after), {name: busy.pool[name][busy.pending] for name in app.model.adaptive}
    )


def test_old_parameters_are_used_until_the_arrival_and_the_prototype_changes_with_the_message() -> (
    None
):
    app = app_of()
    states, prototype, edit = (
        deployed(app, prototype=0),
        by_rows(heads(app, 1, seed=8), 0),
        heads(app, NUM_DEVICES),
    )
    arrival_s = SEGMENT_S * (1 + EVERYONE / (NUM_DEVICES - 1))  # the last one after the segment
    message = told(
        version=(0, 1),
        clock={records.ARRIVAL_S: arrival_s},
        shared={PROTOTYPE: prototype},
        edit=edit,
    )
    replies, after = app.handle(message, states)
    new = {name: prototype[name] + edit[name] for name in prototype}
    _, expected = by_hand(app, states, new, arrival_s, 1)
    np.testing.assert_allclose(
        replies.metrics[records.SCORES]["value-sum"], expected.value_sum, rtol=1e-4, atol=1e-4
    )
    assert_same(in_use(app, after), new)
    assert versions(after).tolist() == [[0, 1]] * NUM_DEVICES
    silent, _ = app.handle(
        told(version=(0, 0), clock={records.ARRIVAL_S: NEVER_S}, edit=edit), states
    )
    _, expected = by_hand(app, states, new, NEVER_S, 1)
    np.testing.assert_allclose(
        silent.metrics[records.SCORES]["value-sum"], expected.value_sum, rtol=1e-4, atol=1e-4
    )


def test_messages_in_flight_keep_each_devices_version() -> None:
    app = app_of()
    inner = InlineGrid(app, EVERYONE)
    inner._set_shard_states([deployed(app, prototype=0)])
    rates = np.full(NUM_DEVICES, 300.0)  # ten seconds or more a message
    rates[[1, 4]] = 100.0  # these get theirs a segment later
    links = LinkGrid(
        inner,
        Fleet(rates, rates, np.zeros(NUM_DEVICES), np.ones(NUM_DEVICES), 1e12),
        STREAM.segment_starts_s,
    )
    prototypes = by_rows(heads(app, 2, seed=8), EVERYONE % 2)
    version = 10 + EVERYONE % 2
    links.send_and_receive(told(0, version=(EVERYONE % 2, version), prototype=prototypes))
    late = np.isin(EVERYONE, [1, 4])
    first: Any = inner.states
    assert (versions(first)[:, 1] == version).tolist() == (~late).tolist()
    links.send_and_receive(told(1, version=None))
    links.send_and_receive(told(2, version=None))
    states: Any = inner.states
    assert versions(states).tolist() == np.stack([EVERYONE % 2, version], 1).tolist()
    assert_same(holding(app, states), prototypes)
    assert_same(in_use(app, states), prototypes)
