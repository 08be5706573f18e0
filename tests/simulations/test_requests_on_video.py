"""Who reports on video: 0 % is never and 100 % is always, exactly, from a device's own clips and
answers alone.
"""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import LABELS, fleet, same
from video_tiny import (
    video_cloud,
    video_inline,
    video_model,
    video_strategy,
    video_stream,
    video_table,
    video_task,
)

from cdc_flower.simulations.grids.requests import WithRequests
from cdc_flower.simulations.requests.policies import Devices
from cdc_flower.simulations.requests.policies.uncertainty import Uncertainty
from cdc_flower.simulations.requests.setup import Requests, requests_of
from cdc_flower.study.play import play
from cdc_flower.tasks.video.doubt import NUM_ANSWERS, OwnAnswers, entropy, held_out_doubts
from cdc_flower.tasks.video.sensor import ClipSensor
from cdc_flower.tasks.video.stream import VideoStream
from cdc_flower.training.scoring import score_events
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

IDS = np.arange(4)
THIN = {"up_bps": 3e4, "down_bps": 8e4}
DRIFT = {"detector": "page_hinkley", "delta": 0.05}
STREAMS = [False, True]


def requests(name: str, stream: VideoStream, **settings) -> Requests:
    more = {"epochs": 1} if name == "uncertainty" else {}
    config = {"name": name, "max_bytes": None, **more, **settings}
    trained = video_strategy("cdc_mmpg", stream)
    return requests_of(config, video_task(stream), stream, video_cloud(stream), trained)


def played(name: str, stream: VideoStream, **settings) -> pd.DataFrame:
    frames: list[pd.DataFrame] = []
    play(
        video_strategy("cdc_mmpg", stream),
        video_inline(stream),
        fleet(**THIN),
        stream.segment_starts_s,
        labels={**LABELS, "strategy": "cdc_mmpg"},
        collect=frames.append,
        task=video_task(stream),
        chain=[WithRequests(requests(name, stream, **settings))],
    )
    return pd.concat(frames, ignore_index=True)


def sensor(stream: VideoStream) -> ClipSensor:
    static = {name: torch.from_numpy(value) for name, value in video_cloud(stream).arrays().items()}
    return ClipSensor(stream, video_model(stream), static, np.arange(stream.table.clips.num_clips))


@pytest.mark.parametrize("captions", STREAMS)
@pytest.mark.parametrize(
    ("name", "settings"), [("uncertainty", {"rate": 1}), ("on_drift", {**DRIFT, "threshold": 0})]
)
def test_a_hundred_percent_is_always_exactly(name: str, settings: dict, captions: bool) -> None:
    pytest.importorskip("river")
    stream = video_stream(captions)
    same(video_table("cdc_mmpg", stream, links=fleet(**THIN)), played(name, stream, **settings))


@pytest.mark.parametrize(
    ("name", "settings"),
    [("uncertainty", {"rate": 0}), ("on_drift", {**DRIFT, "threshold": math.inf})],
)
def test_zero_percent_is_never_exactly(name: str, settings: dict) -> None:
    pytest.importorskip("river")
    rows = played(name, video_stream(), **settings)
    same(rows, played("never", video_stream()))
    assert not rows.bytes_up.any() and not rows.bytes_down.any() and not rows.num_reports.any()


def test_between_them_some_report_and_pay_and_to_ask_oneself_costs_nothing() -> None:
    whole, some = (
        video_table("cdc_mmpg", links=fleet(**THIN)),
        played("uncertainty", video_stream(), rate=0.5),
    )
    whole, some = (rows.drop_duplicates(["device_id", "segment"]) for rows in (whole, some))
    told = (some.num_reports > 0).to_numpy()
    assert 0 < told.sum() < len(told)
    assert some.bytes_up.to_numpy()[told].tolist() == whole.bytes_up.to_numpy()[told].tolist()
    assert not some.bytes_up.to_numpy()[~told].any()


def test_the_entropy_of_even_chances_is_the_logarithm_of_their_number() -> None:
    logits = np.array(
        [[2.0, 2, 2, 2], [1e4, 0, 0, 0], [np.log(3), 0, -np.inf, -np.inf], [np.nan, 0, 0, 0]],
        np.float32,
    )
    even, sure, three, unknown = entropy(logits)
    assert (
        even == pytest.approx(math.log(4)) and sure == 0 and unknown == pytest.approx(math.log(4))
    )
    assert three == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))


def test_a_device_is_as_unsure_as_the_layers_that_it_uses_are_of_its_newest_questions() -> None:
    stream, segment = video_stream(), 2
    grid, deployed = video_inline(stream), video_cloud(stream).arrays()
    nodes = np.array(list(grid.get_node_ids()), np.uint64)
    list(
        grid.send_and_receive(MessageBatch(records.DEPLOY, nodes, shared={records.MODEL: deployed}))
    )
    head = {
        name: np.stack([deployed[name] * k for k in (0.0, 1.0, 2.0, 1.0)])
        for name in video_model(stream).adaptive
    }
    clock = {records.CLOCK: {records.SEGMENT: segment - 1}}
    list(
        grid.send_and_receive(
            MessageBatch(records.EVALUATE, nodes, {records.PARAMETERS: head}, configs=clock)
        )
    )
    asked = MessageBatch(
        records.QUERY_UNCERTAINTY, nodes, configs={records.CLOCK: {records.SEGMENT: segment}}
    )
    (replies, _), *_ = MessageBatch.group(grid.send_and_receive(asked))
    found = replies.metrics[records.SCORES][records.UNCERTAINTY]

    end = stream.table.bounds[IDS, segment + stream.table.num_historical]
    queries = (end[:, None] - 1 - np.arange(NUM_ANSWERS)).reshape(
        -1
    )  # this small stream has more than so many
    logits = score_events(
        video_model(stream),
        deployed,
        head,
        np.repeat(IDS, NUM_ANSWERS),
        queries[:, None].astype(np.int32),
        stream.table.candidates(queries),
    )
    np.testing.assert_allclose(found, entropy(logits).reshape(4, -1).mean(1), rtol=1e-6)
    assert found[0] == pytest.approx(math.log(stream.table.num_answers)) and found[1] != found[2]


def test_no_question_of_the_segment_is_asked_before_it_starts() -> None:
    stream = video_stream()
    history, _ = stream.asked(IDS, 1, 3)
    first = stream.table.bounds[IDS, 1 + stream.table.num_historical]
    assert history.reshape(4, 3).tolist() == (first[:, None] - [1, 2, 3]).tolist()
    everything, _ = stream.asked(IDS[:1], 0, 1000)
    assert everything.min() == everything[-1, 0] == stream.table.bounds[0, 0]


def test_the_share_of_held_out_devices_and_segments_above_the_threshold_is_the_rate() -> None:
    stream, cloud = video_stream(num_devices=40), video_cloud(video_stream(num_devices=40))
    doubts = held_out_doubts(cloud.model, cloud.arrays(), cloud.validation)  # type: ignore[arg-type]
    assert len(doubts) == len(cloud.validation.device_ids) * stream.table.num_historical  # type: ignore[attr-defined]
    for rate in (0.1, 0.5, 0.9):
        policy = Uncertainty(rate=rate)
        policy.start(Devices(0, lambda: None, lambda _: OwnAnswers(doubts, lambda *_: doubts)))
        assert (doubts > policy.threshold).mean() == pytest.approx(rate, abs=0.05)


def test_clips_are_compared_with_those_before_and_counted_once() -> None:
    stream = video_stream()
    watching = sensor(stream)
    first, later = watching.surprises(IDS, 0), watching.surprises(IDS, 1)
    history = stream.table.bounds[IDS, stream.table.num_historical] - stream.table.bounds[IDS, 0]
    assert [len(values) for values in first] == (
        history + 1
    ).tolist()  # and the one that the segment opens with
    assert [len(values) for values in later] == stream.num_events(IDS, 0).tolist()
    assert [values[0] for values in first] == pytest.approx([0.0] * 4, abs=1e-6)
    assert all(-1e-6 <= value <= 2 for values in first + later for value in values)
    assert watching.surprises(IDS, 1) == [[]] * 4


def test_standard_units_are_those_of_the_clouds_clips() -> None:
    features = sensor(video_stream()).features(np.arange(video_stream().table.clips.num_clips))
    np.testing.assert_allclose(features.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(features.std(0), 1, atol=1e-3)


def test_another_place_surprises_a_device() -> None:
    stream = video_stream(num_devices=40, history_segments=3, noise=0.0, flicker=0.0)
    watching, ids = sensor(stream), np.arange(40)
    values = [watching.surprises(ids, segment) for segment in range(stream.num_segments)]
    opening = np.array([[own[-1] for own in values[k]] for k in range(1, stream.num_segments)])
    moved = stream.table.is_shift[:, 1:].T
    assert moved.any() and opening[moved].mean() > 2 * opening[~moved].mean()
