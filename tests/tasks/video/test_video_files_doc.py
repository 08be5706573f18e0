"""The lines of docs/video_files.md read files of their formats."""

import csv
import io
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from run_cases import composed_of
from video_files import write_clip

from cdc_flower.tasks.data.registry import StreamShape, data_of

h5py = pytest.importorskip("h5py", reason="pip install 'cdc-flower[video]'")

DOC = (Path(__file__).parents[3] / "docs" / "video_files.md").read_text(encoding="utf-8")
#: First cell of a row of a table, and the line in its last.
LINES = re.findall(r"^\| (.+?) \|.* `cdc-flower (.+?)` \|$", DOC, re.MULTILINE)
SPLITS = ("train", "val", "test")
#: Names of clips, and of the questions of each the word that differs.
CLIPS = [f"clip{k}" for k in range(4)]
COLORS = ("red", "blue", "green", "black", "white", "gray")
VALUES = {name: np.random.default_rng(k).normal(size=(6, 5)) for k, name in enumerate(CLIPS)}


def asked(split: str) -> list[tuple[int, str, str]]:
    """Number of the clip, question and answer; the last clip is that of the test split."""
    clips = range(3, 4) if split == "test" else range(3)
    return [(k, f"what is {color}", color) for k in clips for color in COLORS]


def write_csv(path: Path, header: str, rows: list[list[object]], sep: str = ",") -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=sep).writerows([header.split(","), *rows])
    path.write_text(text.getvalue())


def as_arrays(folder: Path, names: dict[str, str]) -> None:
    folder.mkdir()
    for name, shown in names.items():
        np.save(folder / f"{shown}.npy", VALUES[name])


def numbered(folder: Path) -> None:
    for split in SPLITS:
        entries = [{"video_id": k, "question": q, "answer": a} for k, q, a in asked(split)]
        (folder / f"{split}_qa.json").write_text(json.dumps(entries))


def msrvtt_json(folder: Path) -> None:
    numbered(folder)
    as_arrays(folder / "feat", {name: f"video{k}" for k, name in enumerate(CLIPS)})


def table(header: str, row: Callable[[int, str, str], list[object]]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for split in SPLITS:
            write_csv(folder / f"{split}.csv", header, [row(*one) for one in asked(split)])
        as_arrays(folder / "feat", {name: name for name in CLIPS})

    return write


next_qa = table("video,question,answer,type", lambda k, q, a: [CLIPS[k], q, a, "DC"])


def activitynet(folder: Path) -> None:
    for split in SPLITS:
        numbers = [{"question_id": f"{split}{n}"} for n in range(len(asked(split)))]
        rows = list(zip(numbers, asked(split), strict=True))
        asks = [{**n, "video_name": CLIPS[k], "question": q} for n, (k, q, _) in rows]
        tells = [{**n, "answer": a, "type": 4} for n, (_, _, a) in rows]
        (folder / f"{split}_q.json").write_text(json.dumps(asks))
        (folder / f"{split}_a.json").write_text(json.dumps(tells))
    as_arrays(folder / "feat", {name: f"v_{name}" for name in CLIPS})


def tgif(folder: Path) -> None:
    for split in ("train", "test"):
        part = split.capitalize()
        rows: list[list[object]] = [[CLIPS[k], q, a] for k, q, a in asked(split)]
        frames = folder / f"{part}_frameqa_question.csv"
        write_csv(frames, "gif_name,question,answer", rows, "\t")
        several: list[list[object]] = [[CLIPS[k], q, *"pqrst", 4] for k, q, _ in asked(split)]
        header = "gif_name,question,a1,a2,a3,a4,a5,answer"
        write_csv(folder / f"{part}_action_question.csv", header, several, "\t")
    as_arrays(folder / "feat", {name: name for name in CLIPS})


def msvd(folder: Path) -> None:
    (folder / "msvd").mkdir()
    (folder / "msvd-qa").mkdir()
    numbered(folder / "msvd-qa")
    lines = [f"{name} vid{k}" for k, name in enumerate(CLIPS)]
    (folder / "msvd" / "youtube_mapping.txt").write_text("\n".join(lines))
    np.savez(folder / "msvd" / "features_f16.npz", **VALUES)
    captions = [{"id": f"{name}.avi", "caption": ["a man", "he runs"]} for name in CLIPS]
    (folder / "msvd" / "testing_label.json").write_text(json.dumps(captions))


def each(folder: Path, suffix: str, save: Callable[[Path, np.ndarray], object]) -> None:
    place = folder / suffix.removeprefix(".")
    place.mkdir()
    for name, values in VALUES.items():
        save(place / f"{name}{suffix}", values)


def all_hdf5(path: Path, arrays: dict[str, object]) -> None:
    with h5py.File(path, "w") as archive:
        for name, values in arrays.items():
            archive[name] = values


TENSORS = {name: torch.from_numpy(values) for name, values in VALUES.items()}
IDS = {"ids": [name.encode() for name in CLIPS], "feat": np.stack(list(VALUES.values()))}
ANNOTATIONS: dict[str, Callable[[Path], None]] = {
    "MSRVTT-QA": msrvtt_json,
    "MSRVTT-QA, CSV": table("video,question,answer", lambda k, q, a: [CLIPS[k], q, a]),
    "NExT-QA, open-ended": next_qa,
    "NExT-QA, multiple choice": table(
        "video,question,answer,type,a0,a1,a2,a3,a4",
        lambda k, q, a: [CLIPS[k], q, 2, "CW", "x", "x, y", a, "z", "z"],
    ),
    "ActivityNet-QA": activitynet,
    "TGIF-QA": tgif,
    "MSVD-QA": msvd,
    "MSVD, captions": msvd,
}
FRAMES: dict[str, Callable[[Path], object]] = {
    "a folder of `NAME.npy`": lambda folder: each(folder, ".npy", np.save),
    "a folder of `NAME.npz`": lambda folder: each(
        folder, ".npz", lambda path, values: np.savez(path, feat=values, mask=np.ones(6))
    ),
    "a folder of `NAME.h5`": lambda folder: each(
        folder, ".h5", lambda path, values: all_hdf5(path, {"data": values})
    ),
    "a folder of `NAME.pt`": lambda folder: each(
        folder, ".pt", lambda path, values: torch.save(torch.from_numpy(values), path)
    ),
    "one `.npz`": lambda folder: np.savez(folder / "all.npz", **VALUES),
    "one HDF5 file with a dataset": lambda folder: all_hdf5(
        folder / "all.hdf5", {f"v_{name}/c3d_features": values for name, values in VALUES.items()}
    ),
    "one HDF5 file with `ids`": lambda folder: all_hdf5(folder / "app_feat.h5", {**IDS}),
    "one `.pt`": lambda folder: torch.save(TENSORS, folder / "all.pt"),
    "a folder of `NAME` with": lambda folder: [
        (folder / "videos").mkdir(exist_ok=True)
        or write_clip(folder / "videos" / f"{name}{suffix}", 6)
        for name, suffix in zip(CLIPS, (".avi", ".MP4", ".mkv", ".mov"), strict=True)
    ],
}


def makers_of(cell: str) -> list[Callable[[Path], object]]:
    if cell in ANNOTATIONS:
        return [ANNOTATIONS[cell]]
    return [next_qa, *(make for words, make in FRAMES.items() if cell.startswith(words))]


def test_every_line_has_its_files() -> None:
    makers = [maker for cell, _ in LINES for maker in makers_of(cell)]
    assert len(LINES) == len(ANNOTATIONS) + len(FRAMES)
    assert {*makers} == {*ANNOTATIONS.values(), *FRAMES.values()}


@pytest.mark.parametrize(("cell", "line"), LINES, ids=[cell[:40] for cell, _ in LINES])
def test_the_line_reads_files_of_the_format(cell: str, line: str, tmp_path: Path) -> None:
    for make in makers_of(cell):
        make(tmp_path)
    words = [word.replace("DIR", str(tmp_path)) for word in shlex.split(line)]
    config = composed_of(*words, "data.clips_per_device=2")
    captions = config.task == "video_retrieval"
    node: Any = OmegaConf.to_container(config.data, resolve=True)
    stream = data_of(node).stream(StreamShape(num_segments=2, seed=0, captions=captions))
    assert stream.num_devices == 2
    clips = stream.table.clips
    assert clips.num_clips == 4
    assert stream.num_items == {"TGIF-QA": 48, "MSVD, captions": 8}.get(cell, 42)
    size = [5] if "data.videos" not in line else [32, 32, 3]
    assert list(clips.frame_shape) == size and clips.frames(np.arange(4)).std() > 0.1
