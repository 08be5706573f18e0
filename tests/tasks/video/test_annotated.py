import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cdc_flower.core.errors import UserError
from cdc_flower.devices.app import LabelBudget
from cdc_flower.tasks.data.annotated_videos import ClipFileOptions
from cdc_flower.tasks.video.annotated import annotated_stream
from cdc_flower.tasks.video.annotations import read_annotations
from cdc_flower.tasks.video.features import read_features
from cdc_flower.tasks.video.frames import decode, spread_over
from cdc_flower.tasks.video.problems import Problems


def raising() -> Problems:
    return Problems.of("raise")


def write_csv(folder: Path, rows: int = 24, videos: int = 4) -> None:
    lines = ["video,question,answer,qid,type"]
    lines += [
        f"v{k % videos},what is {'red' if k % 2 else 'blue'} here,thing{k % 3},{k},0"
        for k in range(rows)
    ]
    (folder / "train.csv").write_text("\n".join(lines))
    (folder / "test.csv").write_text(
        "video,question,answer,qid,type\nv3,who runs,man,1,0\nv3,who sits,thing1,2,0"
    )


def write_features(folder: Path, width: int = 5) -> None:
    for k in range(4):
        values = np.random.default_rng(k).normal(size=(7, width)).astype(np.float32)
        if k % 2:
            np.savez(folder / f"v{k}.npz", feature=values)
        else:
            np.save(folder / f"v{k}.npy", values)


def stream_of(folder: Path, **knobs: Any) -> Any:
    given = {
        "format": "msrvtt_qa",
        "annotations": str(folder),
        "features": str(folder),
        "splits": ["train", "test"],
    }
    options = ClipFileOptions(**{**given, "clips_per_device": 2, **knobs})
    return annotated_stream(3, options, seed=0, captions=False)


def test_new_questions_are_about_known_clips(tmp_path: Path) -> None:
    write_csv(tmp_path)
    write_features(tmp_path)
    table = stream_of(tmp_path).table
    past = stream_of(tmp_path).historical().queries
    now = np.setdiff1d(np.arange(table.clips.num_queries), past)
    assert table.num_devices == 2 and len(past) and len(now)
    clips = table.clips
    assert set(clips.clip_of(now)) <= set(clips.clip_of(past))
    assert clips.frame_shape == (5,) and clips.frames(np.arange(4)).dtype == np.float32


def test_new_clips_are_in_no_historical_question(tmp_path: Path) -> None:
    write_csv(tmp_path)
    write_features(tmp_path)
    stream = stream_of(tmp_path, split="new_clips")
    past = stream.historical().queries
    now = np.setdiff1d(np.arange(stream.table.clips.num_queries), past)
    assert not set(stream.table.clips.clip_of(now)) & set(stream.table.clips.clip_of(past))
    assert (
        stream.table.answer[now].min() == 0
    )  # an answer that no historical question has is never right
    assert stream.table.answer[past].min() > 0


def test_an_answer_that_no_historical_question_has_is_not_learned_from(tmp_path: Path) -> None:
    write_csv(tmp_path)
    write_features(tmp_path)
    stream = stream_of(tmp_path, split="new_clips")
    table = stream.table
    past = stream.historical().queries
    now = np.setdiff1d(np.arange(table.clips.num_queries), past)
    assert (table.answer[now] == 0).any() and (table.answer[now] > 0).any()
    examples = stream.labelled(LabelBudget(), np.arange(stream.num_devices), 2, 100, 0)
    learned = examples.history[:, 0]
    before = np.concatenate([past, stream.segment(np.array([0]), 0).history[:, 0]])
    before = np.concatenate([before, stream.segment(np.array([0]), 1).history[:, 0]])
    np.testing.assert_array_equal(learned, np.sort(before)[table.answer[np.sort(before)] > 0])
    np.testing.assert_array_equal(examples.slot, np.arange(len(learned)))
    assert (
        examples.num_examples.tolist() == [len(learned)] and (examples.candidates[:, 0] > 0).all()
    )


def test_a_device_that_searches_clips_does_not_tell_which_one_it_will_search_for(
    tmp_path: Path,
) -> None:
    rows = [f"v{k % 12},q,a,{k},0" for k in range(12)]
    (tmp_path / "train.csv").write_text("\n".join(["video,question,answer,qid,type", *rows]))
    captions = [
        {"id": f"v{k}.avi", "caption": [f"some words {n}" for n in range(10)]} for k in range(12)
    ]
    (tmp_path / "testing_label.json").write_text(json.dumps(captions))
    for k in range(12):
        np.save(
            tmp_path / f"v{k}.npy", np.random.default_rng(k).normal(size=(7, 5)).astype(np.float32)
        )
    given = {
        "format": "msrvtt_qa",
        "annotations": str(tmp_path),
        "features": str(tmp_path),
        "msvd": str(tmp_path),
    }
    same, total, trained, gallery = 0, 0, [], 6
    for seed in range(12):
        options = ClipFileOptions(gallery=gallery, splits=("train",), **given)
        stream = annotated_stream(4, options, seed=seed, captions=True)
        ids = np.arange(stream.num_devices)
        for segment in range(4):
            clip, query = stream.opening(ids, segment)
            np.testing.assert_array_equal(stream.table.clips.clip_of(query), clip)
            data = stream.segment(ids, segment)
            assert (data.candidates == clip[data.row][:, None]).any(1).all()
            same += int((stream.table.answer[data.history[:, 0]] == clip[data.row]).sum())
            total += len(data.row)
        history = stream.historical()
        rows_ = np.arange(history.num_examples)
        found = history.openings(rows_, np.random.default_rng(seed).uniform(size=len(rows_)))
        trained.append(stream.table.clips.clip_of(found) == stream.table.answer[history.queries])
    assert same / total == pytest.approx(1 / gallery, abs=0.08)
    assert np.concatenate(trained).mean() == pytest.approx(1 / gallery, abs=0.05)


def test_what_is_held_out_differs_from_the_rest_as_the_stream_does(tmp_path: Path) -> None:
    write_csv(tmp_path)
    write_features(tmp_path)
    for split, shared in (("new_questions", True), ("new_clips", False)):
        stream = stream_of(tmp_path, split=split, clips_per_device=1)
        clips, history = stream.table.clips, stream.historical()
        if split == "new_clips":  # one new clip, so one device: its history is not parted
            assert history.split(0.25, 0)[1].num_examples == 0
            continue
        train, held_out = history.split(0.25, 0)
        assert held_out.num_examples == round(0.25 * history.num_examples)
        np.testing.assert_array_equal(
            np.sort(np.concatenate([train.queries, held_out.queries])), history.queries
        )
        assert (
            bool(set(clips.clip_of(held_out.queries)) & set(clips.clip_of(train.queries))) == shared
        )
        assert train.content_hash() != history.content_hash() != held_out.content_hash()
        rows = np.concatenate([batch.history[:, 0] for batch in held_out.batches(2, 0, 0, 0)])
        np.testing.assert_array_equal(np.sort(rows), held_out.queries)


@pytest.mark.parametrize("form", ["npy", "npz", "h5", "all.npz", "all.h5"])
def test_every_form_of_features_gives_the_same_clips(form: str, tmp_path: Path) -> None:
    write_csv(tmp_path)
    values = {
        f"v{k}": np.random.default_rng(k).normal(size=(7, 5)).astype(np.float32) for k in range(4)
    }
    place = tmp_path / "features"
    place.mkdir()
    if form == "all.npz":
        np.savez(place / form, **{f"{name}.avi": array for name, array in values.items()})
    elif form.endswith("h5"):
        h5py = pytest.importorskip("h5py", reason="pip install 'cdc-flower[video]'")
        if form == "all.h5":
            with h5py.File(place / form, "w") as archive:
                for name, array in values.items():
                    archive[f"{name}.mp4"] = array
        else:
            for name, array in values.items():
                with h5py.File(place / f"{name}.h5", "w") as archive:
                    archive["features"] = array
    else:
        for name, array in values.items():
            np.save(place / f"{name}.npy", array) if form == "npy" else np.savez(
                place / f"{name}.npz", array
            )
    stream = stream_of(tmp_path, features=str(place / form if form.startswith("all") else place))
    size = np.sqrt(np.mean([np.square(array).mean() for array in values.values()]))
    rows = spread_over(7, 3)
    expected = np.stack([values[f"v{k}"][rows] / size for k in range(4)])
    size = np.sqrt(np.square(expected).mean())  # of the frames that are read
    np.testing.assert_allclose(stream.table.clips.frames(np.arange(4)), expected / size, rtol=1e-5)
    assert stream.table.clips.frame_shape == (5,)


def test_a_damaged_hdf5_file_is_an_error_or_left_out(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="pip install 'cdc-flower[video]'")
    for name in ("v0", "v1"):
        with h5py.File(tmp_path / f"{name}.h5", "w") as archive:
            archive["features"] = np.ones((7, 5), np.float32)
    whole = (tmp_path / "v1.h5").read_bytes()
    (tmp_path / "v1.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"v1\.h5: must be a whole feature file"):
        read_features(str(tmp_path), ["v0", "v1"], 3, raising())
    assert set(read_features(str(tmp_path), ["v0", "v1"], 3, Problems.of("skip"))) == {"v0"}
    (tmp_path / "all.h5").write_bytes(whole[:100])
    with pytest.raises(UserError, match=r"all\.h5: must be a whole \.npz or HDF5 file"):
        read_features(str(tmp_path / "all.h5"), ["v0"], 3, raising())


def test_a_feature_file_of_another_width_is_an_error_or_left_out(tmp_path: Path) -> None:
    write_csv(tmp_path)
    write_features(tmp_path)
    np.save(tmp_path / "v2.npy", np.zeros((7, 6), np.float32))
    with pytest.raises(UserError, match=r"v2\.npy: must have the width 5 of the others, got 6"):
        stream_of(tmp_path)
    problems = Problems.of("skip")
    assert set(read_features(str(tmp_path), ["v0", "v1", "v2"], 3, problems)) == {"v0", "v1"}
    assert problems.counts == {"feature file": 1}


def test_a_damaged_feature_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "v0.npy").write_bytes(b"\x93NUMPY nothing")
    with pytest.raises(UserError, match=r"v0\.npy: must be a whole feature file"):
        read_features(str(tmp_path), ["v0"], 3, raising())
    (tmp_path / "all.npz").write_bytes(b"PK nothing")
    with pytest.raises(UserError, match=r"all\.npz: must be a whole \.npz or HDF5 file"):
        read_features(str(tmp_path / "all.npz"), ["v0"], 3, raising())


def test_an_annotation_without_its_video_is_an_error_or_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_csv(tmp_path, videos=5)
    write_features(tmp_path)
    with pytest.raises(UserError, match=r"train\.csv:6: there is no video v4 .*on_error=skip"):
        stream_of(tmp_path)
    assert stream_of(tmp_path, on_error="skip").table.clips.num_clips == 4
    assert "unmatched annotations skipped" in capsys.readouterr().err


def test_a_row_without_an_answer_is_an_error_with_its_line(tmp_path: Path) -> None:
    write_csv(tmp_path)
    text = (tmp_path / "train.csv").read_text().replace("thing1,1,0", ",1,0", 1)
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(UserError, match=r"train\.csv:3: answer must not be empty"):
        read_annotations("msrvtt_qa", str(tmp_path), ("train",), raising())


def test_activitynet_joins_questions_and_answers(tmp_path: Path) -> None:
    questions = [{"video_name": "a", "question": "is it red", "question_id": "q1"}]
    (tmp_path / "val_q.json.gz").write_bytes(gzip.compress(json.dumps(questions).encode()))
    (tmp_path / "val_a.json").write_text(
        json.dumps([{"answer": "yes", "type": 3, "question_id": "q1"}])
    )
    (row,) = read_annotations("activitynet_qa", str(tmp_path), ("val",), raising())
    assert (row.video, row.answer, row.kind) == ("a", "yes", "yes/no")
    (tmp_path / "val_a.json").write_text(json.dumps([]))
    with pytest.raises(UserError, match="question q1 has no answer"):
        read_annotations("activitynet_qa", str(tmp_path), ("val",), raising())


def test_a_multiple_choice_gives_the_text_of_the_right_answer(tmp_path: Path) -> None:
    (tmp_path / "val.csv").write_text(
        "video,question,answer,type,a0,a1,a2,a3,a4\n7,why,1,CW,p,q,r,s,t\n"
    )
    (row,) = read_annotations("next_qa", str(tmp_path), ("val",), raising())
    assert (row.answer, row.kind) == ("q", "causal")
    text = "gif_name\tquestion\ta1\ta2\ta3\ta4\ta5\tanswer\ng\twhat\tp\tq\tr\ts\tt\t4\n"
    (tmp_path / "Test_action_question.csv").write_text(text)
    (row,) = read_annotations("tgif_qa", str(tmp_path), ("test",), raising())
    assert (row.answer, row.kind) == ("t", "action")


def test_an_unknown_format_or_split_is_refused() -> None:
    with pytest.raises(
        UserError, match="unknown annotation format 'nextqa'; did you mean 'next_qa'"
    ):
        read_annotations("nextqa", ".", ("val",), raising())
    with pytest.raises(UserError, match="unknown split 'valid'"):
        read_annotations("next_qa", ".", ("valid",), raising())


@pytest.mark.data
@pytest.mark.slow
def test_every_published_annotation_file_is_read_to_the_last_row(data_dir: Path) -> None:
    video = data_dir / "video"
    wanted = [
        ("msvd_qa", "msvd-qa", ("train", "val", "test"), 50_505),
        ("next_qa", "nextqa-oe", ("train", "val", "test"), 52_044),
        ("next_qa", "nextqa-mc", ("val", "test"), 13_560),
        ("msrvtt_qa", "msrvtt-qa", ("val", "test"), 85_099),
        ("activitynet_qa", "activitynet-qa", ("train", "val", "test"), 58_000),
        ("tgif_qa", "tgif-qa", ("train", "test"), 73_061),
    ]
    for form, folder, splits, count in wanted:
        assert len(read_annotations(form, str(video / folder), splits, raising())) == count, folder


@pytest.mark.data
@pytest.mark.slow
def test_msvd_is_split_by_questions_or_by_clips(data_dir: Path) -> None:
    video = data_dir / "video"
    paths = {"annotations": str(video / "msvd-qa"), "msvd": str(video / "msvd")}
    paths["features"] = str(video / "msvd" / "features_f16.npz")
    for split, devices in (("new_questions", 25), ("new_clips", 29)):
        options = ClipFileOptions(format="msvd_qa", split=split, **paths)
        stream = annotated_stream(8, options, seed=0, captions=False)
        assert stream.num_devices == devices and stream.table.clips.num_clips == 100
        assert stream.num_items == 2_586
    options = ClipFileOptions(format="msvd_qa", **paths)
    stream = annotated_stream(8, options, seed=0, captions=True)
    assert stream.num_items == 1_674 and stream.segment(np.arange(25), 0).candidates.shape[1] == 20


@pytest.mark.data
def test_a_real_video_is_decoded_and_a_truncated_one_is_an_error(
    data_dir: Path, tmp_path: Path
) -> None:
    pytest.importorskip("av", reason="pip install 'cdc-flower[video]'")
    file = next((data_dir / "video" / "msvd" / "video").glob("*.avi"))
    frames = decode(file, 3, 32)
    assert frames.shape == (3, 32, 32, 3) and frames.dtype == np.uint8 and frames.std() > 5
    for share in (0.5, 0.001):
        cut = tmp_path / f"cut{share}.avi"
        cut.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
        with pytest.raises(UserError, match=r"cut.*\.avi: must be a whole video file"):
            decode(cut, 3, 32)
