"""The forms in which new layers come to a device: what they make, and what they cost."""

from typing import Any

import numpy as np
import pytest
from decoder_cases import (
    assert_same,
    by_rows,
    cores,
    deployed,
    holding,
    in_use,
    low_rank,
    plus,
    told,
    with_sides,
)
from device_cases import BOTH, EVERYONE, NUM_DEVICES, SEGMENT_S, STREAM, app_of, heads, to_devices
from flwr.common.serde import recorddict_to_proto
from hypothesis import given
from hypothesis import strategies as st

from cdc_flower.devices.app import DeviceApp
from cdc_flower.devices.decoders.deployment import deploy
from cdc_flower.devices.decoders.receive import receive
from cdc_flower.devices.state import DeviceStates
from cdc_flower.models import device_model
from cdc_flower.strategies.persona.decoder import INDEX, PROTOTYPE, VERSION
from cdc_flower.tasks.recommendation.task import RECOMMENDATION
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

#: A model by hand: one layer of two inputs and two outputs.
SHAPES = {"head.0.weight": (2, 2), "head.0.bias": (2,)}
W, B = np.array([[1, 2], [3, 4]], np.float32), np.array([5, 6], np.float32)


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
