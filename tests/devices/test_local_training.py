"""Devices train as they are told, message by message, or say which word they do not know."""

from typing import Any

import numpy as np
import pytest
from device_cases import EVERYONE, NUM_DEVICES, app_of, deployed, heads, model_arrays, to_devices

from cdc_flower.core.errors import UserError
from cdc_flower.devices.local_training import check_config
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

HOW = {"steps": 2, "rate": 0.05, "max-examples": 6}


def to_train(config: dict[str, Any] | None = None, **arrays: Any) -> MessageBatch:
    """Messages to train heads, of each device its own."""
    app = app_of()
    sent = {records.ARRAYS: arrays or heads(app, NUM_DEVICES)}
    return to_devices(records.TRAIN, EVERYONE, 2, config=config, arrays=sent)


def trained(batch: MessageBatch, **settings: Any) -> MessageBatch:
    app = app_of()
    replies, _ = app.handle(batch, deployed(app, **{**HOW, **settings}))
    return MessageBatch.from_messages(list(replies))


def test_each_device_is_trained_as_its_own_message_says() -> None:
    rates = np.array([0.0, 0.1, 0.0, 0.2, 0.1, 0.2, 0.0])
    together = trained(to_train({"rate": rates}))
    for rate in (0.0, 0.1, 0.2):
        alone = trained(to_train({"rate": rate}))
        for name in heads(app_of(), 1):
            rows = rates == rate
            np.testing.assert_allclose(
                together.array(records.ARRAYS, name)[rows],
                alone.array(records.ARRAYS, name)[rows],
                rtol=1e-5,
                atol=1e-6,
            )
    assert (together.node_ids == EVERYONE + 2).all()


def test_what_comes_in_double_precision_is_rounded_first() -> None:
    single = heads(app_of(), NUM_DEVICES)
    double = {name: value.astype(np.float64) + 1e-12 for name, value in single.items()}
    one, other = trained(to_train(**single)), trained(to_train(**double))
    for name in single:
        mine = other.array(records.ARRAYS, name)
        assert mine.dtype == np.float32
        np.testing.assert_array_equal(mine, one.array(records.ARRAYS, name))
        assert (mine != single[name]).any()


def test_the_loss_before_training_is_told_where_it_is_asked_for() -> None:
    plain = trained(to_train())
    assert set(plain.metrics[records.METRICS]) == {records.NUM_EXAMPLES}
    told = trained(to_train(), **{records.TRAIN_LOSS: "my_loss"}).metrics[records.METRICS]
    assert set(told) == {records.NUM_EXAMPLES, "my_loss"}
    assert (told["my_loss"] > 0).all() and len(np.unique(told["my_loss"])) == NUM_DEVICES


def test_what_does_not_fit_the_model_is_refused() -> None:
    head = heads(app_of(), NUM_DEVICES)
    name, value = next(iter(head.items()))
    with pytest.raises(UserError, match=r"arrays of train: unknown array 'w'.* \(known: "):
        trained(to_train(**{**head, "w": value}))
    with pytest.raises(
        UserError, match=rf"{name} must have the shape \[.*\] of the deployed model"
    ):
        trained(to_train(**{**head, name: value[:, :1]}))
    model = {"model": model_arrays(app_of())}
    with pytest.raises(UserError, match="train must carry the record arrays, got model"):
        trained(to_devices(records.TRAIN, EVERYONE, 2, shared=model))


@pytest.mark.parametrize(
    ("message_type", "key", "is_known"),
    [
        (records.TRAIN, "proximal-mu", True),
        (records.TRAIN, "layer", False),
        (records.TRAIN_LOCAL, "layers", True),
        (records.EVALUATE, records.SERVER_ROUND, True),
        (records.EVALUATE, "rate", False),
        (records.TRAIN_REPORT, "steps", False),
    ],
)
def test_a_key_is_known_where_devices_obey_it(message_type: str, key: str, is_known: bool) -> None:
    value = "head" if key == "layers" else 1
    batch = to_devices(message_type, EVERYONE, 1, config={key: value})
    if is_known:
        check_config(batch)
        return
    with pytest.raises(UserError, match=f"config of {message_type}: unknown key {key!r}"):
        app_of().handle(batch, deployed(app_of()))


def test_every_device_is_looked_at_for_a_wrong_value() -> None:
    rates = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.1, -0.5])
    with pytest.raises(UserError, match=r"config of train: rate must be >= 0, got -0.5"):
        trained(to_train({"rate": rates}))


def test_layers_are_those_that_came() -> None:
    assert len(trained(to_train({"layers": "head"})))
    with pytest.raises(UserError, match="layers must be head, as its arrays are, got all"):
        trained(to_train({"layers": "all"}))
