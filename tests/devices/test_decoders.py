"""The forms in which new layers come to a device: results, what is held, and what they cost."""

from typing import Any

import numpy as np
import pytest
from decoder_cases import (
    by_rows,
    cores,
    deployed,
    held,
    low_rank,
    told,
    versions,
    with_sides,
)
from device_cases import (
    BOTH,
    EVERYONE,
    NUM_DEVICES,
    SEGMENT_S,
    STREAM,
    app_of,
    by_hand,
    heads,
    to_devices,
)
from flwr.common.serde import recorddict_to_proto
from hypothesis import given
from hypothesis import strategies as st

from cdc_flower.devices.app import DeviceApp
from cdc_flower.devices.decoders.deployment import deploy
from cdc_flower.devices.decoders.receive import receive
from cdc_flower.devices.state import DeviceStates
from cdc_flower.models import device_model
from cdc_flower.simulations.fleet import Fleet
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.simulations.grids.links import LinkGrid
from cdc_flower.strategies.persona.decoder import HELD, INDEX, PROTOTYPE, VERSION
from cdc_flower.tasks.recommendation.task import RECOMMENDATION
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

NEVER_S = np.full(NUM_DEVICES, np.inf)
#: A model by hand: one layer of two inputs and two outputs.
SHAPES = {"head.0.weight": (2, 2), "head.0.bias": (2,)}
W, B = np.array([[1, 2], [3, 4]], np.float32), np.array([5, 6], np.float32)


def in_use(app: DeviceApp, states: DeviceStates) -> Arrays:
    """The adaptive layers that each device uses, ``[n, ...]``."""
    return {name: states.pool[name][states.in_use] for name in app.model.adaptive}


def holding(app: DeviceApp, states: DeviceStates) -> Arrays:
    """The prototype that each device holds, ``[n, ...]``."""
    return {name: states.pool[name][held(states)] for name in app.model.adaptive}


def assert_same(one: Arrays, other: Arrays) -> None:
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def plus(one: Arrays, other: Arrays) -> Arrays:
    return {name: value + other[name] if name in other else value for name, value in one.items()}


def points(replies: MessageBatch, sign: str) -> np.ndarray:
    """Logits of each device's true or other candidates."""
    return replies.array(records.POINTS, sign)


def one_device(version: tuple[int, int] = (3, 0), **static: np.ndarray) -> DeviceStates:
    """A device that holds a prototype of the model by hand."""
    model = {"head.0.weight": W, "head.0.bias": B, **static}
    settings = {PROTOTYPE: version[0], **BOTH}
    return deploy(DeviceStates(np.array([0])), model, tuple(SHAPES), settings)


def made_of(batch: MessageBatch, states: DeviceStates) -> tuple[list, list]:
    """Weight and bias of the first device's newest set."""
    changed, received, newest = receive(batch, states, SHAPES)
    pool = changed.add(received)[0].pool if received else changed.pool
    return pool["head.0.weight"][newest[0]].tolist(), pool["head.0.bias"][newest[0]].tolist()


def test_an_edit_is_added_to_the_prototype() -> None:
    edit = {"head.0.weight": np.array([[[0.5, 0], [0, -1]]], np.float32)}
    weight, bias = made_of(told(version=(3, 0), rows=[0], edit=edit), one_device())
    assert weight == [[1.5, 2], [3, 3]] and bias == [5, 6]  # no edit of the bias


def test_a_low_rank_edit_is_the_product_of_its_sides() -> None:
    edit = {
        "head.0.left": np.array([[[1], [2]]], np.float32),
        "head.0.right": np.array([[[10, 20]]], np.float32),
        "head.0.bias": np.array([[1, -1]], np.float32),
    }
    weight, bias = made_of(told(version=(3, 0), rows=[0], edit=edit), one_device())
    assert weight == [[11, 22], [23, 44]] and bias == [6, 5]


def test_a_version_alone_is_the_prototype_itself() -> None:
    states = one_device()
    changed, received, newest = receive(told(version=(3, 0), rows=[0]), states, SHAPES)
    assert changed is states and not received and newest.tolist() == [0]


def test_layers_of_a_core_are_between_the_deployed_sides() -> None:
    sides = {
        "apg.0.left": np.array([[1], [2]], np.float32),
        "apg.0.left_bias": np.array([3], np.float32),
        "apg.0.right": np.array([[1, -1]], np.float32),
        "apg.0.right_bias": np.array([0.5, 0.25], np.float32),
    }
    core = {"head.0.core": np.array([[[10]]], np.float32)}
    weight, bias = made_of(told(version=None, rows=[0], core=core), one_device(**sides))
    assert weight == [[10, -10], [20, -20]] and bias == [30.5, -29.75]


def test_a_layer_of_a_core_is_three_layers_in_one() -> None:
    rng = np.random.default_rng(0)
    shapes = {"left": (2, 3), "left_bias": (3,), "right": (3, 2), "right_bias": (2,)}
    sides = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    core, x = rng.normal(size=(1, 3, 3)).astype(np.float32), rng.normal(size=2)
    states = one_device(**{f"apg.0.{name}": value for name, value in sides.items()})
    weight, bias = made_of(told(version=None, rows=[0], core={"head.0.core": core}), states)
    expected = (x @ sides["left"] + sides["left_bias"]) @ core[0] @ sides["right"] + sides[
        "right_bias"
    ]
    np.testing.assert_allclose(x @ np.array(weight) + bias, expected, rtol=1e-5)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 1.0, 1e3]), st.sets(st.integers(0, 3)))
def test_an_edit_gives_what_the_full_parameters_give_to_the_bit(
    seed: int, scale: float, without: set[int]
) -> None:
    app = app_of()
    states = deployed(app, prototype=0)
    names = [name for k, name in enumerate(app.model.adaptive) if k not in without]
    edit = {name: heads(app, NUM_DEVICES, seed)[name] * np.float32(scale) for name in names}
    clock = {records.ARRIVAL_S: SEGMENT_S + 7.0 * EVERYONE}
    full = plus(in_use(app, states), edit)
    replies, after = app.handle(told(clock=clock, edit=edit), states)
    expected, sent = app.handle(told(clock=clock, version=None, parameters=full), states)
    for sign in ("positive", "negative"):  # the logits; one shared set goes through another product
        rtol = 0 if edit else 1e-5
        np.testing.assert_allclose(
            points(replies, sign), points(expected, sign), rtol=rtol, atol=rtol
        )
    assert_same(in_use(app, after), full)
    assert_same(in_use(app, after), in_use(app, sent))
    assert_same(holding(app, after), holding(app, states))


@pytest.mark.parametrize("name", ["gru4rec", "din"])
@pytest.mark.parametrize("rank", [1, 3])
def test_a_low_rank_edit_is_the_full_edit_of_that_product(name: str, rank: int) -> None:
    app = app_of(name)
    states, edit = deployed(app, prototype=0), low_rank(app, rank)
    whole = {
        layer: edit[layer]
        if layer in edit
        else np.einsum(
            "nir,nro->nio",
            *(edit[f"{layer.removesuffix('.weight')}.{side}"] for side in ("left", "right")),
        )
        for layer in app.model.adaptive
    }
    _, low = app.handle(told(edit=edit), states)
    _, full = app.handle(told(edit=whole), states)
    for layer in app.model.adaptive:
        np.testing.assert_allclose(
            in_use(app, low)[layer], in_use(app, full)[layer], rtol=1e-4, atol=1e-5
        )


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


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_training_all_layers_leaves_the_sides_of_cores_alone(optimizer: str) -> None:
    app = app_of()
    states, plain = with_sides(app, 3), deployed(app)
    ask = to_devices(
        records.TRAIN_LOCAL, EVERYONE, 1, config={"layers": "all", "optimizer": optimizer}
    )
    trained, expected = (app.handle(ask, each)[1] for each in (states, plain))
    for name in states.static:
        made = trained.pool[name][trained.pending]
        other = (
            expected.pool[name][expected.pending]
            if name in plain.static
            else states.static[name][None]
        )
        np.testing.assert_array_equal(made, np.broadcast_to(other, made.shape))


def whole_app(stream: Any = STREAM) -> DeviceApp:
    """The app with the published width."""
    return DeviceApp(device_model("gru4rec", stream.num_items), stream, RECOMMENDATION)


@pytest.mark.parametrize(
    ("form", "payload_bytes", "wire_bytes"),
    [
        ("parameters", 2 * (32 + 1) * 32 * 4, 9315),
        ("edit", 2 * (32 + 1) * 32 * 4 + 16, 9350),
        ("low rank", 2 * (2 * 32 * 4 + 32) * 4 + 16, 3560),
        ("version", 16, 175),
        ("prototype", 2 * (32 + 1) * 32 * 4 + 16, 9355),
        ("core", 2 * 16 * 16 * 4, 2551),
    ],
)
def test_bytes_of_each_form_for_gru4rec(form: str, payload_bytes: int, wire_bytes: int) -> None:
    app, version = whole_app(), (3, 2)
    layers = by_rows(heads(app, 1), np.zeros(NUM_DEVICES, np.int64))
    sent = {
        "parameters": told(version=None, parameters=layers),
        "edit": told(version=version, edit=layers),
        "low rank": told(version=version, edit=low_rank(app, 4)),
        "version": told(version=version),
        "prototype": told(version=version, prototype=layers),
        "core": told(version=None, core=cores(app, 16)),
    }[form].without(records.INSTRUMENTS)
    assert sent.payload_bytes().tolist() == [payload_bytes] * NUM_DEVICES
    assert sent.wire_bytes().tolist() == [wire_bytes] * NUM_DEVICES
    assert recorddict_to_proto(sent[0].content).ByteSize() == sent.content_bytes()[0]


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


def test_a_form_that_is_not_whole_is_refused() -> None:
    app = app_of()
    states, layers = deployed(app, prototype=0), heads(app, NUM_DEVICES)
    some = {name: layers[name] for name in ("head.0.weight", "head.0.bias")}
    sides = low_rank(app, 2)
    wrong: dict[str, MessageBatch] = {
        "edit and prototype must come with version, got none": told(version=None, edit=layers),
        "parameters must come in one form, got parameters and version": told(parameters=layers),
        "prototype must have the layers head.0.weight, .*, got head.0.weight, head.0.bias": told(
            prototype=some
        ),
        "index must be >= 0 with prototype, got -1": told(version=(-1, 0), prototype=layers),
        "a prototype must be the same wherever its version is, got several head.0.weight": told(
            prototype=layers
        ),
        r"edit of head.0.bias must have shape \(8,\), got \(1,\)": told(
            edit={"head.0.bias": np.ones((NUM_DEVICES, 1), np.float32)}
        ),
        "edit must be of .* both left and right, got head.0.left": told(
            edit={"head.0.left": sides["head.0.left"]}
        ),
        "edit must be of .* both left and right, got embedding": told(
            edit={"embedding": layers["head.0.bias"]}
        ),
        "core must be LAYER.core of a deployed model with core sides, got head.0.core": told(
            version=None, core=cores(app, 3)
        ),
        "version must have index and version, got no version": told(version=None).with_records(
            configs={VERSION: {INDEX: 1}}
        ),
    }
    for match, message in wrong.items():
        with pytest.raises(ValueError, match=match):
            app.handle(message, states)
