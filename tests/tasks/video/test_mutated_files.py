"""Whatever bytes lie in a file: it is read, or refused in a line, and soon."""

import gzip
import io
import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from changed_bytes import mutated
from mutants import Mutants
from video_files import write_clip

from cdc_flower.tasks.video.annotations import read_annotations
from cdc_flower.tasks.video.features import read_features
from cdc_flower.tasks.video.frames import decode
from cdc_flower.tasks.video.msvd import msvd_captions, msvd_names
from cdc_flower.tasks.video.problems import Problems

h5py = pytest.importorskip("h5py", reason="pip install 'cdc-flower[video]'")

#: Files of each kind: of a test of ``make test``, and of each of those of ``make long``.
SAMPLE = 12
MANY = 100
LONG_TESTS = 15


def read_clip(file: Path) -> object:
    return decode(file, 3, 16)


def features_of(file: Path) -> object:
    return read_features(str(file.parent), ["clip"], 3, Problems.of("raise"))


def archive_of(file: Path) -> object:
    return read_features(str(file), ["clip", "b"], 3, Problems.of("skip"))


def questions_of(form: str, *others: str) -> Callable[[Path], object]:
    def read(file: Path) -> object:
        for name in others:  # a format of two files: both are the same, changed
            (file.parent / name).write_bytes(file.read_bytes())
        rows = read_annotations(form, str(file.parent), ("train",), Problems.of("skip"))
        assert all(row.video and row.question.strip() and row.answer.strip() for row in rows)
        return rows

    return read


def msvd_of(file: Path) -> object:
    return msvd_names(str(file.parent)), msvd_captions(str(file.parent))


@cache
def clip(suffix: str) -> bytes:
    codec = {".gif": "gif", ".webm": "libvpx", ".mov": "libx264"}.get(suffix, "mpeg4")
    with TemporaryDirectory() as folder:
        file = write_clip(
            Path(folder) / f"a{suffix}", 8, codec=codec, b_frames=2 * (codec == "mpeg4")
        )
        return file.read_bytes()


def saved(save: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def hdf5(name: str, values: np.ndarray, texts: str | None = None) -> bytes:
    """An archive of an array; with ids if their type is given."""

    def save(buffer: io.BytesIO) -> None:
        with h5py.File(buffer, "w") as archive:
            if texts is not None:
                dtype = h5py.string_dtype() if texts == "any" else texts
                archive.create_dataset("ids", data=["clip", "b"], dtype=dtype)
            archive.create_dataset(name, data=values, compression="gzip")

    return saved(save)


VALUES = np.arange(20, dtype=np.float32).reshape(4, 5)
BOTH = VALUES[None].repeat(2, 0)
OLD = {"_use_new_zipfile_serialization": False}
ROWS = [{"video_id": k, "question": f"who is {k}", "answer": "a man"} for k in range(4)]
PAIRS = [
    {"question_id": f"q{k}", "question": "who", "answer": "man", "video_name": "v", "type": k}
    for k in range(4)
]
CHOICES = "video,question,answer,type,a0,a1,a2,a3,a4\n" + '7,"why, so",1,CW,p,q,r,s,t\n' * 4
TGIF = "gif_name\tquestion\ta1\ta2\ta3\ta4\ta5\tanswer\n" + "g\twhat\tp\tq\tr\ts\tt\t4\n" * 4
CAPTIONS = json.dumps([{"id": f"a{k}.avi", "caption": ["a man", "runs"]} for k in range(4)])

#: Name of a file, its whole bytes, and its reader.
KINDS: dict[str, tuple[str, Callable[[], bytes], Callable[[Path], object]]] = {
    **{
        suffix: (f"a{suffix}", lambda suffix=suffix: clip(suffix), read_clip)  # type: ignore[misc]
        for suffix in (".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif")
    },
    "npy": ("clip.npy", lambda: saved(lambda to: np.save(to, VALUES)), features_of),
    "npz": ("all.npz", lambda: saved(lambda to: np.savez(to, clip=VALUES, b=VALUES)), archive_of),
    "zip": (
        "clip.npz",
        lambda: saved(lambda to: np.savez_compressed(to, features=VALUES)),
        features_of,
    ),
    "hdf5": ("clip.h5", lambda: hdf5("clip", VALUES), features_of),
    "ids": ("all.h5", lambda: hdf5("feat", BOTH, "S4"), archive_of),
    "texts": ("all.h5", lambda: hdf5("feat", BOTH, "any"), archive_of),
    "pt": ("clip.pt", lambda: saved(lambda to: torch.save(torch.ones(4, 5), to)), features_of),
    "tensors": (
        "all.pt",
        lambda: saved(lambda to: torch.save({"clip": torch.ones(4, 5)}, to, **OLD)),
        archive_of,
    ),
    "msvd_qa": ("train_qa.json", lambda: json.dumps(ROWS).encode(), questions_of("msvd_qa")),
    "msrvtt_qa": (
        "train_qa.json.gz",
        lambda: gzip.compress(json.dumps(ROWS).encode(), mtime=0),
        questions_of("msrvtt_qa"),
    ),
    "next_qa": ("train.csv", CHOICES.encode, questions_of("next_qa")),
    "activitynet_qa": (
        "train_q.json",
        lambda: json.dumps(PAIRS).encode(),
        questions_of("activitynet_qa", "train_a.json"),
    ),
    "tgif_qa": ("Train_action_question.csv", TGIF.encode, questions_of("tgif_qa")),
    "captions": (
        "testing_label.json",
        CAPTIONS.encode,
        lambda file: msvd_captions(str(file.parent)),
    ),
    "names": (
        "youtube_mapping.txt",
        lambda: b"".join(b"clip_%d vid%d\n" % (k, k) for k in range(9)),
        lambda file: msvd_names(str(file.parent)),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_file_is_read(kind: str, tmp_path: Path) -> None:
    name, whole, read = KINDS[kind]
    (tmp_path / name).write_bytes(whole())
    assert len(read(tmp_path / name))  # type: ignore[arg-type]


CASES = [
    pytest.param(kind, number, marks=pytest.mark.long if number else pytest.mark.slow)
    for number in range(LONG_TESTS + 1)
    for kind in KINDS
]


@pytest.mark.parametrize(("kind", "number"), CASES)
def test_a_changed_file_is_read_or_refused_in_a_line(
    kind: str,
    number: int,
    tmp_path: Path,
    recwarn: pytest.WarningsRecorder,
    mutants: Mutants,
) -> None:
    name, whole, read = KINDS[kind]
    rng = random.Random(f"{kind} {number}")
    for index in range(MANY if number else SAMPLE):
        file = tmp_path / str(index) / name
        file.parent.mkdir()
        file.write_bytes(mutated(whole(), rng))
        with mutants.one():
            read(file)
