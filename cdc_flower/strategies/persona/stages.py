"""Persona's training in the cloud, in stages that are kept one by one (see ``cache``).

    S1   global editor        on the base model; static layers frozen, or with ``joint`` trained
    S2   groups               k-means over historical samples
    S3a  group prototypes     the base model's head, trained on each group's samples
    S3b  group editors        the global editor, except for its feature, on top of each prototype

The base model itself (S0) is trained before any strategy.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.core.options import training_values
from cdc_flower.core.seeds import generator, torch_generator
from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.base import Cloud, History, Stage
from cdc_flower.strategies.past import Examples, NumberedBatch, ReportedPast
from cdc_flower.strategies.persona.editor import ParameterEditor
from cdc_flower.strategies.persona.prototypes import cluster, nearest

#: Samples that go through the editor at a time.
SAMPLES_PER_CHUNK = 8192
#: Share of the samples from which on a group counts as all of them.
ONE_GROUP = 0.99


@dataclass(frozen=True)
class Groups:
    """The result of S2.

    Attributes:
        settings: All that it depends on beside S1, as plain values.
        centers: ``[N, c]``.
        train: ``[M]``, the group of each training example.
        validation: The same of held-out ones.
    """

    settings: Mapping[str, object]
    centers: Tensor
    train: NDArray[np.int64]
    validation: NDArray[np.int64]

    @property
    def sizes(self) -> list[int]:
        """Counts the training examples of each group."""
        return [int(count) for count in np.bincount(self.train, minlength=len(self.centers))]


@dataclass(frozen=True)
class Stages:
    """Stages of one training: data and options that they have in common.

    Attributes:
        cloud: Data and base model.
        editor: Functions of the editor.
        epochs: Of every stage at most.
        rate: Of Adam.
        joint: Whether S1 trains the static layers along.
        past: Reports of historical examples.
    """

    cloud: Cloud
    editor: ParameterEditor
    epochs: int
    rate: float
    joint: bool
    past: ReportedPast

    @property
    def settings(self) -> dict[str, object]:
        """Lists all that S1 depends on beside the cloud, as plain values."""
        own = {"epochs": self.epochs, "rate": self.rate, "joint": self.joint}
        return {**training_values(self.editor), **own, **self.past.settings}

    def global_editor(self) -> tuple[Parameters, Parameters]:
        """Trains S1: the device model (head of the base model) and the editor's parameters."""
        cloud, editor = self.cloud, self.editor
        model = {name: value.detach().clone() for name, value in cloud.parameters.items()}
        own = editor.init(torch_generator(cloud.seed, "persona"))
        static = [
            value
            for name, value in model.items()
            if name not in cloud.model.adaptive and self.joint
        ]
        leaves = [*editor.trained(own).values(), *static]
        fixed = None if self.joint else cloud.model.tabulate(model)
        seen_with = model if self.joint else cloud.model.tabulate_sequences(model)

        def loss(examples: Examples) -> Tensor:
            shared = cloud.model.tabulate(model) if fixed is None else fixed
            embeddings = editor.embeddings(own, editor.feature(own, seen_with, examples.reported))
            x, targets = cloud.model.encode(shared, examples.history, examples.candidates)
            logits = cloud.model.match(editor.head(own, embeddings, model, x), targets)
            return cloud.model.loss(logits).mean()

        self._fit("persona: global editor", {**model, **own}, leaves, loss)
        return model, own

    def group(
        self,
        model: Parameters,
        own: Parameters,
        num_groups: int,
        *,
        cluster_on: str,
        max_samples: int,
    ) -> Groups:
        """Makes S2: k-means over samples, and for every sample its nearest center.

        Args:
            model: Of S1.
            own: The editor's parameters of S1.
            num_groups: N.
            cluster_on: ``edits`` or ``embeddings``.
            max_samples: That k-means is fitted on at most.
        """
        train, validation = (
            self.points(model, own, part, cluster_on)
            for part in (self.cloud.train, self.cloud.validation)
        )
        order = generator(self.cloud.seed, "persona", "samples").permutation(len(train))
        chosen = torch.from_numpy(np.sort(order[:max_samples]))
        centers = cluster(train[chosen], num_groups, self.cloud.seed)
        settings = {"num_groups": num_groups, "cluster_on": cluster_on, "max_samples": max_samples}
        return Groups(settings, centers, nearest(train, centers), nearest(validation, centers))

    def prototypes(
        self, model: Parameters, groups: Groups, names: Iterable[str]
    ) -> list[Parameters]:
        """Trains S3a: for each group a copy of layers of the model, on the group's samples.

        Args:
            model: Of S1.
            groups: Of S2.
            names: Of the layers.
        """
        names, device_model, trained = list(names), self.cloud.model, []
        only_head = set(names) <= set(device_model.adaptive)
        fixed = device_model.tabulate(model) if only_head else None
        for index in range(len(groups.centers)):
            layers = {name: model[name].detach().clone() for name in names}

            def loss(examples: Examples, layers: Parameters = layers) -> Tensor:
                shared = (
                    device_model.tabulate({**model, **layers})
                    if fixed is None
                    else {**fixed, **layers}
                )
                return device_model.loss(
                    device_model.score(shared, examples.history, examples.candidates)
                ).mean()

            what = f"persona: prototype {index + 1} of {len(groups.centers)}"
            self._fit(what, layers, list(layers.values()), loss, groups, index)
            trained.append(layers)
        return trained

    def group_editors(
        self, model: Parameters, own: Parameters, prototypes: list[Parameters], groups: Groups
    ) -> list[Parameters]:
        """Trains S3b: for each group a copy of the editor behind the feature, on its prototype.

        Args:
            model: Of S1.
            own: The editor's parameters of S1.
            prototypes: Of S3a.
            groups: Of S2.
        """
        editor, device_model, trained = self.editor, self.cloud.model, []
        fixed, seen_with = device_model.tabulate(model), device_model.tabulate_sequences(model)
        for index, prototype in enumerate(prototypes):
            mine = {
                name: value.detach().clone()
                for name, value in own.items()
                if not name.startswith("feature.")
            }
            whole = {**own, **mine}
            layers = {name: prototype[name] for name in device_model.adaptive}

            def loss(
                examples: Examples, whole: Parameters = whole, layers: Parameters = layers
            ) -> Tensor:
                with torch.no_grad():
                    feature = editor.feature(whole, seen_with, examples.reported)
                    x, targets = device_model.encode(fixed, examples.history, examples.candidates)
                y = editor.head(whole, editor.embeddings(whole, feature), layers, x)
                return device_model.loss(device_model.match(y, targets)).mean()

            what = f"persona: editor {index + 1} of {len(prototypes)}"
            self._fit(what, mine, list(editor.trained(mine).values()), loss, groups, index)
            trained.append(whole)
        return trained

    @torch.no_grad()
    def points(
        self, model: Parameters, own: Parameters, history: History, cluster_on: str
    ) -> Tensor:
        """Places historical samples, ``[M, c]``, by what their devices would have told.

        A device is placed when it reports, so a sample is too: its report has an age of its own.

        Args:
            model: Parameters of the device model.
            own: Parameters of the editor.
            history: The samples.
            cluster_on: ``edits`` or ``embeddings``; see :func:`points`.
        """
        editor, seen_with = self.editor, self.cloud.model.tabulate_sequences(model)
        draws = generator(self.cloud.seed, "persona", "placing-lag")
        parts = []
        for start in range(0, history.num_examples, SAMPLES_PER_CHUNK):
            rows = np.arange(start, min(start + SAMPLES_PER_CHUNK, history.num_examples))
            reported = self.past.at(history, rows, self.past.lags(len(rows), draws))
            parts.append(points(editor, own, editor.feature(own, seen_with, reported), cluster_on))
        return torch.cat(parts) if parts else torch.zeros(0, 1)

    def _fit(
        self,
        what: str,
        kept: Parameters,
        leaves: list[Tensor],
        loss: Callable[[Examples], Tensor],
        groups: Groups | None = None,
        index: int = 0,
    ) -> None:
        """Trains one stage. A group without examples keeps what it has.

        Args:
            what: Name of the stage.
            kept: Tensors that make the result, changed in place.
            leaves: Those that are trained.
            loss: Mean loss of a batch.
            groups: Of S2; None: on all examples.
            index: Of the group on whose examples it is trained.
        """
        cloud = self.cloud
        batches: Callable[[int], Iterable[NumberedBatch]] = cloud.batches
        held_out: Callable[[], Iterable[NumberedBatch]] = cloud.held_out
        count: int | None = None
        if groups is not None:
            train, validation = (
                np.flatnonzero(groups.train == index),
                np.flatnonzero(groups.validation == index),
            )
            if not len(train):
                return
            count = -(-len(train) // cloud.batch_size)
            if cloud.examples_per_epoch is not None:
                share = len(train) / len(groups.train) * cloud.examples_per_epoch
                count = max(1, min(count, round(share / cloud.batch_size)))
            batches = partial(rows_in_batches, cloud, cloud.train, train, num_batches=count)
            held_out = partial(rows_in_batches, cloud, cloud.validation, validation)
        for leaf in leaves:
            leaf.requires_grad_()
        settings = {**self.settings, **(groups.settings if groups else {}), "tensors": sorted(kept)}
        cloud.fit(
            Stage(what, settings, kept, leaves, self.epochs, self.rate),
            loss,
            batches=lambda epoch: self.past.examples(
                cloud.train, batches(epoch), generator(cloud.seed, what, "lag", epoch)
            ),
            held_out=lambda: self.past.examples(
                cloud.validation, held_out(), generator(cloud.seed, what, "validation-lag")
            ),
            num_batches=count,
        )
        for leaf in leaves:
            leaf.requires_grad_(False)


def remark_groups(cloud: Cloud, groups: Groups) -> None:
    """Remarks in the cloud's diary that groups became one, with their sizes."""
    sizes = groups.sizes
    if len(sizes) > 1 and max(sizes) >= ONE_GROUP * sum(sizes):
        cloud.diary.remark(
            f"its {len(sizes)} groups became one ({', '.join(map(str, sizes))} training examples), "
            f"for samples do not differ in {groups.settings['cluster_on']}"
        )


def rows_in_batches(
    cloud: Cloud,
    history: History,
    rows: NDArray[np.int64],
    epoch: int = 0,
    num_batches: int | None = None,
) -> Iterable[NumberedBatch]:
    """Makes batches of some examples in a new order for each pass; the last may be smaller.

    Args:
        cloud: Size of the batches, and the seed.
        history: Of the examples.
        rows: ``[m]``, which examples.
        epoch: Where passes are longer than an epoch, they go on from epoch to epoch.
        num_batches: Of an epoch; None: one pass, in order.
    """
    size = cloud.batch_size
    whole = -(-len(rows) // size)
    if num_batches is None:
        for start in range(0, len(rows), size):
            yield history.batch(rows[start : start + size], epoch, cloud.seed, cloud.num_negatives)
        return
    for number in range(epoch * num_batches, (epoch + 1) * num_batches):
        done, batch = divmod(number, whole)
        order = generator(cloud.seed, "group-order", done).permutation(len(rows))
        chosen = rows[order[batch * size : (batch + 1) * size]]
        yield history.batch(chosen, done, cloud.seed, cloud.num_negatives)


def points(editor: ParameterEditor, own: Parameters, feature: Tensor, cluster_on: str) -> Tensor:
    """Places devices, ``[n, c]``: by the coordinates of their edits, or by their embeddings.

    Args:
        editor: Functions of the editor.
        own: Its parameters.
        feature: ``[n, w]``.
        cluster_on: ``edits`` or ``embeddings``.
    """
    embeddings = editor.embeddings(own, feature)
    return (
        editor.coordinates(own, embeddings) if cluster_on == "edits" else torch.cat(embeddings, -1)
    )
