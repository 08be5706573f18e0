"""Plays Flower's own strategies, and those that derive from them, beside the methods here.

``class MyFedAdam(FederatedOnDevices, FedAdam)`` plays, and :func:`on_devices` makes such a class of
one that knows nothing of this package. It says what is deployed and how devices train; what they
send back is averaged, or whatever else it does, by Flower's code alone.
"""

import copy
import dataclasses
import gc
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, cast

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.exception import AggregationError, InconsistentMessageReplies
from flwr.serverapp.strategy import Strategy

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import Option, check_options, constructor_options, option, options_of
from cdc_flower.core.saveable import Arrays, Saved
from cdc_flower.core.seeds import global_draws
from cdc_flower.devices.state import Settings
from cdc_flower.strategies.base import OnDevices, to_record
from cdc_flower.strategies.labelled_steps import LabelledSteps, layers_option
from cdc_flower.strategies.stock_checks import (
    check_asked,
    check_class,
    check_mix_in,
    check_num_devices,
    check_replies,
    check_values,
    is_configurable,
    num_examples,
)
from cdc_flower.strategies.stock_state import state_arrays, take_up, wrapped
from cdc_flower.wire import records
from cdc_flower.wire.replies import MessageBatches


@dataclass(eq=False, repr=False)
class LocalSteps(LabelledSteps):
    """Sets how devices train for a strategy of Flower's: keys beside those of its constructor."""

    layers: str = layers_option("all")
    optimizer: str = option(
        "adam", choices=("adam", "sgd"), changes_training=False, doc="on each sampled device"
    )


class FederatedOnDevices(OnDevices):
    """Plays a strategy of Flower's: a mix-in that stands before it among the bases.

    Devices are sampled, and noise is drawn, by the seed of the run. Every device is scored in
    every segment. Models that come in another type (Flower's optimizers make float64) are counted
    as they were sent, and rounded to the device model's type on devices.

    Args:
        arguments: Of the strategy's constructor.
        settings: Of the strategy's constructor, and beside them the fields of :class:`LocalSteps`.

    Raises:
        UserError: If the strategy cannot be played, or a value would leave devices out.
    """

    waits_for_all = True
    carried: ClassVar[tuple[str, ...]] = (*OnDevices.carried, "clipping_norm")
    passing: ClassVar[frozenset[str]] = frozenset({"_num_asked", "_pending_events"})

    def __init__(self, *arguments: object, **settings: object) -> None:
        own = {name: settings.pop(name) for name in options_of(LocalSteps) if name in settings}
        self._train_by(own)
        check_class(type(self))
        cast(Callable[..., None], super().__init__)(*arguments, **settings)
        check_values(_flower(self))

    def __post_init__(self) -> None:
        """Checks a dataclass's options, and hands Flower's constructor those that it takes."""
        check_options(self)
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        given = {each.name: getattr(self, each.name) for each in fields}
        taken = _options_from(type(self), FederatedOnDevices)
        FederatedOnDevices.__init__(self, **{k: v for k, v in given.items() if k in taken})

    @classmethod
    def list_options(cls) -> dict[str, Option]:
        """Lists what can be configured: arguments of the constructors, and how devices train."""
        return {k: each for k, each in _options_from(cls, cls).items() if is_configurable(each)}

    def _train_by(self, own: Mapping[str, object]) -> None:
        """Sets how devices train."""
        self.how = LocalSteps(**own).how  # type: ignore[arg-type]

    def _draws(self, verb: str, server_round: int) -> AbstractContextManager[None]:
        """Seeds what Flower's code draws from, anew for each verb and round."""
        return global_draws(self.cloud.seed, "flower", verb, server_round)

    def initial_arrays(self) -> ArrayRecord:
        """Gives the adaptive layers, or the whole model."""
        model = self.deployment()
        names = self.cloud.model.adaptive if self.how.layers == "head" else model
        return to_record({name: model[name] for name in names})

    def settings(self) -> Settings:
        """Says how to train, deployed once beside the model."""
        told: Settings = dict(self.how.to_settings())
        for each in wrapped(_flower(self)):
            if loss_key := getattr(each, "train_loss_key", ""):
                told[records.TRAIN_LOSS] = loss_key
        return told

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Lets Flower's strategy sample devices, and checks what it asks of them.

        Args:
            server_round: From 1; the segment is the one before.
            arrays: The global model.
            config: Of Flower's round, which it may add to.
            grid: Of the nodes.

        Raises:
            UserError: If there are not as many devices as it waits for, or it asks of them what
                they cannot do.
        """
        check_num_devices(_flower(self), len(list(grid.get_node_ids())))
        with self._draws("configure_train", server_round):
            sent = _next(self).configure_train(server_round, arrays, config, grid)
            asked = MessageBatches.of(sent)
        check_asked(asked, type(self).__name__)
        self._num_asked = len(asked)
        return asked

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Lets Flower's strategy make a new model; none where no device had an example.

        Raises:
            UserError: If every device failed, or Flower's strategy cannot aggregate.
        """
        name, answers = type(self).__name__, MessageBatches.of(replies)
        check_replies(answers, name)
        if not num_examples(answers):
            return None, None
        try:
            with quick_collections(), self._draws("aggregate_train", server_round):
                made, metrics = _next(self).aggregate_train(server_round, answers)
        except (AggregationError, InconsistentMessageReplies) as error:
            raise UserError(f"{name}: {error}") from error
        if made is None and len(answers.ok()) == self._num_asked:
            raise UserError(
                f"{name} must make a model of the answers, got none of {self._num_asked} in round "
                f"{server_round}, though all came; its arguments may need more devices"
            )
        return made, metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Lets Flower's strategy send the new model to every device.

        Args:
            server_round: From 1; the segment is the one before.
            arrays: The global model.
            config: Of Flower's round, which it may add to.
            grid: Of the nodes.

        Raises:
            UserError: If it would leave out a device, or asks of them what they cannot do.
        """
        num_devices = len(list(grid.get_node_ids()))
        check_num_devices(_flower(self), num_devices)
        with self._draws("configure_evaluate", server_round):
            sent = _next(self).configure_evaluate(server_round, arrays, config, grid)
            asked = MessageBatches.of(sent)
        check_asked(asked, type(self).__name__, num_devices)
        return asked

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Lets Flower's strategy average metrics; metrics are collected for the results.

        Raises:
            UserError: If every device failed.
        """
        answers = MessageBatches.of(replies)
        check_replies(answers, type(self).__name__)
        if not num_examples(answers):
            return None
        with self._draws("aggregate_evaluate", server_round):
            return _next(self).aggregate_evaluate(server_round, answers)

    def to_arrays(self) -> Arrays:
        """Takes what later rounds read, also of a strategy that this one is wrapped around."""
        return {**super().to_arrays(), **state_arrays(_flower(self), self.carried)}

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on from what :meth:`to_arrays` took."""
        super().from_arrays(take_up(_flower(self), self.carried, arrays))


def on_devices(kind: type) -> type[OnDevices]:
    """Makes a class that plays of any of Flower's strategies; one that plays already is given back.

    Raises:
        UserError: If it is none of Flower's strategies, one that devices cannot play, or one behind
            ``OnDevices`` alone.
    """
    if not (isinstance(kind, type) and issubclass(kind, Strategy)):
        raise UserError(
            "a strategy must derive from flwr.serverapp.strategy.Strategy, got "
            f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', kind)}"
        )
    check_mix_in(kind, FederatedOnDevices)
    return kind if issubclass(kind, OnDevices) else _mixed(kind)


def put_on_devices(strategy: Strategy, **local: object) -> OnDevices:
    """Makes a strategy that plays of one of Flower's that is built; it is not changed itself.

    Args:
        strategy: Built, not yet started.
        local: The fields of :class:`LocalSteps`: how devices train.

    Raises:
        UserError: As :func:`on_devices`, or if a value would leave devices out.
    """
    played = _fresh(type(strategy))
    vars(played).update(copy.deepcopy(vars(strategy)))
    if isinstance(played, FederatedOnDevices):
        if local or "how" not in vars(played):
            played._train_by(local)
        check_values(strategy)
    return played


@cache
def _mixed(kind: type[Strategy]) -> type[OnDevices]:
    """Makes the class; the same each time, so that objects of it are of one class."""
    check_class(kind)
    both = sorted(set(_options_from(kind, kind)) & set(options_of(LocalSteps)))
    if both:
        raise UserError(
            f"{kind.__name__} must not have an argument {both[0]}, which says how devices train"
        )

    def reduced(strategy: OnDevices) -> tuple[object, ...]:
        """Pickles by Flower's class, as the one that is made here has no import path."""
        return _fresh, (kind,), vars(strategy)

    names = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__reduce__": reduced}
    if hasattr(kind, "__post_init__"):  # of a dataclass, which its constructor calls
        names["__post_init__"] = kind.__post_init__
    return type(kind.__name__, (FederatedOnDevices, kind), names)


def _fresh(kind: type[Strategy]) -> OnDevices:
    """Makes an object that no constructor has seen."""
    played = on_devices(kind)
    return played.__new__(played)


def _flower(strategy: FederatedOnDevices) -> Strategy:
    """Gives a strategy as what else it is: the mix-in stands before one of Flower's."""
    return cast(Strategy, strategy)


def _next(strategy: FederatedOnDevices) -> Strategy:
    """Gives the verbs that stand behind the mix-in: Flower's."""
    return cast(Strategy, super(FederatedOnDevices, strategy))


@contextmanager
def quick_collections() -> Iterator[None]:
    """Lets Python's collector look only at objects that are made inside a block.

    Some of Flower's strategies collect once a reply, which with a whole run in memory takes a third
    of a second each time.
    """
    if gc.get_freeze_count():  # by somebody who will thaw them
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _options_from(kind: type, first: type) -> dict[str, Option]:
    """Lists arguments of constructors that call one another, from a class among the bases on.

    Args:
        kind: Whose bases, in the order in which Python looks.
        first: The first of them.
    """
    bases = kind.__mro__
    found: dict[str, Option] = {}
    for base in bases[bases.index(first) :]:
        if "__init__" not in vars(base) or base is object:
            continue
        if base is FederatedOnDevices:
            found |= {k: each for k, each in options_of(LocalSteps).items() if k not in found}
            continue
        own = constructor_options(base)
        found = {**found, **{k: each for k, each in own.items() if k not in found}}
        if not _hands_on(base):
            break
    return found


def _hands_on(kind: type) -> bool:
    """Tells whether a constructor takes arguments of any name, which it then hands on."""
    parameters = inspect.signature(inspect.getattr_static(kind, "__init__")).parameters
    return any(each.kind is each.VAR_KEYWORD for each in parameters.values())
