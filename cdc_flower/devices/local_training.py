"""Reads how devices train: as deployed, and as a message says where it says anything.

A key that devices could not obey is refused by its name, so that no configuration is passed over.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.core.options import options_of
from cdc_flower.devices.state import DeviceStates
from cdc_flower.training.fit import LocalTraining
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

#: Work that devices did: ``num-labels`` and ``flops``, ``[n]`` each.
Work = dict[str, NDArray]

#: Options of a training by their keys on the wire.
_OPTIONS = {name.replace("_", "-"): each for name, each in options_of(LocalTraining).items()}
_LAYERS = "layers"
#: Messages whose receivers train.
_TRAINS = (records.TRAIN, records.TRAIN_LOCAL, records.TRAIN_UPLOAD)


def known_keys(message_type: str) -> frozenset[str]:
    """Lists the keys of a configuration that devices obey in messages of a type."""
    return frozenset({records.SERVER_ROUND, *(_OPTIONS if message_type in _TRAINS else ())})


def check_config(batch: MessageBatch, sender: str = "") -> None:
    """Refuses what the configuration in messages says if devices could not do it.

    Args:
        batch: Messages of any type but a deployment.
        sender: Who configured them, for errors; "": nobody is named.

    Raises:
        UserError: If a key is none of the message type's, or a value none of its key's.
    """
    config = batch.configs.get(records.CONFIG, {})
    place = f"config of {batch.message_type}{f' by {sender}' if sender else ''}"
    known = known_keys(batch.message_type)
    for key in config:
        if key not in known:
            raise unknown_name("key", key, known, place)
    own = {key: value for key, value in config.items() if key in _OPTIONS}
    if own and len(batch):
        for row in range(len(batch)) if _is_mixed(own) else range(1):
            _checked(_of_row(own, row), place)


def training_of(batch: MessageBatch, states: DeviceStates) -> LocalTraining:
    """Reads how devices train that were all told the same.

    Raises:
        UserError: As :func:`check_config`.
    """
    told = _of_row(batch.configs.get(records.CONFIG, {}), 0) if len(batch) else {}
    own = {key: value for key, value in told.items() if key in _OPTIONS}
    return _checked({**states.settings, **own}, f"config of {batch.message_type}")


def training_of_arrays(
    batch: MessageBatch, states: DeviceStates, sent: Arrays, adaptive: Iterable[str]
) -> LocalTraining:
    """Reads how devices train the parameters that came: those say which layers are trained.

    Args:
        batch: One message a device, which are told the same.
        states: Of the devices.
        sent: From :func:`fitted_arrays`.
        adaptive: Names of the adaptive layers.

    Raises:
        UserError: As :func:`check_config`, or if the message says other layers.
    """
    layers = "head" if set(sent) <= set(adaptive) else "all"
    told = batch.configs.get(records.CONFIG, {}).get(_LAYERS, layers)
    if told != layers:
        raise UserError(
            f"config of {batch.message_type}: {_LAYERS} must be {layers}, as its arrays are, "
            f"got {told}"
        )
    return replace(training_of(batch, states), layers=layers)


def rows_told_alike(batch: MessageBatch) -> list[NDArray[np.int64]]:
    """Splits messages by what they say of the training: the rows ``[k]`` that are told the same."""
    config = batch.configs.get(records.CONFIG, {})
    if not _is_mixed(config):
        return [np.arange(len(batch))]
    rows_of: dict[tuple[object, ...], list[int]] = {}
    for row in range(len(batch)):
        rows_of.setdefault(tuple(_of_row(config, row).values()), []).append(row)
    return [np.array(rows) for rows in rows_of.values()]


def fitted_arrays(batch: MessageBatch, static: Arrays) -> Arrays:
    """Takes the parameters ``[n, ...]`` that came to be trained, if they are the model's.

    They keep the type in which they came; see :func:`as_trained`.

    Args:
        batch: One message a device.
        static: The deployed model.

    Raises:
        UserError: If none came, the deployed model has no such name, or its shape is another.
    """
    names = [*batch.arrays.get(records.ARRAYS, {}), *batch.shared.get(records.ARRAYS, {})]
    if not names:
        raise UserError(
            f"{batch.message_type} must carry the record {records.ARRAYS}, got "
            f"{', '.join(sorted({*batch.record_names()} - records.INSTRUMENTS)) or 'none'}"
        )
    for name in names:
        if name not in static:
            raise unknown_name("array", name, static, f"{records.ARRAYS} of {batch.message_type}")
    sent = {name: batch.array(records.ARRAYS, name) for name in names}
    for name, value in sent.items():
        if value.shape[1:] != static[name].shape:
            raise UserError(
                f"{name} must have the shape {list(static[name].shape)} of the deployed model, "
                f"got {list(value.shape[1:])}"
            )
    return sent


def as_trained(sent: Arrays, static: Arrays, rows: NDArray[np.int64]) -> Arrays:
    """Takes some devices' parameters in the types of the deployed model.

    Optimizers in the cloud may make float64 of float32: what came is then rounded, as PyTorch's
    ``load_state_dict`` rounds it.

    Args:
        sent: ``[n, ...]``, from :func:`fitted_arrays`.
        static: The deployed model.
        rows: ``[k]``, of the devices.
    """
    return {
        name: value[rows].astype(static[name].dtype, copy=False) for name, value in sent.items()
    }


def no_work(num_devices: int) -> Work:
    """Makes the work of devices that spent no label and no operation."""
    return {
        records.NUM_LABELS: np.zeros(num_devices, np.int64),
        records.FLOPS: np.zeros(num_devices),
    }


def _is_mixed(config: Mapping[str, object]) -> bool:
    """Tells whether messages of a batch say different numbers."""
    return any(isinstance(value, np.ndarray) for value in config.values())


def _of_row(config: Mapping[str, object], row: int) -> dict[str, object]:
    return {
        key: value[row].item() if isinstance(value, np.ndarray) else value
        for key, value in config.items()
    }


def _checked(settings: Mapping[str, object], place: str) -> LocalTraining:
    """Checks the keys of a training; others are left alone."""
    try:
        for key, value in settings.items():
            if key in _OPTIONS:
                _OPTIONS[key].check(value, key)
        return LocalTraining.from_settings(settings)
    except ValueError as error:
        raise UserError(f"{place}: {error}") from error
