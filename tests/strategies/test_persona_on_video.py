"""Persona, APG and group fine-tuning on video: they read the frames of the clip that a device
tells.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import NUM_DEVICES, NUM_SEGMENTS, Around
from video_tiny import (
    SIZES,
    video_cloud,
    video_eager,
    video_inline,
    video_model,
    video_strategy,
    video_stream,
    video_table,
)

from cdc_flower.core.errors import UserError
from cdc_flower.models.sequence_feature import feature_flops, sequence_feature, with_table
from cdc_flower.strategies.past import ReportedPast
from cdc_flower.strategies.registry import build_strategy
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

pytestmark = pytest.mark.slow  # plays whole runs

every_task = pytest.mark.parametrize("captions", [False, True], ids=["answers", "search"])
READERS = ("persona", "apg", "group_fine_tuning")
FRAMES = 3 * 32 * 32 * 3  # bytes of a clip: frames, height, width, colors
HEAD = 24 + 1  # inputs and bias of the adaptive layer of the tests


def outputs(captions: bool) -> int:
    return int(video_model(video_stream(captions)).head_sizes[0][1])


@every_task
def test_a_sequence_is_the_frames_of_a_clip_whether_from_a_query_a_report_or_a_table(
    captions: bool,
) -> None:
    stream = video_stream(captions)
    model, cloud = video_model(stream), video_cloud(stream)
    clip_ids, query = stream.opening(np.arange(NUM_DEVICES), 1)
    history = torch.from_numpy(query)[:, None]
    frames = stream.table.clips.frames(clip_ids)
    expected = model.frame_features(cloud.parameters, torch.from_numpy(frames))
    told = model.reported(cloud.parameters, {records.FRAMES: frames})
    tables = model.tabulate_sequences(cloud.parameters)
    for states, num_steps in (
        told,
        *(model.sequence(given, history) for given in (cloud.parameters, tables, tables)),
    ):
        torch.testing.assert_close(states, expected)
        assert num_steps.tolist() == [3] * NUM_DEVICES
    assert with_table({}, model, cloud.parameters) == {}  # no table of items: a query is a clip


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = video_stream()
    model, parameters = video_model(stream), video_cloud(stream).parameters
    history = torch.arange(12)[:, None]
    frames = stream.table.clips.frames(stream.table.clips.clip_of(np.arange(12)))
    whole = model.sequence(parameters, history)[0]
    monkeypatch.setattr("cdc_flower.models.video.ranking.CLIPS_PER_CHUNK", 2)
    torch.testing.assert_close(model.sequence(parameters, history)[0], whole)
    torch.testing.assert_close(model.reported(parameters, {records.FRAMES: frames})[0], whole)


@every_task
def test_training_reads_a_clip_that_the_segment_may_open_with_and_not_the_one_that_is_asked_about(
    captions: bool,
) -> None:
    history: Any = video_cloud(video_stream(captions)).train
    whole = history.batch(np.arange(history.num_examples), 0, 0, 0)
    (batch,) = ReportedPast(1).examples(history, [whole], np.random.default_rng(0))
    asked, told = (
        history.table.clips.clip_of(ids[:, 0].numpy().astype(np.int64))
        for ids in (batch.history, batch.reported)
    )
    np.testing.assert_array_equal(
        batch.reported, history.lagged(np.arange(len(asked)), np.zeros(len(asked), int))
    )
    assert 0 < (asked == told).mean() < 0.9
    place_of = history.table.place
    if not captions:
        np.testing.assert_array_equal(
            *(place_of(ids[:, 0].numpy()) for ids in (batch.history, batch.reported))
        )


def test_examples_by_their_rows_are_those_of_the_batches() -> None:
    history = video_cloud(video_stream()).train
    for batch in history.batches(16, 1, 0, 4):
        again = history.batch(batch.rows, 1, 0, 4)
        for key in ("rows", "history", "candidates", "device"):
            np.testing.assert_array_equal(getattr(again, key), getattr(batch, key))


@every_task
@pytest.mark.parametrize("name", READERS)
def test_two_epochs_move_what_is_trained_and_leave_the_device_model(
    name: str, captions: bool
) -> None:
    stream = video_stream(captions)
    trained, start = video_eager(name, stream), video_strategy(name, stream, epochs=0)
    for key, value in video_cloud(stream).parameters.items():
        if key not in trained.cloud.model.adaptive:
            assert torch.equal(trained.parameters[key], value)
    own = {"persona": "global_editor", "apg": "hypernetwork", "group_fine_tuning": "own"}[name]
    after, before = getattr(trained, own), getattr(start, own)
    assert all(
        not torch.equal(after[key], before[key])
        for key in after
        if key.startswith(("feature.", "decoder."))
    )


@every_task
@pytest.mark.parametrize("name", ["persona", "apg"])
@pytest.mark.parametrize("joint", [False, True])
def test_static_layers_are_trained_along_where_that_is_asked_for(
    name: str, joint: bool, captions: bool
) -> None:
    stream = video_stream(captions)
    trained = video_eager(name, stream, joint=joint, rate=1e-3)
    base = video_cloud(stream).parameters
    moved = not torch.equal(trained.parameters["stem.1.weight"], base["stem.1.weight"])
    assert moved == joint


@every_task
@pytest.mark.parametrize("transfer", ["gru", "transformer", "none"])
@pytest.mark.parametrize("assignment", ["static", "dynamic"])
@pytest.mark.parametrize("cluster_on", ["edits", "embeddings"])
def test_every_encoder_assignment_and_space_plays(
    transfer: str, assignment: str, cluster_on: str, captions: bool
) -> None:
    knobs = {"transfer": transfer, "assignment": assignment, "cluster_on": cluster_on}
    rows = video_table("persona", video_stream(captions), **knobs)
    assert (
        np.isfinite(rows.value_sum).all()
        and (rows.payload_bytes_down == 4 * HEAD * outputs(captions)).all()
    )


@every_task
def test_a_report_is_the_frames_of_the_opening_clip_or_a_feature_of_them(captions: bool) -> None:
    stream = video_stream(captions)
    for report, expected in (("events", FRAMES), ("feature", 4 * 8)):
        around = Around(video_inline(stream))
        rows = video_table("persona", stream, grid=around, report=report)
        assert (rows.payload_bytes_up == expected).all()
        assert (rows.num_labels == 0).all()
        for segment, told in enumerate(reports_of(around)):
            clip_ids, _ = stream.opening(np.asarray(told.node_ids, np.int64) - 2, segment)
            frames = stream.table.clips.frames(clip_ids)
            persona = video_strategy("persona", stream, report=report)
            if report == "events":
                np.testing.assert_array_equal(told.array(records.REPORT, records.FRAMES), frames)
                continue
            states = persona.cloud.model.reported(persona.parameters, {records.FRAMES: frames})
            feature = sequence_feature(persona.global_editor, *states)
            np.testing.assert_allclose(
                told.array(records.REPORT, records.FEATURE), feature.numpy(), rtol=1e-5, atol=1e-6
            )


def test_a_device_that_makes_the_feature_tells_the_work_of_its_frames_and_the_cloud_does_not() -> (
    None
):
    stream = video_stream()
    model = video_model(stream)
    frames, feature = model.sequence_flops(), feature_flops(16, 8, 3)
    assert frames == 3 * model.frame_flops() > 0
    around = Around(video_inline(stream))
    video_table("persona", stream, grid=around, report="feature")
    for told in reports_of(around):
        np.testing.assert_allclose(told.configs[records.WORK][records.FLOPS], frames + feature)
    by_cloud = {}
    for report in ("events", "feature"):
        around = Around(video_inline(stream))
        video_table("persona", stream, grid=around, report=report)
        by_cloud[report] = float(cloud_flops(around))
    assert by_cloud["events"] - by_cloud["feature"] == pytest.approx(frames)


@every_task
def test_the_same_layers_come_from_frames_and_from_their_feature_whole_or_as_an_edit(
    captions: bool,
) -> None:
    stream = video_stream(captions)
    whole = video_table("persona", stream)
    for report in ("events", "feature"):
        for downlink in ("full", "edit", "index"):
            rows = video_table("persona", stream, report=report, downlink=downlink)
            np.testing.assert_allclose(rows.value_sum, whole.value_sum, rtol=1e-4, atol=1e-4)
            held = 0 if downlink == "full" else 8
            assert (rows.payload_bytes_up == (FRAMES if report == "events" else 32) + held).all()
            size = 4 * HEAD * outputs(captions)
            extra = set() if downlink == "full" else {size + 16, 2 * size + 16}
            if downlink == "index":
                extra |= {16, size + 16}
            assert set(rows.payload_bytes_down.unique()) <= (extra or {size})


@every_task
def test_bytes_down_of_apg_of_low_rank_edits_and_of_whole_models(captions: bool) -> None:
    stream, width = video_stream(captions), outputs(captions)
    assert (video_table("apg", stream, rank=3).payload_bytes_down == 4 * 3 * 3).all()
    low = {"downlink": "edit", "low_rank": 2, "bytes_rate": 0.0, "num_prototypes": 1}
    factors = 4 * (2 * (24 + width) + width) + 16
    assert (video_table("persona", stream, **low).payload_bytes_down == factors).all()
    whole = sum(value.nbytes for value in video_cloud(stream).arrays().values())
    assert (
        video_table("group_fine_tuning", stream, layers="all").payload_bytes_down == whole
    ).all()


@every_task
@pytest.mark.parametrize("name", READERS)
def test_a_report_of_long_ago_makes_other_layers(name: str, captions: bool) -> None:
    stream = video_stream(captions)
    around = Around(video_inline(stream))
    rows = video_table(name, stream, grid=around, report_lag=3)
    assert len(rows) == NUM_DEVICES * NUM_SEGMENTS * rows.metric.nunique()
    for segment, told in enumerate(reports_of(around)):
        clip_ids, _ = stream.opening(np.asarray(told.node_ids, np.int64) - 2, segment, 3)
        np.testing.assert_array_equal(
            told.array(records.REPORT, records.FRAMES), stream.table.clips.frames(clip_ids)
        )


def test_loss_is_the_models_own() -> None:
    """A video model minimizes the cross-entropy of a choice; that of single items would rank
    otherwise.
    """
    stream = video_stream()
    cloud = video_cloud(stream)
    seen: list[int] = []

    class Counted(type(cloud.model)):  # type: ignore[misc]
        def loss(self, logits: torch.Tensor) -> torch.Tensor:
            seen.append(len(logits))
            return super().loss(logits)

    counted: Any = Counted(stream.table.clips, stream.table.num_answers, 24, **SIZES)
    for name in READERS:
        before = len(seen)
        build_strategy(name, {"epochs": 1, "width": 8}).prepare(replace(cloud, model=counted))
        assert len(seen) > before


def reports_of(around: Around) -> list[MessageBatch]:
    """The replies to requests for a report, one batch a segment."""
    pairs = zip(around.sent, around.replies, strict=True)
    return [
        MessageBatch.group(replies)[0][0]
        for sent, replies in pairs
        if sent.message_type == records.TRAIN_REPORT
    ]


def cloud_flops(around: Around) -> float:
    """Work in the cloud for one device that the last answers tell."""
    return float(np.asarray(around.sent[-1].configs[records.WORK][records.FLOPS]).reshape(-1)[0])


@pytest.mark.parametrize(
    "settings",
    [{"cluster_on": "likelihood", "refinement": "reports"}, {"refinement": "shrink"}],
)
def test_what_needs_pairs_of_items_is_refused_on_video_in_one_sentence(
    settings: dict[str, str],
) -> None:
    with pytest.raises(UserError, match=r"^strategy.persona.* must go with task=recommendation: "):
        build_strategy("persona", settings).prepare(video_cloud(video_stream()))
