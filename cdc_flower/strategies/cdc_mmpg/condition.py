"""Conditions the adaptor: on the frames of a clip, an anchor frame, or what is reasoned from it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.models.layers import Parameters
from cdc_flower.models.video.blocks import blocks_of
from cdc_flower.models.video.ranking import VideoModel
from cdc_flower.strategies.cdc_mmpg.reasoner import AnchorFrameReasoner
from cdc_flower.tasks.video.clip_report import choose

ARMS = ("full_clip", "anchor_only", "anchor+adr", "one_for_all")
#: A feature that varies less than this, relative to its size, is taken for constant (a float32
#: holds 6e-8).
ROUNDING = 1e-5


@dataclass(frozen=True)
class Condition:
    """The feature that stands for a clip, by arm.

    * ``full_clip``: the mean over the features of all frames.
    * ``anchor_only``: the feature of the anchor frame.
    * ``anchor+adr``: μ of the distribution that is reasoned from the anchor; in training the mean
      of some samples of it, which stand for the frames of a clip.
    * ``one_for_all``: the same for every clip, the control: what training the layer further brings
      without telling clips apart. It is the mean feature, which the adaptor takes off, so that its
      products are 0 in any order of their sums; rounding would else be all the spread that its
      normalization finds, and be magnified by it.

    Where all frames are alike the first two are the same, up to rounding.

    Attributes:
        arm: One of ``ARMS``.
        anchor: Which frame; see :class:`~cdc_flower.tasks.video.clip_report.ClipReport`.
        reasoner: None except with ``anchor+adr``.
        seed: Of the run.
        num_samples: Of which the mean is taken in training; 0 for μ itself.
        mean: ``[Z]``, of features over historical data.
    """

    arm: str
    anchor: str
    reasoner: AnchorFrameReasoner | None
    seed: int
    num_samples: int
    mean: Tensor

    def of_report(self, features: Tensor) -> Tensor:
        """Makes ``[B, Z]`` of frames' features ``[B, m, Z]``; m is 1 with an anchor."""
        if self.arm == "full_clip":
            return features.mean(1)
        if self.arm == "one_for_all":
            return self.mean.expand_as(features[:, 0])
        if self.reasoner is None:
            return features[:, 0]
        return self.reasoner(features[:, 0])[0]

    def in_training(
        self, features: Tensor, clip_ids: NDArray[np.int64], noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Makes ``[B, Z]``, and the mismatch ``[B]`` of what was reasoned.

        Args:
            features: Of all frames, ``[B, n, Z]``.
            clip_ids: ``[B]``.
            noise: ``[B, Z]``, standard normal; z = μ + σ ⊙ noise / √num_samples. Zeros give μ.
        """
        none = features.new_zeros(len(features))
        if self.arm in ("full_clip", "one_for_all"):
            return self.of_report(features), none
        anchor = self.anchors(features, clip_ids)
        if self.reasoner is None:
            return anchor, none
        mu, variance = self.reasoner(anchor)
        mismatch = self.reasoner.mismatch(mu, variance, features)
        if not self.num_samples:
            return mu, mismatch
        return mu + (variance / self.num_samples).sqrt() * noise, mismatch

    def anchors(self, features: Tensor, clip_ids: NDArray[np.int64]) -> Tensor:
        """Chooses the feature ``[B, Z]`` of each clip's anchor frame from ``[B, n, Z]``."""
        chosen = choose(self.anchor, features, clip_ids, features.shape[1], self.seed)
        return features[torch.arange(len(features)), torch.from_numpy(chosen)]


def spread_of(features: Tensor) -> Tensor:
    """Gives each feature's standard deviation ``[Z]`` over ``[n, Z]``, to divide by.

    It is 1 for a feature that does not vary beyond rounding: division must not make a difference of
    that.
    """
    spread = features.std(0)
    return spread.masked_fill(spread <= ROUNDING * features.abs().amax(0), 1.0)


class FrameTable:
    """Features of the frames of clips, made once for each clip with the base model's static layers.

    Args:
        model: The device model.
        parameters: Its static layers.
    """

    def __init__(self, model: VideoModel, parameters: Parameters) -> None:
        self.model, self.parameters = model, parameters
        shape = model.clips.num_clips, model.clips.num_frames, model.width
        self._features = torch.zeros(shape)
        self._is_known = np.zeros(model.clips.num_clips, np.bool_)

    @torch.no_grad()
    def __call__(self, clip_ids: NDArray[np.int64]) -> Tensor:
        """Gives features ``[B, n, Z]`` of clips ``[B]``."""
        missing = torch.from_numpy(clip_ids[~self._is_known[clip_ids]])
        for block in blocks_of(missing, len(self._is_known)):
            frames = self.model.frames(block)
            self._features[block] = self.model.frame_features(self.parameters, frames)
            self._is_known[block.numpy()] = True
        return self._features[clip_ids]
