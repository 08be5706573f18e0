"""Reference lines on video: what the law permits, and what the adaptive layers can say of it."""

import numpy as np
import pytest
from video_tiny import video_cloud, video_stream, video_task

from cdc_flower.core.errors import UserError
from cdc_flower.tasks.video.moving_digits import drawn_at
from cdc_flower.tasks.video.references import Known, references
from cdc_flower.tasks.video.references.ceiling import fit_to_places
from cdc_flower.tasks.video.references.frames import reference_frames

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


def test_layers_fitted_to_true_places_answer_more_than_the_base_model_at_unseen_places() -> None:
    stream = video_stream(**KNOBS)
    cloud = video_cloud(stream)
    known = Known(stream, lambda: cloud)
    line = references["ceiling"].value(known)
    task, right = video_task(stream), {"base": 0, "ceiling": 0}
    from cdc_flower.training.scoring import Scorer

    base = Scorer(cloud.model, cloud.arrays(), [{k: v[None] for k, v in cloud.arrays().items()}])
    for segment in range(3, stream.num_segments):
        data = stream.segment(np.arange(stream.num_devices), segment)
        plain = base.score(np.zeros(len(data.row), np.int64), data.history, data.candidates)
        for name, logits in (("base", plain), ("ceiling", line(data))):
            right[name] += task.score(logits, data)[0]["value-sum"][:, 0].sum()
    assert right["ceiling"] > right["base"]


def test_places_of_the_same_names_and_mirror_share_layers() -> None:
    stream = video_stream(**KNOBS)
    fitted = fit_to_places(video_cloud(stream), Known(stream, no_cloud))
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
