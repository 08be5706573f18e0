"""The registry of reference lines, and what they are made of.

A line is made once for a stream; then it scores the candidates of a batch::

    @references.register("popularity", default_place=1)
    def popularity(known: Known) -> Line:
        \"\"\"Ranks by the share of each item in the historical part.\"\"\"
        share = known.counts.share
        return lambda data, segment: known.logits(share[data.candidates])

Candidates beside the true one are drawn evenly from the items that exist (for data that say so,
from those that the device never chose). Where all candidates were equally likely to be drawn, the
best ranking is by the chance of each item alone, and so ranks every line here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.registry import Registry
from cdc_flower.core.stream import SegmentBatch, TruthReader
from cdc_flower.tasks.protocol import ReferenceFacts
from cdc_flower.tasks.recommendation.laws.known import KnownLaw
from cdc_flower.tasks.recommendation.metrics import LOSS_NEGATIVES
from cdc_flower.tasks.recommendation.references.counts import Counts
from cdc_flower.tasks.recommendation.stream import EventStream
from cdc_flower.training.cloud import Cloud

#: Of what the law forbids: a score has to be a number.
LEAST_CHANCE = 1e-12
#: A batch and its segment -> a logit of each candidate ``[T, C]``.
Line = Callable[[SegmentBatch, int], NDArray[np.float32]]


@dataclass(frozen=True)
class Known(TruthReader):
    """Holds all that a reference line may know.

    Attributes:
        stream: Of the devices.
        train: Trains the cloud, or gives it where it is trained.
    """

    stream: EventStream
    train: Callable[[], Cloud]

    @cached_property
    def counts(self) -> Counts:
        """Counts the historical part."""
        return Counts.of(self.stream.historical())

    @property
    def law(self) -> KnownLaw:
        """Gives the law of the stream.

        Raises:
            UserError: If nobody knows it.
        """
        found = self.stream.law(self) if hasattr(self.stream, "law") else None
        if found is None:
            raise UserError("references must be such as popularity: nobody knows the data's law")
        return found

    def logits(self, chances: NDArray[np.float64]) -> NDArray[np.float32]:
        """Turns chances into logits: right for one true item among 4 of all, as in training."""
        least = np.maximum(chances, LEAST_CHANCE)
        return np.log(least * self.stream.num_items / LOSS_NEGATIVES).astype(np.float32)


#: Functions of what is known that make a :data:`Line`.
references: Registry[Callable[..., object], ReferenceFacts] = Registry(
    "reference", "references", ReferenceFacts, "cdc_flower.tasks.recommendation.references"
)
