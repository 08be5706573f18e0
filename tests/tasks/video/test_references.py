"""Reference lines on video: what the law permits, and what the adaptive layers can say of it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from video_tiny import video_cloud, video_stream, video_task

from cdc_flower.core.errors import UserError
from cdc_flower.models.video.ranking import VideoModel
from cdc_flower.tasks.video.moving_digits import drawn_at
from cdc_flower.tasks.video.references import Known, ceiling, references
from cdc_flower.tasks.video.references.frames import reference_frames
from cdc_flower.tasks.video.stream import VideoStream
from cdc_flower.training.cloud import Cloud
from cdc_flower.training.scoring import Scorer

LABELS = {"run_id": "a", "experiment": "", "seed": 0, "task": "video_qa"}
KNOBS = {"systematic": 1.0, "unseen_from": 3, "num_namings": 2}


def no_cloud() -> None:
    raise AssertionError("an oracle must need no training")


@pytest.mark.parametrize("captions", [False, True])
def test_the_oracle_is_always_right_but_where_captions_are_alike(captions: bool) -> None:
    stream = video_stream(captions)
    frames = reference_frames(
        video_task(stream), ["oracle"], Known(stream, no_cloud), labels=LABELS
    )
    rows = list(frames)
    assert len(rows) == stream.num_segments
    for frame in rows:
        of_metric = frame.groupby("metric", observed=True)[["value_sum", "value_count"]].sum()
        value = of_metric.value_sum / of_metric.value_count
        assert value["r@1" if captions else "accuracy"] > 0.95
        if not captions:
            assert value["accuracy"] == 1.0 and value["log_loss"] < 1e-6


def test_further_draws_are_at_every_place_and_no_clip_of_a_device() -> None:
    stream = video_stream(**KNOBS)
    clips = stream.table.clips
    table = drawn_at(clips, 3)
    assert table.num_devices == 8 and (table.clips.place == np.arange(8)[:, None]).all()
    ids = np.arange(8)
    assert (table.clips.frames(ids) != clips.frames(ids)).any((1, 2, 3, 4)).all()


@dataclass(frozen=True)
class Answered:
    """What the base model and the ceiling answer, event by event.

    Attributes:
        base: Logits ``[E, C]`` of the trained base model.
        ceiling: The same of the ceiling.
        positive: ``[E]``, the true candidates.
        place: ``[E]``, the true places.
        segment: ``[E]``.
    """

    base: torch.Tensor
    ceiling: torch.Tensor
    positive: torch.Tensor
    place: np.ndarray
    segment: np.ndarray

    def losses(self, logits: torch.Tensor) -> np.ndarray:
        """``-log p`` of each event."""
        each = torch.nn.functional.cross_entropy(logits, self.positive, reduction="none")
        return each.numpy()


@pytest.fixture(scope="module")
def briefly_fitted() -> Iterator[None]:
    """Fits in few steps over small batches, which show the same in a tenth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        brief = {"NUM_STEPS": 80, "BATCH_SIZE": 48, "NUM_DRAWS": 600, "RATE": 1e-2}
        for name, value in brief.items():
            patch.setattr(ceiling, name, value)
        yield


@pytest.fixture(scope="module")
def stream() -> VideoStream:
    return video_stream(**KNOBS)


@pytest.fixture(scope="module")
def cloud(stream: VideoStream) -> Cloud:
    return video_cloud(stream)


@pytest.fixture(scope="module")
def fitted(briefly_fitted: None, stream: VideoStream, cloud: Cloud) -> ceiling.Fitted:
    return ceiling.fit_to_places(cloud, Known(stream, lambda: cloud))


@pytest.fixture(scope="module")
def answered(stream: VideoStream, cloud: Cloud, fitted: ceiling.Fitted) -> Answered:
    known = Known(stream, lambda: cloud)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ceiling, "fit_to_places", lambda *_: fitted)
        line = references["ceiling"].value(known)
    alone = {name: value[None] for name, value in cloud.arrays().items()}
    base = Scorer(cloud.model, cloud.arrays(), [alone])
    parts: list[tuple[np.ndarray, ...]] = []
    for segment in range(stream.num_segments):
        data = stream.segment(np.arange(stream.num_devices), segment)
        positive, place, _ = data.truth.read(known)
        first = np.zeros(len(data.row), np.int64)
        plain = base.score(first, data.history, data.candidates)
        rows = place[data.row]
        parts.append((plain, line(data), positive.astype(np.int64), rows, first + segment))
    whole = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
    return Answered(*(torch.from_numpy(column) for column in whole[:3]), *whole[3:])


def test_layers_fitted_to_true_places_answer_better_than_the_base_model_at_each_kind_of_place(
    answered: Answered, fitted: ceiling.Fitted
) -> None:
    gain = answered.losses(answered.base) - answered.losses(answered.ceiling)
    way = fitted.way_of_place[answered.place]
    assert set(way) == {0, 1, 2, 3}
    for each in range(4):
        assert gain[way == each].mean() > 0.3
    assert gain[answered.segment >= KNOBS["unseen_from"]].mean() > 0.3


def test_the_ceiling_leaves_the_trained_model_and_its_clips_alone(
    answered: Answered, stream: VideoStream, cloud: Cloud
) -> None:
    assert isinstance(cloud.model, VideoModel) and cloud.model.clips is stream.table.clips
    again = video_cloud(stream)
    for name, value in again.parameters.items():
        assert torch.equal(cloud.parameters[name], value)


def test_places_of_the_same_names_and_mirror_share_layers(
    stream: VideoStream, fitted: ceiling.Fitted
) -> None:
    places = stream.table.clips.places
    assert len(fitted.layers["head.0.bias"]) == 4
    kinds = places.naming * 2 + places.is_mirrored
    assert len({*zip(kinds.tolist(), fitted.way_of_place.tolist(), strict=True)}) == 4


def test_references_need_places_that_are_known() -> None:
    stream = video_stream()

    class Table:
        clips = object()

    class Other:
        table = Table()

    with pytest.raises(UserError, match="references need data whose places are known"):
        _ = Known(Other(), no_cloud).clips  # type: ignore[arg-type]
    assert stream.table.clips is Known(stream, no_cloud).clips
