"""Small devices with video, for the tests of strategies."""

import copy
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from tiny import LABELS, NUM_DEVICES, NUM_SEGMENTS, fleet

from cdc_flower.core.options import options_of
from cdc_flower.core.seeds import torch_generator
from cdc_flower.devices.app import DeviceApp
from cdc_flower.models.video.ranking import VideoModel, VideoQA, VideoRetrieval
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.strategies.base import Cloud
from cdc_flower.strategies.registry import build_strategy, strategies
from cdc_flower.study.play import play
from cdc_flower.study.plays import strategies_that_play
from cdc_flower.tasks.data.moving_digits import DigitsOptions
from cdc_flower.tasks.video.moving_digits import digits_stream
from cdc_flower.tasks.video.stream import VideoStream
from cdc_flower.tasks.video.task import VideoAnswers, VideoSearch, VideoTask
from cdc_flower.training.fit import fit

#: Values of options that make a training on clips short, whatever strategy has them.
SHORT: dict[str, Any] = {"layers": "head", "max_examples": 4, "joint": False}


def _video_settings(name: str) -> dict[str, Any]:
    entry = strategies[name]
    options = options_of(entry.value)
    short = {option: value for option, value in SHORT.items() if option in options}
    return {**entry.facts.tiny, **short}


#: Settings under which a strategy does something in little time.
VIDEO_SETTINGS = {name: _video_settings(name) for name in strategies_that_play("video_qa")}
SIZES = {"width": 16, "depth": 1, "heads": 2, "stem": 16}


@lru_cache(maxsize=8)
def video_stream(
    captions: bool = False, num_devices: int = NUM_DEVICES, **knobs: Any
) -> VideoStream:
    small: dict[str, Any] = {
        "clips_per_segment": 4,
        "history_segments": 3,
        "num_places": 4,
        "num_namings": 4,
        **knobs,
    }
    options = DigitsOptions(**small)
    return digits_stream(num_devices, NUM_SEGMENTS, options, seed=0, captions=captions)


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
    """A strategy that is judged on what it trains on, so that early stopping does not take its
    training back.
    """
    cloud = video_cloud(stream)
    built = build_strategy(name, {**VIDEO_SETTINGS[name], "rate": 3e-3, **settings})
    built.prepare(replace(cloud, validation=cloud.train))
    return built


_kept = lru_cache(maxsize=None, typed=True)(video_newly_trained)


def video_strategy(name: str, stream: VideoStream, **settings: Any) -> Any:
    """A strategy of its own after its training, which is done once for all tests with the same
    settings.
    """
    clips = stream.table.clips  # their frames are drawn once as well
    return copy.deepcopy(_kept(name, stream, **settings), {id(clips): clips})


def video_table(
    name: str,
    stream: VideoStream | None = None,
    grid: Any = None,
    links: Any = None,
    built: Any = None,
    controls: bool = False,
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
        controls=controls,
    )
    return pd.concat(frames, ignore_index=True)
