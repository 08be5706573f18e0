"""Hostile devices train on wrong labels, or upload them."""

from dataclasses import dataclass

import numpy as np

from cdc_flower.simulations.attacks.attack import Bools, HostileAttack, attacks
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

#: Messages whose receivers read labels.
_READ_LABELS = (records.TRAIN, records.TRAIN_LOCAL, records.TRAIN_UPLOAD)


@attacks.register("label_flip")
@dataclass(eq=False)
class LabelFlip(HostileAttack):
    """Lets a device take the last of the other candidates for the one that was chosen.

    Devices are told by an instrument record, behind the links, and flip labels before they train or
    upload. Reports hold no label, so strategies that only read reports are left alone.
    """

    def instructed(self, asked: MessageBatch, is_hostile: Bools) -> MessageBatch:
        """Tells hostile devices to flip labels.

        Args:
            asked: Messages to ``k`` devices.
            is_hostile: ``[k]``.
        """
        if asked.message_type not in _READ_LABELS or not is_hostile.any():
            return asked
        told = {records.FLIPS_LABELS: is_hostile.astype(np.int64)}
        return asked.with_records(configs={records.ATTACK: told})
