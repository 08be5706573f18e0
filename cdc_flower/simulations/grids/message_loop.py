"""Any ``ClientApp`` on the grids: its messages go through it one after the other."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.saveable import ANY, Arrays, Saved, taken
from cdc_flower.core.words import counted
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.identity import ensure_identity
from cdc_flower.wire.replies import Replies, joined
from cdc_flower.wire.save import content_array, content_of

#: Flower keeps node ids 0 and 1 for itself.
FIRST_NODE_ID = 2
#: Flower's error code for an app that raised.
APP_RAISED = 2


class MessageLoop:
    """Hands messages to any ``ClientApp``, one after the other, each with its own context."""

    def __init__(self, app: ClientApp) -> None:
        self.app = app

    def handle(self, batch: MessageBatch, states: "Contexts") -> tuple[Replies, "Contexts"]:
        """Plays messages: replies, and contexts after them.

        A message that raises gets Flower's error reply, and its context stays as it was.
        """
        ensure_identity()
        replies: list[Message] = []
        contexts = []
        for message, before in zip(batch, states.contexts, strict=True):
            context = replace(before, state=copy.deepcopy(before.state))
            try:
                replies.append(self.app(message, context))
                contexts.append(context)
            except Exception as error:  # a device's failure is the strategy's to see, as in Flower
                reason = f"{type(error).__name__}: {error}"
                replies.append(Message(Error(code=APP_RAISED, reason=reason), reply_to=message))
                contexts.append(before)
        return joined(MessageBatch.group(replies, is_reply=True)), Contexts(contexts)


class Contexts:
    """Holds the Flower contexts of devices."""

    def __init__(self, contexts: list[Context]) -> None:
        self.contexts = contexts

    @staticmethod
    def fresh(device_ids: NDArray[np.int64], num_devices: int) -> "Contexts":
        """Makes empty contexts, with the ``node_config`` of Flower's simulation."""
        return Contexts(
            [
                Context(
                    run_id=1,
                    node_id=int(device) + FIRST_NODE_ID,
                    node_config={"partition-id": int(device), "num-partitions": num_devices},
                    state=RecordDict(),
                    run_config={},
                )
                for device in device_ids
            ]
        )

    def __len__(self) -> int:
        return len(self.contexts)

    def select(self, rows: NDArray[np.int64]) -> "Contexts":
        """Selects the contexts of some devices."""
        return Contexts([self.contexts[row] for row in rows])

    def update(self, rows: NDArray[np.int64], changed: "Contexts") -> "Contexts":
        """Replaces the contexts of some devices."""
        contexts = list(self.contexts)
        for row, context in zip(rows, changed.contexts, strict=True):
            contexts[row] = context
        return Contexts(contexts)

    def joined(self, others: Sequence["Contexts"]) -> "Contexts":
        """Puts the contexts of more devices after these."""
        more = chain.from_iterable(other.contexts for other in others)
        return Contexts([*self.contexts, *more])

    def compact(self) -> "Contexts":
        """Gives these contexts: each has its own state alone."""
        return self

    def to_arrays(self) -> Arrays:
        """Takes the state of each context, as Flower writes it."""
        return {str(k): content_array(each.state) for k, each in enumerate(self.contexts)}

    def from_arrays(self, arrays: Saved) -> "Contexts":
        """Makes contexts of the same devices with saved states.

        Raises:
            UserError: If there are not as many.
        """
        if len(arrays) != len(self):
            devices = counted(len(self), "device")
            raise UserError(f"a saved run must be of {devices}, got {len(arrays)}")
        saved = [taken(arrays, str(k), np.uint8, (ANY,)) for k in range(len(self))]
        return Contexts(
            [
                replace(context, state=content_of(state))
                for context, state in zip(self.contexts, saved, strict=True)
            ]
        )
