"""Refuses strategies of Flower's that devices cannot play, and values of theirs, by their names."""

import typing

import numpy as np
from flwr.serverapp.strategy import Strategy

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import Option, options_of
from cdc_flower.core.registry import is_of_the_package
from cdc_flower.devices.local_training import check_config
from cdc_flower.strategies.base import OnDevices
from cdc_flower.strategies.stock_state import wrapped
from cdc_flower.wire import records
from cdc_flower.wire.replies import MessageBatches

_TREES = "sends trees of XGBoost, and devices train a model of arrays by gradient steps"
_CLIPS = "asks devices to clip what they send, which they cannot; {} clips in the cloud"
#: Strategies of Flower's that devices cannot play, and why.
REFUSED = {
    "FedXgbBagging": _TREES,
    "FedXgbCyclic": _TREES,
    "DifferentialPrivacyClientSideFixedClipping": _CLIPS.format(
        "DifferentialPrivacyServerSideFixedClipping"
    ),
    "DifferentialPrivacyClientSideAdaptiveClipping": _CLIPS.format(
        "DifferentialPrivacyServerSideAdaptiveClipping"
    ),
}
#: Arguments that name what goes over the wire, where devices know one name.
_WIRE_NAMES = {
    "weighted_by_key": records.NUM_EXAMPLES,
    "arrayrecord_key": records.ARRAYS,
    "configrecord_key": records.CONFIG,
}
#: Arguments that Flower hands to nobody, and the key of a device that does what they promise.
_UNUSED = {"eta_l": "rate"}
#: Numbers of devices that Flower's strategies wait for, and without them for ever.
_WAITS_FOR = ("min_available_nodes", "min_train_nodes", "min_evaluate_nodes")
#: Flower's error codes for an app that raised; others are of nodes and messages that are lost.
_APP_RAISED = range(3)


def check_class(kind: type) -> None:
    """Refuses a class that devices cannot play.

    Raises:
        UserError: If it is one, or derives from one.
    """
    for base in kind.__mro__:
        if base.__module__.startswith("flwr.") and base.__name__ in REFUSED:
            raise UserError(f"{kind.__name__} cannot be played, as it {REFUSED[base.__name__]}")


def check_mix_in(kind: type, mix_in: type) -> None:
    """Refuses a strategy of Flower's behind ``OnDevices`` alone, whose draws no seed would reach.

    Args:
        kind: A strategy.
        mix_in: That seeds them.

    Raises:
        UserError: If it is one.
    """
    bases = kind.__mro__
    is_seeded = mix_in in bases or any(
        is_of_the_package(base) and issubclass(base, Strategy) for base in bases
    )
    stock = [base for base in bases if base.__module__.startswith("flwr.") and base is not Strategy]
    if OnDevices in bases and not is_seeded and stock[:1] and issubclass(stock[0], Strategy):
        raise UserError(
            f"{kind.__name__} must have {mix_in.__name__} in place of OnDevices, which leaves the "
            f"draws of {stock[0].__name__} without a seed"
        )


def check_values(strategy: Strategy) -> None:
    """Refuses values with which a strategy, or one inside it, would leave devices out.

    Raises:
        UserError: If there is one.
    """
    for each in wrapped(strategy):
        name = type(each).__name__
        check_class(type(each))
        if getattr(each, "fraction_evaluate", 1.0) != 1:
            raise UserError(
                f"fraction_evaluate of {name} must be 1, as every device is scored in every "
                f"segment, got {each.fraction_evaluate}"  # type: ignore[attr-defined]
            )
        if not 0 <= (fraction := getattr(each, "fraction_train", 1.0)) <= 1:
            raise UserError(f"fraction_train of {name} must be in [0, 1], got {fraction}")
        for key, instead in _UNUSED.items():
            default = getattr(options_of(type(each)).get(key), "default", None)
            if (given := getattr(each, key, default)) != default:
                raise UserError(
                    f"{key} of {name} must be left out, as Flower tells it to no device; {instead} "
                    f"does, got {given}"
                )
        for key, known in _WIRE_NAMES.items():
            if (given := getattr(each, key, known)) != known:
                raise UserError(
                    f"{key} of {name} must be {known}, as devices call it so, got {given!r}"
                )


def is_configurable(option: Option) -> bool:
    """Tells whether a configuration can hold the values of an argument: numbers, texts, lists.

    So it can where the argument is a strategy, which a ``_target_`` names.
    """
    kinds = typing.get_args(option.kind) or (option.kind,)
    return option.name not in _WIRE_NAMES and any(
        kind is object or kind in (bool, int, float, str) or is_strategy(kind) for kind in kinds
    )


def is_strategy(kind: object) -> bool:
    """Tells whether an argument is annotated as one of Flower's strategies."""
    return isinstance(kind, type) and issubclass(kind, Strategy)


def check_num_devices(strategy: Strategy, num_devices: int) -> None:
    """Refuses a strategy that would wait for more devices than there are.

    Raises:
        UserError: If it would.
    """
    for each in wrapped(strategy):
        for key in _WAITS_FOR:
            if (wanted := getattr(each, key, 0)) > num_devices:
                raise UserError(
                    f"{key} of {type(each).__name__} must be at most the number of devices, "
                    f"{num_devices}, got {wanted}"
                )


def check_asked(asked: MessageBatches, sender: str, num_devices: int = 0) -> None:
    """Refuses messages that ask of devices what they cannot do, or that leave devices out.

    Args:
        asked: Messages of one exchange.
        sender: Name of the strategy.
        num_devices: That must be asked; 0: any.

    Raises:
        UserError: If they do.
    """
    for batch, _ in asked.groups:
        check_config(batch, sender)
    told = np.concatenate([np.empty(0, np.uint64), *(batch.node_ids for batch, _ in asked.groups)])
    if len(np.unique(told)) < num_devices:
        raise UserError(
            f"{sender} must evaluate on every device, as each is scored in every segment, "
            f"got {len(np.unique(told))} of {num_devices}"
        )


def check_replies(replies: MessageBatches, sender: str) -> None:
    """Refuses a round in which every device failed, which would look like one without news.

    Raises:
        UserError: If none answered and one says that it raised.
    """
    if len(replies.ok()):
        return
    for batch, _ in replies.groups:
        for code, reason in batch.errors.values():
            if code in _APP_RAISED:
                told = (reason or "no reason").splitlines()[0]
                raise UserError(f"{sender}: devices must answer, and every one failed: {told}")


def num_examples(replies: MessageBatches) -> int:
    """Adds up the examples of devices that answered; without any there is nothing to weigh."""
    return sum(
        int(np.sum(batch.metrics.get(records.METRICS, {}).get(records.NUM_EXAMPLES, 0)))
        for batch, _ in replies.ok().groups
    )
