"""A device reports where it is unsure of its own answers, with the layers that it uses: no label, no second network.

The threshold is set in the cloud, on held-out historical questions and the deployed model, and
deployed with it.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cdc_flower.models.video.ranking import VideoModel
from cdc_flower.simulations.requests.policies import share
from cdc_flower.simulations.requests.sensor import Floats, Ints
from cdc_flower.tasks.video.stream import VideoHistory
from cdc_flower.tasks.video.task import NUM_ANSWERS, entropy
from cdc_flower.training.scoring import Arrays, Scorer

#: Devices ``[k]`` and a segment -> how unsure they are, ``[k]``; see ``query.answers`` of the
#: device app.
Ask = Callable[[Ints, int], Floats]


class OwnAnswers:
    """Reports where the mean entropy of a device's newest answers is above a threshold.

    Args:
        doubts: ``[m]``, of held-out devices before historical segments; see
            :func:`held_out_doubts`.
        rate: Share of them that would report: the threshold. 0 is never, 1 is always. The share of
            the devices that really report may be another, for layers that were made for them may be
            surer or less sure.

    Attributes:
        ask: Asks devices, as they are when they decide. Set by the grid that plays them.

    Raises:
        UserError: If the rate is not in [0, 1].
    """

    ask: Ask

    def __init__(self, doubts: Floats, rate: float) -> None:
        rate = share("policy.rate", rate)
        self.threshold = (
            -np.inf if rate == 1 else np.inf if rate == 0 else float(np.quantile(doubts, 1 - rate))
        )

    def decide(self, device_ids: Ints, segment: int) -> NDArray[np.bool_]:
        """Ask them, and compare."""
        return np.asarray(self.ask(device_ids, segment) > self.threshold)


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
