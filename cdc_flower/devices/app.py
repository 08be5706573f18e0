"""Answers messages on devices, for a batch of them; one message alone is a batch of one.

``handle`` is a pure function of the messages and the states. Flower's own runtimes call the app
with one message and its context, and that is a batch of one.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from cdc_flower.core.stream import Stream, TruthReader
from cdc_flower.core.words import counted
from cdc_flower.devices.controls import begun, control_of, exchanged, tells_layers
from cdc_flower.devices.decoders.deployment import decoders_of, deploy
from cdc_flower.devices.decoders.receive import receive
from cdc_flower.devices.feature_report import feature_report, recent_items
from cdc_flower.devices.label_flips import as_told
from cdc_flower.devices.local_training import (
    Work,
    as_trained,
    check_config,
    fitted_arrays,
    no_work,
    rows_told_alike,
    training_of,
    training_of_arrays,
)
from cdc_flower.devices.predicting import predicted
from cdc_flower.devices.state import DeviceStates
from cdc_flower.devices.task import DeviceTask
from cdc_flower.devices.told import events_told
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.sequence_feature import FEATURE_NAMES
from cdc_flower.training.fit import LocalTraining, train_on_devices
from cdc_flower.training.scoring import Arrays, Scorer, sets_of
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import Replies, joined

#: Makes replies to messages, and the states after them.
_Handler = Callable[[MessageBatch, DeviceStates], tuple[Replies, DeviceStates]]


class LabelBudget(TruthReader):
    """Reads labels for a baseline that trains on the device, and what it reads is counted."""


class DeviceApp(ClientApp):
    """Answers, for a batch of devices, the messages of every strategy.

    =================  =============================================================================
    message            action of the devices
    =================  =============================================================================
    query.deploy       install the model and its settings
    query.uncertainty  tell their own request policy how unsure they are of their newest answers
    train.report       tell of their recent, unlabelled events (with a setting ``lag``, as they were
                       so many events earlier): the items or the frames of a clip, or with the
                       setting ``report: feature`` a feature of them, made from the deployed layers
                       ``feature.*``; and beside them what the decoders tell
    train.local        train in place on labelled events that they have seen; usable once the work
                       is done
    train.upload       send labelled examples that they have seen
    train              Flower's: train the parameters that came, and send them back
    evaluate           predict the segment: events before the new parameters arrive with the old
                       ones, and those after with the new, which come whole or in a form of which a
                       decoder makes them: see :mod:`cdc_flower.devices.decoders`
    =================  =============================================================================

    Args:
        model: The device model.
        stream: The devices' data.
        task: What devices report and how they are scored.
    """

    def __init__(self, model: DeviceModel, stream: Stream, task: DeviceTask) -> None:
        super().__init__()
        self.model = model
        self.stream = stream
        self.task = task

    def __call__(self, message: Message, context: Context) -> Message:
        """Answers one message of one node for Flower; its ``partition-id`` is the device."""
        device_ids = np.array([int(context.node_config["partition-id"])])
        states = DeviceStates.from_record(device_ids, context.state)
        replies, changed = self.handle(MessageBatch.from_messages([message]), states)
        if changed is not states:
            context.state = changed.to_record()
        return Message(replies[0].content, reply_to=message)

    def handle(self, batch: MessageBatch, states: DeviceStates) -> tuple[Replies, DeviceStates]:
        """Answers ``n`` messages, and returns the states after them.

        Args:
            batch: One message a device, in the order of the states.
            states: Not changed.

        Raises:
            ValueError: If the message type is unknown, the numbers of messages and states differ, a
                device has no model yet, or the content is not what the type asks for.
            UserError: If the configuration says what devices cannot obey.
        """
        if len(batch) != len(states):
            raise ValueError(
                f"a batch must have one message a device, got {len(batch)} "
                f"for {counted(len(states), 'device')}"
            )
        handlers: dict[str, _Handler] = {
            records.DEPLOY: self._deploy,
            records.QUERY_UNCERTAINTY: self._uncertainty,
            records.TRAIN_REPORT: self._report,
            records.TRAIN_LOCAL: self._train_in_place,
            records.TRAIN_UPLOAD: self._upload,
            records.TRAIN: self._train,
            records.EVALUATE: self._evaluate,
        }
        if batch.message_type not in handlers:
            raise ValueError(
                f"message_type must be one of {', '.join(handlers)}, got {batch.message_type!r}"
            )
        if (
            batch.message_type not in (records.DEPLOY, records.TRAIN_REPORT)
            and (states.in_use < 0).any()
        ):
            device_id = states.device_ids[states.in_use < 0][0]
            raise ValueError(
                f"{batch.message_type} must follow {records.DEPLOY}, got none on device {device_id}"
            )
        if batch.message_type != records.DEPLOY:
            check_config(batch)
        torch.set_num_threads(1)  # the products are small: a second thread costs more than it gives
        return handlers[batch.message_type](batch, states)

    def _deploy(self, batch: MessageBatch, states: DeviceStates) -> tuple[Replies, DeviceStates]:
        own = {
            name: value for name, value in batch.arrays.get(records.MODEL, {}).items() if len(value)
        }
        for name, value in own.items():
            if (value != value[:1]).any():
                raise ValueError(f"a batch must deploy one model, got several values of {name}")
        model = {
            **{name: value[0] for name, value in own.items()},
            **batch.shared.get(records.MODEL, {}),
        }
        settings = dict(batch.configs.get(records.CONFIG, {}))
        report = settings.get(records.REPORT, records.HISTORY)
        if report not in (records.HISTORY, records.FEATURE):
            raise ValueError(
                f"{records.REPORT} must be {records.HISTORY} or {records.FEATURE}, got {report!r}"
            )
        needed = (*self.model.adaptive, *(FEATURE_NAMES if report == records.FEATURE else ()))
        missing = [name for name in needed if name not in model]
        if missing and len(batch):
            raise ValueError(
                f"{records.DEPLOY} must carry every layer, got none for {', '.join(missing)}"
            )
        num_devices = np.full(len(states), self.stream.num_devices)
        place = {records.DEVICE_ID: states.device_ids, records.NUM_DEVICES: num_devices}
        reply = batch.reply(metrics={records.SCORES: place})
        if not len(batch):
            return reply, states
        return reply, deploy(states, model, tuple(self.model.adaptive), settings)

    def _uncertainty(
        self, batch: MessageBatch, states: DeviceStates
    ) -> tuple[Replies, DeviceStates]:
        uncertainty = self.task.uncertainty(self.model, self.stream, states, segment_of(batch))
        return batch.reply(metrics={records.SCORES: {records.UNCERTAINTY: uncertainty}}), states

    def _report(self, batch: MessageBatch, states: DeviceStates) -> tuple[Replies, DeviceStates]:
        lag = int(states.settings.get(records.LAG, 0))
        if states.settings.get(records.REPORT) == records.FEATURE:
            recent = recent_items(self.stream, states, segment_of(batch), lag)
            report, work = feature_report(self.model, recent, states.static)
            num_told = events_told(recent)
        else:
            report, work = self.task.report(self.model, self.stream, states, segment_of(batch), lag)
            num_told = events_told(report.get(records.HISTORY), len(states))
        work = {records.NUM_TOLD: num_told, **work}
        for decoder in decoders_of(states.settings):
            report = {**report, **decoder.tells(states)}
        if not any(column.dtype == object for column in report.values()):
            configs = {records.WORK: work}
            return batch.reply(arrays={records.REPORT: report}, configs=configs), states
        # Runs of bytes differ in length: a batch for each length.
        rows_of: dict[tuple[int, ...], list[int]] = {}
        for row in range(len(batch)):
            lengths = tuple(np.size(column[row]) for column in report.values())
            rows_of.setdefault(lengths, []).append(row)
        groups = []
        for rows in map(np.array, rows_of.values()):
            told = {key: np.stack(list(column[rows])) for key, column in report.items()}
            spent = {key: column[rows] for key, column in work.items()}
            configs = {records.WORK: spent}
            reply = batch.select(rows).reply(arrays={records.REPORT: told}, configs=configs)
            groups.append((reply, rows))
        return joined(groups), states

    def _upload(self, batch: MessageBatch, states: DeviceStates) -> tuple[Replies, DeviceStates]:
        how = training_of(batch, states)
        examples = self.stream.labelled(
            LabelBudget(), states.device_ids, segment_of(batch), how.max_examples, how.num_negatives
        )
        examples = as_told(examples, batch, np.arange(len(states)))
        index = examples.row, examples.slot
        shape = len(states), int(examples.num_examples.max(initial=0))
        sent = {}
        for name, value in self.model.to_upload(examples.history, examples.candidates).items():
            sent[name] = np.zeros((*shape, *value.shape[1:]), value.dtype)
            sent[name][index] = value
        sent[records.NUM_EXAMPLES] = examples.num_examples.astype(np.int32)
        counts = dict.fromkeys((records.NUM_LABELS, records.NUM_TOLD), examples.num_examples)
        work = {**no_work(len(states)), **counts}
        return batch.reply(arrays={records.LABELLED: sent}, configs={records.WORK: work}), states

    def _train_in_place(
        self, batch: MessageBatch, states: DeviceStates
    ) -> tuple[Replies, DeviceStates]:
        how = training_of(batch, states)
        names = tuple(self.model.adaptive) if how.layers == "head" else tuple(states.static)
        idle = np.flatnonzero(states.pending < 0)  # the others still work on what they began before
        if not how.steps or not len(idle):
            return batch.reply(configs={records.WORK: no_work(len(states))}), states
        widened = states.widen(names)
        work, trained = self._train_on_labels(
            batch,
            states,
            idle,
            how,
            lambda rows: {name: widened.pool[name][states.in_use[idle[rows]]] for name in names},
        )
        # Names that are not trained stay as they are on each device.
        kept = {
            name: value[states.in_use[idle]]
            for name, value in widened.pool.items()
            if name not in trained
        }
        changed, offset = widened.add({**kept, **trained})
        pending = states.pending.copy()
        pending[idle] = offset + np.arange(len(idle))
        return batch.reply(configs={records.WORK: work}), replace(changed, pending=pending)

    def _train(self, batch: MessageBatch, states: DeviceStates) -> tuple[Replies, DeviceStates]:
        parts = [(batch.select(rows), rows) for rows in rows_told_alike(batch)]
        return joined(
            [(self._trained(part, states.select(rows)), rows) for part, rows in parts]
        ), states

    def _trained(self, batch: MessageBatch, states: DeviceStates) -> MessageBatch:
        """Trains the parameters that came to devices that are told the same."""
        sent = fitted_arrays(batch, states.static)
        how = training_of_arrays(batch, states, sent, self.model.adaptive)
        losses = np.zeros(len(states))
        work, trained = self._train_on_labels(
            batch,
            states,
            np.arange(len(states)),
            how,
            lambda rows: as_trained(sent, states.static, rows),
            losses,
        )
        metrics = {records.NUM_EXAMPLES: work[records.NUM_LABELS]}
        if loss_key := str(states.settings.get(records.TRAIN_LOSS, "")):
            metrics[loss_key] = losses
        return batch.reply(
            arrays={records.ARRAYS: trained},
            metrics={records.METRICS: metrics},
            configs={records.WORK: work},
        )

    def _train_on_labels(
        self,
        batch: MessageBatch,
        states: DeviceStates,
        rows: NDArray[np.int64],
        how: LocalTraining,
        start: Callable[[NDArray[np.int64]], Arrays],
        losses: NDArray[np.float64] | None = None,
    ) -> tuple[Work, Arrays]:
        """Trains on some devices, and returns the work ``[n]`` and parameters ``[rows, ...]``.

        The work is 0 for the others. See ``train_on_devices`` for ``losses``, ``[rows]``.
        """
        examples = self.stream.labelled(
            LabelBudget(),
            states.device_ids[rows],
            segment_of(batch),
            how.max_examples,
            how.num_negatives,
        )
        examples = as_told(examples, batch, rows)
        trained = train_on_devices(self.model, states.static, start, examples, how, losses)
        work = no_work(len(states))
        work[records.NUM_LABELS][rows] = examples.num_examples
        work[records.FLOPS][rows] = how.flops(self.model, examples.num_examples)
        return work, trained

    def _evaluate(self, batch: MessageBatch, states: DeviceStates) -> tuple[Replies, DeviceStates]:
        control = control_of(batch)
        if not control:
            return self._played(batch, states)
        begins = begun(states, control, self.model.adaptive)
        replies, after = self._played(batch, exchanged(begins, control))
        return replies, exchanged(after, control)

    def _played(self, batch: MessageBatch, states: DeviceStates) -> tuple[Replies, DeviceStates]:
        """Predicts a segment with the sets that devices use."""
        segment = segment_of(batch)
        clock = batch.configs.get(records.CLOCK, {})
        arrival_s = np.broadcast_to(
            np.asarray(clock.get(records.ARRIVAL_S, -np.inf), np.float64), len(states)
        )
        after, received, newest = receive(batch, states, self.model.adaptive)
        pools = [after.pool, received] if received else [after.pool]
        layers = sets_of(pools, newest) if tells_layers(batch) else {}
        work: Work = {}
        if received and states.settings.get(records.FINE_TUNING_STEPS):
            after, newest, work = self._fine_tune(batch, after.add(received)[0], newest)
            # Tuned parameters are in use once the work is done; they are in the pool already.
            arrival_s = arrival_s + work[records.FLOPS] / clock.get(records.FLOPS_PER_S, np.inf)
            received, pools = {}, [after.pool]

        scorer = Scorer(self.model, after.static, pools)
        scores, points = predicted(
            scorer, self.task, self.stream, after, newest, arrival_s, segment
        )
        reply = batch.reply(
            arrays={
                name: value
                for name, value in ((records.POINTS, points), (records.LAYERS, layers))
                if value
            },
            metrics={records.SCORES: scores},
            configs={records.WORK: work} if work else {},
        )
        # What a device still works on when the segment ends stays pending; what came late is in use
        # from then on.
        late = arrival_s >= self.stream.segment_starts_s[segment + 1]
        waits = late & (newest == states.pending)
        in_use = np.where(waits, states.in_use, newest)
        pending = np.where(waits, states.pending, -1)
        return reply, after.adopt(received, in_use, pending)

    def _fine_tune(
        self, batch: MessageBatch, states: DeviceStates, newest: NDArray[np.int64]
    ) -> tuple[DeviceStates, NDArray[np.int64], Work]:
        """Tunes the adaptive layers from the parameters that came.

        Returns:
            The states, the newest sets ``[n]``, and the work.
        """
        how = replace(
            LocalTraining.from_settings(states.settings),
            layers="head",
            proximal_mu=0.0,
            steps=int(states.settings[records.FINE_TUNING_STEPS]),
        )
        head = {name: states.pool[name] for name in self.model.adaptive}
        work, trained = self._train_on_labels(
            batch,
            states,
            np.arange(len(states)),
            how,
            lambda rows: {name: value[newest[rows]] for name, value in head.items()},
        )
        tuned = {name: value[newest] for name, value in states.pool.items() if name not in trained}
        states, offset = states.add({**tuned, **trained})
        return states, offset + np.arange(len(states)), work


def segment_of(batch: MessageBatch) -> int:
    """Finds the segment of a message: the clock's, or for a stock strategy its round less one.

    Raises:
        ValueError: If the message has neither.
    """
    clock = batch.configs.get(records.CLOCK, {})
    config = batch.configs.get(records.CONFIG, {})
    if records.SEGMENT in clock:
        return int(clock[records.SEGMENT])
    if records.SERVER_ROUND in config:
        return int(config[records.SERVER_ROUND]) - 1
    raise ValueError(
        f"{batch.message_type} must carry {records.SEGMENT} or {records.SERVER_ROUND}, got neither"
    )
