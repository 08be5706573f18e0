"""Questions about real videos, from published annotation files.

They are those of MSVD-QA, MSRVTT-QA, NExT-QA, ActivityNet-QA and TGIF-QA.

Every format comes to the same rows: a video, a question, its answer as a word or phrase, a type,
and the split that the file is of. ``path`` is the folder of the files as they are published; gzip
is read as it is.
"""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.tasks.recommendation.readers.files import find_file, read_text

SPLITS = ("train", "val", "test")
_NEXT_TYPES = {"C": "causal", "T": "temporal", "D": "descriptive"}
_ACTIVITYNET_TYPES = (
    "motion",
    "spatial",
    "temporal",
    "yes/no",
    "color",
    "object",
    "location",
    "number",
    "other",
)
_MSRVTT_FIRST = ("what", "who", "how", "when", "where")
_TGIF_KINDS = ("frameqa", "count", "action", "transition")


@dataclass(frozen=True)
class Annotation:
    """One question about a video, where it was read, and of which split the file is."""

    video: str
    question: str
    answer: str
    kind: str
    split: str
    place: str


@dataclass(frozen=True)
class Problems:
    """What to do with a row or a file that cannot be used.

    Args:
        on_error: ``raise``, or ``skip``, which counts and tells what is left out.
    """

    on_error: str
    counts: dict[str, int]

    @staticmethod
    def of(on_error: str) -> "Problems":
        """With nothing counted yet.

        Raises:
            UserError: If ``on_error`` is unknown.
        """
        if on_error not in ("raise", "skip"):
            raise unknown_name("on_error", on_error, ("raise", "skip"), "data.on_error")
        return Problems(on_error, {})

    def report(self, what: str, text: str) -> None:
        """A problem: an error, or one more of its kind.

        Raises:
            UserError: With ``on_error=raise``.
        """
        if self.on_error == "raise":
            raise UserError(f"{text} (data.on_error=skip leaves it out)")
        self.counts[what] = self.counts.get(what, 0) + 1

    def tell(self, source: str) -> None:
        """Say on the terminal how much was left out."""
        for what, count in self.counts.items():
            print(f"{source}: {count:,} {what} skipped", file=sys.stderr)


def first_word(question: str) -> str:
    """The type of a question in MSVD-QA and MSRVTT-QA: its first word, or other."""
    word = question.split(" ", 1)[0].lower()
    return word if word in _MSRVTT_FIRST else "other"


def _table(
    folder: str, name: str, sep: str, columns: tuple[str, ...], problems: Problems
) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a file with a header as (place, row); a row that lacks a value is a problem."""
    path = find_file(folder, [name])
    reader = csv.DictReader(io.StringIO(read_text(path, "utf-8"), newline=""), delimiter=sep)
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise UserError(
            f"{path}:1: must have the columns {', '.join(columns)}, "
            f"got none for {', '.join(missing)}"
        )
    for row in reader:
        place = f"{path}:{reader.line_num}"
        empty = [column for column in columns if not (row[column] or "").strip()]
        if empty:
            problems.report("malformed rows", f"{place}: {empty[0]} must not be empty")
            continue
        yield place, row


def _objects(
    folder: str, name: str, keys: tuple[str, ...], problems: Problems
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Objects of a JSON list as (place, object); one that lacks a key is a problem."""
    path = find_file(folder, [name])
    try:
        rows = json.loads(read_text(path, "utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: must be JSON ({error.msg})") from error
    if not isinstance(rows, list):
        raise UserError(f"{path}: must be a JSON list, got {type(rows).__name__}")
    for number, row in enumerate(rows):
        place = f"{path}: entry {number}"
        missing = [key for key in keys if not isinstance(row, dict) or row.get(key) in (None, "")]
        if missing:
            problems.report("malformed entries", f"{place}: {missing[0]} must be given")
            continue
        yield place, row


def msvd_qa(folder: str, split: str, problems: Problems) -> Iterator[Annotation]:
    """Reads ``{split}_qa.json``, where a video is ``vid<number>`` of ``youtube_mapping.txt``.

    Args:
        folder: Of the annotation files.
        split: One of train, val and test.
        problems: What becomes of rows that cannot be used.
    """
    for place, row in _objects(
        folder, f"{split}_qa.json", ("video_id", "question", "answer"), problems
    ):
        video = f"vid{row['video_id']}"
        yield Annotation(
            video, row["question"], str(row["answer"]), first_word(row["question"]), split, place
        )


def msrvtt_qa(folder: str, split: str, problems: Problems) -> Iterator[Annotation]:
    """Reads ``{split}.csv`` with the columns video, question and answer.

    Args:
        folder: Of the annotation files.
        split: One of train, val and test.
        problems: What becomes of rows that cannot be used.
    """
    for place, row in _table(
        folder, f"{split}.csv", ",", ("video", "question", "answer"), problems
    ):
        yield Annotation(
            row["video"], row["question"], row["answer"], first_word(row["question"]), split, place
        )


def next_qa(folder: str, split: str, problems: Problems) -> Iterator[Annotation]:
    """Reads ``{split}.csv``: open-ended answers, or the text of the right one of several.

    Args:
        folder: Of the annotation files.
        split: One of train, val and test.
        problems: What becomes of rows that cannot be used.
    """
    for place, row in _table(
        folder, f"{split}.csv", ",", ("video", "question", "answer", "type"), problems
    ):
        answer = row["answer"]
        if "a0" in row:
            if answer not in ("0", "1", "2", "3", "4"):
                problems.report("malformed rows", f"{place}: answer must be 0 to 4, got {answer!r}")
                continue
            answer = row[f"a{answer}"]
        kind = _NEXT_TYPES.get(row["type"][:1], "other")
        yield Annotation(row["video"], row["question"], answer, kind, split, place)


def activitynet_qa(folder: str, split: str, problems: Problems) -> Iterator[Annotation]:
    """Reads ``{split}_q.json`` and ``{split}_a.json``, joined by the id of the question.

    Args:
        folder: Of the annotation files.
        split: One of train, val and test.
        problems: What becomes of rows that cannot be used.
    """
    answers = {
        row["question_id"]: row
        for _, row in _objects(folder, f"{split}_a.json", ("question_id", "answer"), problems)
    }
    for place, row in _objects(
        folder, f"{split}_q.json", ("question_id", "video_name", "question"), problems
    ):
        answer = answers.get(row["question_id"])
        if answer is None:
            problems.report(
                "questions without an answer",
                f"{place}: question {row['question_id']} has no answer",
            )
            continue
        number = answer.get("type")
        kind = "other"
        if isinstance(number, int) and 0 <= number < len(_ACTIVITYNET_TYPES):
            kind = _ACTIVITYNET_TYPES[number]
        yield Annotation(
            row["video_name"], row["question"], str(answer["answer"]), kind, split, place
        )


def tgif_qa(folder: str, split: str, problems: Problems) -> Iterator[Annotation]:
    """Reads ``{Train,Test}_{frameqa,count,...}_question.csv``, as far as they are there.

    Args:
        folder: Of the annotation files.
        split: One of train, val and test.
        problems: What becomes of rows that cannot be used.
    """
    part = {"train": "Train", "test": "Test"}.get(split)
    if part is None:
        return
    names = {kind: f"{part}_{kind}_question.csv" for kind in _TGIF_KINDS}
    there = {
        kind: name
        for kind, name in names.items()
        if any(Path(folder).expanduser().glob(f"{name}*"))
    }
    if not there:
        find_file(folder, list(names.values()))
    for kind, name in there.items():
        for place, row in _table(folder, name, "\t", ("gif_name", "question", "answer"), problems):
            answer = row["answer"]
            if "a1" in row:
                if answer not in ("0", "1", "2", "3", "4"):
                    problems.report(
                        "malformed rows", f"{place}: answer must be 0 to 4, got {answer!r}"
                    )
                    continue
                answer = row[f"a{int(answer) + 1}"]
            yield Annotation(row["gif_name"], row["question"], answer, kind, split, place)


FORMATS: dict[str, Callable[[str, str, Problems], Iterator[Annotation]]] = {
    "msvd_qa": msvd_qa,
    "msrvtt_qa": msrvtt_qa,
    "next_qa": next_qa,
    "activitynet_qa": activitynet_qa,
    "tgif_qa": tgif_qa,
}


def read_annotations(
    form: str, folder: str, splits: tuple[str, ...], problems: Problems
) -> list[Annotation]:
    """All annotations of these splits, in the order of the files.

    Args:
        form: One of ``FORMATS``.
        folder: Where the files are.
        splits: Some of train, val and test.
        problems: What to do with rows that cannot be used.

    Raises:
        UserError: If the format or a split is unknown, a file is missing or damaged, or a row is
            malformed.
    """
    if form not in FORMATS:
        raise unknown_name("annotation format", form, FORMATS, "data.format")
    for split in splits:
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS, "data.splits")
    return [row for split in splits for row in FORMATS[form](folder, split, problems)]


def msvd_names(path: Path) -> dict[str, str]:
    """``youtube_mapping.txt``: the clip's name of each ``vid<number>``.

    Raises:
        UserError: If a line is not a clip and a number.
    """
    names = {}
    for number, line in enumerate(read_text(path, "utf-8").splitlines(), 1):
        parts = line.split()
        if len(parts) != 2:
            raise UserError(f"{path}:{number}: must be a clip and its id, got {line[:60]!r}")
        names[parts[1]] = parts[0]
    return names


def msvd_captions(path: Path) -> dict[str, list[str]]:
    """``testing_label.json``: captions by the clip's name.

    Raises:
        UserError: If it is not a list of clips with captions.
    """
    try:
        rows = json.loads(read_text(path, "utf-8"))
        return {
            str(row["id"]).removesuffix(".avi"): [str(text) for text in row["caption"]]
            for row in rows
        }
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: must be a JSON list of clips, each with id and caption"
        ) from error
