"""Small devices with video, for the tests of strategies."""

import copy
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from tiny import LABELS, NUM_DEVICES, NUM_SEGMENTS, fleet

from cdc_flower.core.seeds import torch_generator
from cdc_flower.devices.app import DeviceApp
from cdc_flower.models.video.ranking import VideoModel, VideoQA, VideoRetrieval
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.strategies import build_strategy
from cdc_flower.strategies.base import Cloud
from cdc_flower.study.play import play
from cdc_flower.tasks.video.moving_digits import digits_stream
from cdc_flower.tasks.video.stream import VideoStream
from cdc_flower.tasks.video.task import VideoAnswers, VideoSearch, VideoTask
from cdc_flower.training.fit import fit

#: Settings under which a strategy does something in little time.
VIDEO_SETTINGS: dict[str, dict[str, Any]] = {
    "static": {},
    "fine_tuning": {"steps": 2, "rate": 0.05, "max_examples": 4},
    "cloud_fine_tuning": {"steps": 2, "rate": 0.05, "max_examples": 4},
    "fedavg": {
        "layers": "head",
        "num_train_devices": 3,
        "steps": 2,
        "rate": 0.05,
        "max_examples": 4,
    },
    "duet": {"epochs": 2, "rate": 0.01, "width": 8, "decoder_width": 8, "joint": False},
    "cdc_mmpg": {"epochs": 2, "rate": 0.02, "hidden": 8, "adr_hidden": 8},
    "apg": {"epochs": 2, "rate": 0.01, "rank": 4, "width": 8, "joint": False},
    "group_fine_tuning": {"num_groups": 2, "epochs": 2, "rate": 0.01, "width": 8},
    "persona": {"num_prototypes": 2, "refinement_rate": 0.5, "epochs": 2, "rate": 0.01, "width": 8},
}
SIZES = {"width": 16, "depth": 1, "heads": 2, "stem": 16}


@lru_cache(maxsize=8)
def video_stream(
    captions: bool = False, num_devices: int = NUM_DEVICES, **knobs: Any
) -> VideoStream:
    small = {
        "clips_per_segment": 4,
        "history_segments": 3,
        "num_places": 4,
        "num_namings": 4,
        **knobs,
    }
    return digits_stream(num_devices, NUM_SEGMENTS, seed=0, captions=captions, **small)


def video_model(stream: VideoStream) -> VideoModel:
    if stream.table.num_answers:
        return VideoQA(stream.table.clips, stream.table.num_answers, 24, **SIZES)
    return VideoRetrieval(stream.table.clips, 8, 24, **SIZES)


def video_task(stream: VideoStream) -> VideoTask:
    return VideoAnswers(stream.table.kinds) if stream.table.num_answers else VideoSearch()


@lru_cache(maxsize=8)
def _trained(stream: VideoStream) -> dict[str, torch.Tensor]:
    model, (train, validation) = video_model(stream), stream.historical().split(0.25, 0)
    parameters = model.init(torch_generator(0, "model"))
    leaves = [value.requires_grad_() for value in parameters.values()]

    def loss(batch: Any) -> torch.Tensor:
        ids = (torch.from_numpy(part).long() for part in (batch.history, batch.candidates))
        return model.loss(model.score(parameters, *ids)).mean()

    fit(
        loss,
        leaves,
        lambda epoch: train.batches(16, epoch, 0, 0),
        lambda: validation.batches(16, 0, 0, 0),
        epochs=2,
        rate=0.01,
    )
    return {name: value.detach() for name, value in parameters.items()}


def video_cloud(stream: VideoStream) -> Cloud:
    train, validation = stream.historical().split(0.25, 0)
    parameters = {name: value.clone() for name, value in _trained(stream).items()}
    return Cloud(video_model(stream), parameters, train, validation, 0, batch_size=16)


def video_inline(stream: VideoStream) -> InlineGrid:
    return InlineGrid(
        DeviceApp(video_model(stream), stream, video_task(stream)), np.arange(stream.num_devices)
    )


def video_newly_trained(name: str, stream: VideoStream, **settings: Any) -> Any:
    """A strategy that was trained just now."""
    built = build_strategy(name, {**VIDEO_SETTINGS[name], **settings})
    built.prepare(video_cloud(stream))
    return built


def video_eager(name: str, stream: VideoStream, **settings: Any) -> Any:
    """A strategy that is judged on what it trains on, so that early stopping does not take its training back."""
    cloud = video_cloud(stream)
    built = build_strategy(name, {**VIDEO_SETTINGS[name], "rate": 3e-3, **settings})
    built.prepare(replace(cloud, validation=cloud.train))
    return built


_kept = lru_cache(maxsize=None, typed=True)(video_newly_trained)


def video_strategy(name: str, stream: VideoStream, **settings: Any) -> Any:
    """A strategy of its own after its training, which is done once for all tests with the same settings."""
    clips = stream.table.clips  # their frames are drawn once as well
    return copy.deepcopy(_kept(name, stream, **settings), {id(clips): clips})


def video_table(
    name: str,
    stream: VideoStream | None = None,
    grid: Any = None,
    links: Any = None,
    built: Any = None,
    **settings: Any,
) -> pd.DataFrame:
    """Play a strategy and return its results."""
    stream = video_stream() if stream is None else stream
    frames: list[pd.DataFrame] = []
    grid = video_inline(stream) if grid is None else grid
    built = video_strategy(name, stream, **settings) if built is None else built
    play(
        built,
        grid,
        fleet(stream.num_devices) if links is None else links,
        stream.segment_starts_s,
        labels={**LABELS, "strategy": name},
        collect=frames.append,
        task=video_task(stream),
    )
    return pd.concat(frames, ignore_index=True)
