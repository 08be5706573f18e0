"""A device reports where it is unsure of its own answers, with the layers that it uses: no label, no second network.

The threshold is set in the cloud, on held-out historical questions and the deployed model, and
deployed with it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cdc_flower.models.video.ranking import VideoModel
from cdc_flower.simulations.requests.sensor import Floats, Ints
from cdc_flower.tasks.video.stream import VideoHistory
from cdc_flower.tasks.video.task import NUM_ANSWERS, entropy
from cdc_flower.training.scoring import Arrays, Scorer

#: Devices ``[k]`` and a segment -> how unsure they are, ``[k]``; see ``query.uncertainty`` of the
#: device app.
Ask = Callable[[Ints, int], Floats]


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


def held_out_doubts(model: VideoModel, deployed: Arrays, history: VideoHistory) -> Floats:
    """``[n * H]``: how unsure the deployed model is of the newest questions of devices after each historical segment.

    Args:
        model: Of the devices; ``deployed``: its layers, all of them.
        history: Held out from training, of ``n`` devices with ``H`` historical segments.
    """
    head = {name: deployed[name][None] for name in model.adaptive}
    scorer, doubts = Scorer(model, deployed, [head]), []
    for segment in range(1, history.table.num_historical + 1):
        asked, candidates = history.table.newest(history.device_ids, segment, NUM_ANSWERS)
        logits = scorer.score(np.zeros(len(asked), np.int64), asked, candidates)
        doubts.append(entropy(logits).reshape(-1, NUM_ANSWERS).mean(1))
    return np.concatenate(doubts)
