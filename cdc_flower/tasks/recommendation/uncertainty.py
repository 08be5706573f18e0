"""IntellectReq's detector: a device reports where its old parameters would probably be wrong.

Lv et al., Intelligent Model Update Strategy for Sequential Recommendation, WWW 2024,
https://arxiv.org/abs/2302.07335

Two networks are trained in the cloud on historical data and deployed with the model. The *mapper*
is a conditional variational autoencoder of the next item given the recent ones, ``u``; how much its
samples vary is the uncertainty ``U``. The *detector* takes ``U`` and how the recent items differ
from those that the parameters in use were made of, ``t``, and gives the chance that these
parameters still predict well. It needs no label on the device.

Choices: ``u`` and ``t`` are means of item embeddings without padding (the released code has an MLP
and counts padding); noise is normal (released: uniform); ``t`` of a device that has not reported
yet is the mean over history.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from cdc_flower.core.saveable import Arrays, Saved
from cdc_flower.core.seeds import generator, torch_generator
from cdc_flower.tasks.protocol import Deployed
from cdc_flower.tasks.recommendation.history import HistoricalBatch
from cdc_flower.tasks.recommendation.sensor import HistorySensor, pool
from cdc_flower.tasks.sensing import Floats, Ints, device_rows, rows_of_devices
from cdc_flower.training.cloud import Cloud, History
from cdc_flower.training.fit import Batch, fit
from cdc_flower.training.scoring import tensors

#: Width of the latent state, prior samples (paper's code: 16 and 10), and the longest lag in
#: training.
LATENT, SAMPLES, MAX_LAG = 16, 10, 20
RATE = 1e-3


class Mapper(nn.Module):
    """p(next item | recent items), through a latent state.

    Args:
        width: Of item embeddings.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.prior = nn.Linear(width, LATENT)
        self.posterior = nn.Linear(2 * width, LATENT)
        self.prior_moments = nn.Linear(LATENT, 2 * LATENT)
        self.posterior_moments = nn.Linear(LATENT, 2 * LATENT)
        self.expand = nn.Linear(LATENT, width)
        self.item = nn.Linear(2 * width, width)

    def loss(self, u: Tensor, target: Tensor, label: Tensor, noise: Tensor) -> Tensor:
        """Adds the cross-entropy of ``⟨v̂, target⟩`` to |mean of ±KL|, + for true items.

        Args:
            u: ``[B, d]``, recent items.
            target: ``[B, d]``, the next one or another.
            label: ``[B]``, 1 for the next one and 0 for another.
            noise: ``[B, LATENT]``.
        """
        prior = self.prior_moments(torch.tanh(self.prior(u))).chunk(2, -1)
        posterior = self.posterior_moments(
            torch.tanh(self.posterior(torch.cat([u, target], -1)))
        ).chunk(2, -1)
        z = posterior[0] + noise * torch.exp(0.5 * posterior[1])
        logit = (self.decode(u, z) * target).sum(-1)
        ratio = (posterior[1] - prior[1]).exp() + (posterior[0] - prior[0]).square() / prior[
            1
        ].exp()
        kl = 0.5 * (ratio - 1 + prior[1] - posterior[1]).sum(-1)
        return (
            F.binary_cross_entropy_with_logits(logit, label) + ((2 * label - 1) * kl).mean().abs()
        )

    def decode(self, u: Tensor, z: Tensor) -> Tensor:
        """Decodes v̂, the embedding of the next item."""
        return self.item(torch.cat([u, self.expand(z)], -1))

    def uncertainty(self, u: Tensor, noise: Tensor) -> Tensor:
        """Sums ``[B]`` over prior samples the variance over the dimensions of v̂.

        ``noise`` is ``[SAMPLES, LATENT]``.
        """
        mean, log_variance = self.prior_moments(torch.tanh(self.prior(u))).chunk(2, -1)
        z = mean + noise[:, None] * torch.exp(0.5 * log_variance)
        return self.decode(u.expand(len(noise), *u.shape), z).var(-1, unbiased=False).sum(0)


class Detector(nn.Module):
    """Estimates the chance that parameters of ``t`` predict well after ``u``, as a logit."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.change, self.score = nn.Linear(2 * width, 1), nn.Linear(2, 1)

    def forward(self, t: Tensor, u: Tensor, uncertainty: Tensor) -> Tensor:
        """Estimates ``[B]``.

        Args:
            t: ``[B, d]``, items that parameters were made of.
            u: ``[B, d]``, recent items.
            uncertainty: ``[B]``, of the mapper.
        """
        change = torch.tanh(self.change(torch.cat([t, u], -1)))
        return self.score(torch.cat([change, uncertainty[:, None]], -1)).squeeze(-1)


@dataclass(frozen=True)
class Trained:
    """Both networks, the noise of the samples, and what held-out histories score, ascending."""

    mapper: Mapper
    detector: Detector
    noise: Tensor
    start: NDArray[np.float32]
    scores: NDArray[np.float32]

    @torch.no_grad()
    def score(self, t: NDArray[np.float32], u: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores ``[k]`` pairs of ``t`` and ``u`` ``[k, d]``, each by itself, as logits."""
        old, new = torch.from_numpy(t), torch.from_numpy(u)
        return self.detector(old, new, self.mapper.uncertainty(new, self.noise)).numpy()


class DetectorDoubt:
    """Estimates doubt by the detector, from how a device's data changed since its last report.

    Args:
        sensor: The devices' own statistics.
        trained: The networks.
    """

    def __init__(self, sensor: HistorySensor, trained: Trained) -> None:
        self.sensor, self.trained = sensor, trained
        self._told: dict[int, NDArray[np.float32]] = {}

    @property
    def held_out(self) -> NDArray[np.floating]:
        """``[m]``, of held-out histories, seen some events late."""
        return -self.trained.scores

    def of(self, device_ids: Ints, segment: int) -> Floats:
        """Estimates ``[k]``; a low score of the detector is much doubt."""
        now = self.sensor.pooled(device_ids, segment)
        start = self.trained.start
        told = np.stack([self._told.get(device, start) for device in device_ids.tolist()])
        return np.asarray(-self.trained.score(told, now))

    def reported(self, device_ids: Ints, segment: int) -> None:
        """Keeps what these devices look like: their next parameters are made of it."""
        if len(device_ids):
            now = self.sensor.pooled(device_ids, segment)
            self._told.update(zip(device_ids.tolist(), now, strict=True))

    def to_arrays(self) -> Arrays:
        """Takes what each device looked like when it reported last."""
        return device_rows(self._told)

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on with saved reports."""
        self._told = rows_of_devices(arrays)


class Cases:
    """Makes cases of historical examples: recent items, and parameters that are from the past.

    Args:
        cloud: Prepared.
        strategy: Prepared. If it has ``generate(history) -> layers``, stale parameters are those
            that it would have generated some events earlier; else they are the deployed ones.
    """

    def __init__(self, cloud: Cloud, strategy: Deployed) -> None:
        self.cloud = cloud
        self.deployed = tensors(strategy.deployment())
        self.embedding = self.deployed["embedding"].numpy()
        self._stale: Callable[[NDArray[np.int32]], Arrays] | None = getattr(
            strategy, "generate", None
        )

    def batches(self, history: History, epoch: int = 0) -> Iterable[HistoricalBatch]:
        """Makes the batches of an epoch."""
        cloud = self.cloud
        return history.batches(cloud.batch_size, epoch, cloud.seed, cloud.num_negatives)

    def recent(self, history: NDArray[np.int32]) -> Tensor:
        """Takes the mean embeddings ``[B, d]`` of histories ``[B, L]``."""
        return torch.from_numpy(pool(self.embedding, history))

    def choices(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs recent items with the true next one and with another.

        Returns:
            ``u [2 B, d]``, items ``[2 B, d]``, and which of them are true ``[2 B]``.
        """
        ids = torch.from_numpy(batch.candidates[:, :2]).long()
        u = self.recent(batch.history)
        label = torch.tensor([1.0, 0.0]).repeat(len(u))
        items = torch.from_numpy(self.embedding)[ids]
        return u.repeat_interleave(2, 0), items.flatten(0, 1), label

    @torch.no_grad()
    def seen(
        self, history: History, batch: HistoricalBatch, draw: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Looks at a batch through parameters of some events earlier.

        Args:
            history: Of the batch.
            batch: ``B`` examples.
            draw: Of how many events earlier.

        Returns:
            ``t``, ``u``, and whether the stale parameters put the true item above one half and the
            other below, ``[B, 2]``.
        """
        old = history.lagged(batch.rows, draw.integers(1, MAX_LAG + 1, len(batch.rows)))
        own = tensors(self._stale(old)) if self._stale is not None else {}
        if not set(own) <= set(self.cloud.model.adaptive):
            own = {}  # it generates something else than layers
        ids = (
            torch.from_numpy(batch.history).long(),
            torch.from_numpy(batch.candidates[:, :2]).long(),
        )
        logits = self.cloud.model.score({**self.deployed, **own}, *ids)
        right = (logits > 0) == torch.tensor([True, False])
        return self.recent(old), self.recent(batch.history), right.float()


def train_uncertainty(cloud: Cloud, strategy: Deployed, epochs: int) -> Trained:
    """Trains both networks on the history of a cloud: the mapper first, then the detector.

    Args:
        cloud: Prepared; its base model gives the embedding.
        strategy: As in :class:`Cases`.
        epochs: Of each network. 0 leaves it at its start.
    """
    cases, seed = Cases(cloud, strategy), cloud.seed
    width = cases.embedding.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_generator(seed, "uncertainty").initial_seed())
        mapper, detector = Mapper(width), Detector(width)
    noise = torch.randn(SAMPLES, LATENT, generator=torch_generator(seed, "uncertainty", "samples"))
    draws = torch_generator(seed, "uncertainty", "noise")
    lags = generator(seed, "uncertainty", "lag")

    def mapper_loss(batch: Batch) -> Tensor:
        u, items, label = cases.choices(batch)
        return mapper.loss(u, items, label, torch.randn(len(u), LATENT, generator=draws))

    def detector_loss(batch: Any) -> Tensor:
        t, u, right = cases.seen(cloud.train, batch, lags)
        with torch.no_grad():
            uncertainty = mapper.uncertainty(u, noise)
        logit = detector(t, u, uncertainty)
        return F.binary_cross_entropy_with_logits(logit[:, None].expand(-1, 2), right)

    def batches(epoch: int) -> Iterable[HistoricalBatch]:
        return cases.batches(cloud.train, epoch)

    for loss, network in ((mapper_loss, mapper), (detector_loss, detector)):
        if epochs:
            fit(loss, list(network.parameters()), batches, lambda: [], epochs=epochs, rate=RATE)
        network.eval().requires_grad_(False)
    means = [pool(cases.embedding, batch.history).mean(0) for batch in batches(0)]
    start = np.mean(means, 0).astype(np.float32)
    trained = Trained(mapper, detector, noise, start, np.empty(0, np.float32))
    return replace(trained, scores=_held_out_scores(trained, cases))


def _held_out_scores(trained: Trained, cases: Cases) -> NDArray[np.float32]:
    """Scores ``[m]`` held-out histories some events late, in ascending order."""
    cloud, late = cases.cloud, generator(cases.cloud.seed, "uncertainty", "validation-lag")
    held = []
    for batch in cases.batches(cloud.validation):
        t, u, _ = cases.seen(cloud.validation, batch, late)
        held.append(trained.score(t.numpy(), u.numpy()))
    return np.sort(np.concatenate(held or [np.zeros(1, np.float32)]))
