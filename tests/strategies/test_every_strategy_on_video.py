"""What holds for every strategy that plays video, in question answering and in retrieval."""

import pickle
import random
from typing import Any

import numpy as np
import pytest
import torch
from tiny import NUM_DEVICES, NUM_SEGMENTS, Around, same
from video_tiny import (
    VIDEO_SETTINGS,
    video_cloud,
    video_eager,
    video_inline,
    video_newly_trained,
    video_strategy,
    video_stream,
    video_table,
)

from cdc_flower.strategies.registry import build_strategy, strategies
from cdc_flower.study.plays import strategies_that_play
from cdc_flower.tasks.video.stream import VideoStream
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

pytestmark = pytest.mark.slow  # plays whole runs

every_strategy = pytest.mark.parametrize("name", VIDEO_SETTINGS)
every_task = pytest.mark.parametrize("captions", [False, True], ids=["answers", "search"])
#: Those whose answers are made of reports.
GENERATED = [name for name in VIDEO_SETTINGS if strategies[name].value.reads]


def test_the_same_play_answers_and_search() -> None:
    assert set(VIDEO_SETTINGS) == set(strategies_that_play("video_retrieval"))


@every_task
@every_strategy
def test_a_seed_gives_the_same_rows_again_and_no_global_randomness_is_used(
    name: str, captions: bool
) -> None:
    stream = video_stream(captions)
    first = video_table(name, stream)
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    before = random.getstate(), torch.get_rng_state()
    same(first, video_table(name, stream, built=video_newly_trained(name, stream)))
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


@every_strategy
def test_it_changes_nothing_that_it_is_given_and_pickles(name: str) -> None:
    stream = video_stream()
    given = video_cloud(stream)
    copies = {key: value.clone() for key, value in given.parameters.items()}
    built = build_strategy(name, VIDEO_SETTINGS[name])
    built.prepare(given)
    again = pickle.loads(pickle.dumps(built))
    same(video_table(name, built=again), video_table(name, built=built))
    for key, value in copies.items():
        assert torch.equal(given.parameters[key], value)


@every_strategy
def test_it_survives_lost_and_error_replies(name: str) -> None:
    def lose(sent: MessageBatch, replies: Any) -> Any:
        if sent.message_type == records.DEPLOY:
            return replies
        errors = sent.select(np.isin(sent.node_ids, [3]))
        kept = [reply for k, reply in enumerate(replies) if k % 2 or reply.metadata.src_node_id > 4]
        kept = [reply for reply in kept if reply.metadata.src_node_id != 3]
        return [*kept, *errors.reply(errors={k: (2, "no battery") for k in range(len(errors))})]

    rows = video_table(name, grid=Around(video_inline(video_stream()), lose))
    assert len(rows) and np.isfinite(rows.value_sum).all()
    silent = lambda sent, replies: [] if sent.message_type.startswith("train") else replies  # noqa: E731
    rows = video_table(name, grid=Around(video_inline(video_stream()), silent))
    assert len(rows) == 4 * NUM_SEGMENTS * 7


@every_task
@every_strategy
def test_labels_go_up_only_where_they_are_paid_for(name: str, captions: bool) -> None:
    stream = video_stream(captions)
    around, built = Around(video_inline(stream)), video_strategy(name, stream)
    rows = video_table(name, stream, grid=around, built=built)
    for batch in around.sent:
        assert set(batch.record_names()) <= built.downlink_records()
    for replies in around.replies[1:]:
        for batch, _ in MessageBatch.group(replies):
            assert set(batch.record_names()) <= built.uplink
    assert (records.LABELLED in built.uplink) == (name == "cloud_fine_tuning")
    assert (rows.num_labels.sum() > 0) == (name in ("fine_tuning", "cloud_fine_tuning", "fedavg"))


@every_strategy
def test_static_layers_on_devices_stay_as_deployed(name: str) -> None:
    stream = video_stream()
    grid, built = video_inline(stream), video_strategy(name, stream)
    video_table(name, grid=grid, built=built)
    states: Any = grid.states
    assert set(states.pool) == {"head.0.weight", "head.0.bias"}
    for key, value in states.static.items():
        np.testing.assert_array_equal(value, built.deployment()[key])


@pytest.mark.parametrize("name", ["static", *GENERATED])
def test_no_gradient_runs_once_it_is_prepared(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    built = video_strategy(name, video_stream())

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a gradient")

    monkeypatch.setattr(torch.Tensor, "backward", refuse)
    monkeypatch.setattr(torch.autograd, "grad", refuse)
    monkeypatch.setattr(torch.optim.Adam, "__init__", refuse)
    video_table(name, built=built)


@every_task
def test_cloud_fine_tuning_does_what_fine_tuning_on_the_device_does(captions: bool) -> None:
    stream = video_stream(captions)
    device, cloud = (video_table(name, stream) for name in ("fine_tuning", "cloud_fine_tuning"))
    np.testing.assert_allclose(cloud.value_sum, device.value_sum, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(cloud.num_labels, device.num_labels)
    assert (
        cloud.payload_bytes_up[cloud.segment > 0] >= 4 * 3 * 32 * 32 * 3
    ).all() and not device.bytes_up.any()


def test_cloud_fine_tuning_without_steps_is_static_and_sends_nothing() -> None:
    rows = video_table("cloud_fine_tuning", steps=0)
    np.testing.assert_allclose(
        rows.value_sum, video_table("static").value_sum, rtol=1e-5, atol=1e-6
    )
    assert not rows.bytes_up.any() and not rows.bytes_down.any()


@every_task
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("duet", {"epochs": 0}),
        ("cdc_mmpg", {"epochs": 0}),
        ("group_fine_tuning", {"epochs": 0}),
        ("persona", {"epochs": 0}),
        ("persona", {"clip": 0.0, "num_prototypes": 1, "bytes_rate": 0.0}),
        ("persona", {"epochs": 0, "downlink": "index", "report": "feature"}),
    ],
    ids=str,
)
def test_neutral_values_are_static_and_training_is_not(
    name: str, settings: dict[str, Any], captions: bool
) -> None:
    stream = video_stream(captions)
    static = video_table("static", stream)
    np.testing.assert_array_equal(video_table(name, stream, **settings).value_sum, static.value_sum)
    assert not np.array_equal(
        video_table(name, stream, built=video_eager(name, stream)).value_sum, static.value_sum
    )


def test_apg_of_full_rank_without_training_is_static_up_to_rounding() -> None:
    full = video_table("apg", epochs=0, rank=16).value_sum
    np.testing.assert_allclose(full, video_table("static").value_sum, rtol=1e-5, atol=1e-6)


@every_task
@pytest.mark.parametrize("name", GENERATED)
def test_devices_with_other_clips_get_other_layers_and_with_the_same_frames_the_same(
    name: str, captions: bool
) -> None:
    stream = video_stream(captions)
    built = video_eager(name, stream)
    assert len(np.unique(np.concatenate(layers_in_time(built, stream)), axis=0)) > 1
    for layers in layers_in_time(built, stream, same_frames):
        np.testing.assert_allclose(
            layers, np.repeat(layers[:1], NUM_DEVICES, 0), rtol=1e-5, atol=1e-6
        )


def layers_in_time(built: Any, stream: VideoStream, change: Any = None) -> list[np.ndarray]:
    """The adaptive layers in use on each device after each segment, ``[n, numbers]``."""
    grid, found = video_inline(stream), []

    def look(sent: MessageBatch, replies: Any) -> Any:
        if sent.message_type == records.EVALUATE:
            states: Any = grid.states
            rows = [value[states.in_use].reshape(NUM_DEVICES, -1) for value in states.pool.values()]
            found.append(np.concatenate(rows, 1))
        return replies if change is None else change(sent, replies)

    video_table("any", stream, grid=Around(grid, look), built=built)
    return found


def same_frames(sent: MessageBatch, replies: Any) -> Any:
    """Every device reports what the first one does."""
    if sent.message_type != records.TRAIN_REPORT:
        return replies
    report = replies.arrays[records.REPORT]
    told = {key: np.repeat(np.asarray(value)[:1], len(replies), 0) for key, value in report.items()}
    return replies.with_records(arrays={records.REPORT: told})
