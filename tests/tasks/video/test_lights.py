"""A frame tells what follows from a light, as the cloud sees it, also where nobody has been."""

import numpy as np
from numpy.typing import NDArray
from torch import from_numpy, no_grad

from cdc_flower.core.seeds import torch_generator
from cdc_flower.models.video.ranking import VideoQA
from cdc_flower.tasks.data.moving_digits import DigitsOptions
from cdc_flower.tasks.video.moving_digits import DrawnClips, digits_stream

NUM_DEVICES, NUM_PAST, NUM_NOW = 60, 4, 4


def accuracy_at_unseen_places(slot: int) -> tuple[float, float]:
    """Fits a linear probe to one frame's features at historical places, and tries it at others.

    The features are those of a model before any training.

    Args:
        slot: Of the clip in its segment; a segment opens with 0.
    """
    options = DigitsOptions(
        num_places=48,
        num_namings=4,
        systematic=1.0,
        white_balance=1.0,
        unseen_from=0,
        history_segments=NUM_PAST,
    )
    clips = digits_stream(NUM_DEVICES, NUM_NOW, options, seed=5).table.clips
    assert isinstance(clips, DrawnClips)
    cell = np.arange(clips.place.size)
    frames = clips.frames(cell * clips.clips_per_segment + slot)[:, 1:2]
    model = VideoQA(clips, 16)
    with no_grad():
        seen = model.frame_features(model.init(torch_generator(0, "model")), from_numpy(frames))
    feature = seen[:, 0].numpy().astype(np.float64)
    feature = np.c_[(feature - feature.mean(0)) / feature.std(0), np.ones(len(feature))]
    is_past = cell % clips.place.shape[1] < NUM_PAST
    place = clips.place.reshape(-1)

    def right(wanted: NDArray[np.int64]) -> float:
        past = feature[is_past]
        square = past.T @ past + np.eye(past.shape[1])
        weights = np.linalg.solve(square, past.T @ np.eye(4)[wanted[is_past]])
        return float(((feature @ weights).argmax(1) == wanted)[~is_past].mean())

    return right(clips.places.naming[place]), right(clips.places.is_mirrored[place].astype(int))


def test_a_linear_probe_on_the_frame_that_opens_a_segment_tells_names_and_mirror() -> None:
    naming, mirror = accuracy_at_unseen_places(slot=0)
    print(f"opening frame: naming {naming:.3f} (chance .25), mirror {mirror:.3f} (chance .50)")
    assert naming > 0.75 and mirror > 0.75


def test_where_the_light_is_balanced_away_the_probe_tells_nothing() -> None:
    naming, mirror = accuracy_at_unseen_places(slot=3)
    print(f"later frame: naming {naming:.3f} (chance .25), mirror {mirror:.3f} (chance .50)")
    assert naming < 0.4 and mirror < 0.65
