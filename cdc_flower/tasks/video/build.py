"""From a configuration to what a video run needs: stream, device model and task."""

import inspect
from collections.abc import Mapping
from typing import Any

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.models.video.ranking import VideoModel, VideoQA, VideoRetrieval
from cdc_flower.tasks.video.annotated import annotated_stream
from cdc_flower.tasks.video.moving_digits import digits_stream
from cdc_flower.tasks.video.stream import VideoStream
from cdc_flower.tasks.video.task import VideoAnswers, VideoSearch, VideoTask

VIDEO_TASKS = ("video_qa", "video_retrieval")
EMBEDDED = "moving_digits"
#: Devices of the embedded data where the configuration leaves it open.
EMBEDDED_DEVICES = 100
_MODEL_KEYS = ("width", "depth", "heads", "patch", "stem", "projection")


def check_video(config: Mapping[str, Any]) -> None:
    """Refuse what only recommendation has.

    Raises:
        UserError: If there is something.
    """
    if config["references"]:
        raise UserError(f"references must be empty with video, got {config['references']}")
    if config["cloud"]["validation"] != "devices":
        raise UserError(
            f"cloud.validation must be devices with video, got {config['cloud']['validation']}"
        )


def video_parts(config: Mapping[str, Any]) -> tuple[VideoStream, VideoModel, VideoTask]:
    """Stream, model and task of a video run.

    Raises:
        UserError: If a value is wrong, a file is missing or damaged.
    """
    stream = video_stream(config)
    sizes = dict(config["model"])
    missing = [key for key in _MODEL_KEYS if key not in sizes]
    if missing:
        raise UserError(f"model must be one for video, such as video_tiny, got {sizes.get('name')}")
    try:
        kept = {key: sizes[key] for key in _MODEL_KEYS}
        if config["task"] == "video_qa":
            return (
                stream,
                VideoQA(stream.table.clips, stream.table.num_answers, **kept),
                VideoAnswers(stream.table.kinds, stream.table.has_unseen),
            )
        return (
            stream,
            VideoRetrieval(stream.table.clips, sizes["match_width"], **kept),
            VideoSearch(),
        )
    except ValueError as error:
        raise UserError(f"model.{error}") from error


def video_stream(config: Mapping[str, Any]) -> VideoStream:
    """The stream of the configured video data.

    Raises:
        UserError: As :func:`video_parts`.
    """
    data, num_devices = dict(config["data"]), config["fleet"]["num_devices"]
    name, captions = data.pop("name"), config["task"] == "video_retrieval"
    common = {"num_segments": config["num_segments"], "seed": config["seed"], "captions": captions}
    if name == EMBEDDED:
        data.pop("path", None)
        check_knobs(digits_stream, data, name)
        return digits_stream(
            EMBEDDED_DEVICES if num_devices is None else num_devices, **common, **data
        )
    if "format" not in data:
        raise UserError(f"data must be one for video, such as moving_digits or msvd, got {name}")
    check_knobs(annotated_stream, data, name)
    stream = annotated_stream(**common, **data)
    if num_devices is not None and num_devices != stream.num_devices:
        raise UserError(
            f"fleet.num_devices must be left to the data here, which has {stream.num_devices} devices"
        )
    return stream


def check_knobs(function: Any, data: Mapping[str, Any], name: str) -> None:
    """Refuse keys of ``data`` that a stream does not have.

    Raises:
        UserError: If there is one.
    """
    known = set(inspect.signature(function).parameters) - {
        "num_devices",
        "num_segments",
        "seed",
        "captions",
    }
    for key in data:
        if key not in known:
            raise unknown_name("knob", key, known, f"data.name={name}")
