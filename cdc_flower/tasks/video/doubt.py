"""Doubt of a device in its own answers, with the layers that it uses: no label, no second network.

The threshold is set in the cloud, on held-out historical questions and the deployed model, and
deployed with it.
"""

from dataclasses import dataclass

import numpy as np
import scipy.special
from numpy.typing import NDArray

from cdc_flower.core.saveable import Saved
from cdc_flower.models.video.ranking import VideoModel
from cdc_flower.tasks.sensing import Ask, Floats, Ints
from cdc_flower.tasks.video.stream import VideoHistory
from cdc_flower.training.scoring import Arrays, Scorer

#: Answers of a device by which it tells how unsure it is.
NUM_ANSWERS = 8


@dataclass(frozen=True)
class OwnAnswers:
    """Estimates doubt by the mean entropy of a device's newest answers.

    For layers that were made for a device may be surer or less sure, the share of devices above a
    threshold may be another than on held-out data.

    Attributes:
        held_out: ``[m]``, of held-out devices before historical segments; see
            :func:`held_out_doubts`.
        ask: Asks devices, as they are when they decide.
    """

    held_out: Floats
    ask: Ask

    def of(self, device_ids: Ints, segment: int) -> Floats:
        """Asks them ``[k]``, in nats."""
        return self.ask(device_ids, segment)

    def reported(self, device_ids: Ints, segment: int) -> None:
        """Keeps nothing: answers are those of the layers in use."""

    def to_arrays(self) -> Arrays:
        """Takes nothing, as nothing is kept."""
        return {}

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on, as nothing is kept."""


def held_out_doubts(model: VideoModel, deployed: Arrays, history: VideoHistory) -> Floats:
    """Measures ``[n * H]``, how unsure the deployed model is after each historical segment.

    As on devices, it goes by the newest questions before that moment.

    Args:
        model: Of the devices.
        deployed: Its layers, all of them.
        history: Held out from training, of ``n`` devices with ``H`` historical segments.
    """
    head = {name: deployed[name][None] for name in model.adaptive}
    scorer, doubts = Scorer(model, deployed, [head]), []
    for segment in range(1, history.table.num_historical + 1):
        asked, candidates = history.table.newest(history.device_ids, segment, NUM_ANSWERS)
        logits = scorer.score(np.zeros(len(asked), np.int64), asked, candidates)
        doubts.append(entropy(logits).reshape(-1, NUM_ANSWERS).mean(1))
    return np.concatenate(doubts)


def entropy(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Measures the entropy ``[T]`` of softmaxes ``[T, C]``, in nats.

    Where a logit is no number it is that of even chances.
    """
    with np.errstate(invalid="ignore"):
        shares = np.exp(scipy.special.log_softmax(logits.astype(np.float64), 1))
    value = scipy.special.entr(shares).sum(1)
    return np.where(np.isnan(value), np.log(logits.shape[1]), value)
