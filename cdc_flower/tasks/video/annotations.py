"""Questions about real videos, from published annotation files.

They are those of MSVD-QA, MSRVTT-QA, NExT-QA, ActivityNet-QA and TGIF-QA.

Every format comes to the same rows: a video, a question, its answer as a word or phrase, a type,
and the split that the file is of. ``path`` is the folder of the files as they are published; gzip
is read as it is.
"""

from collections.abc import Callable, Iterator

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.core.opening.places import existing, files_in
from cdc_flower.tasks.video.problems import Problems
from cdc_flower.tasks.video.reading import find_file
from cdc_flower.tasks.video.rows import (
    KEY,
    Annotation,
    Malformed,
    Row,
    answer_of,
    choice_of,
    made,
    name_of,
    objects,
    table,
    text_of,
)

SPLITS = ("train", "val", "test")
_NEXT_TYPES = {"C": "causal", "T": "temporal", "D": "descriptive"}
_NEXT_CHOICES = ("a0", "a1", "a2", "a3", "a4")
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
_TGIF_CHOICES = ("a1", "a2", "a3", "a4", "a5")


def first_word(question: str) -> str:
    """The type of a question in MSVD-QA and MSRVTT-QA: its first word, or other."""
    word = question.split(" ", 1)[0].lower()
    return word if word in _MSRVTT_FIRST else "other"


def msvd_qa(folder: str, split: str, problems: Problems) -> Iterator[Annotation]:
    """Reads ``{split}_qa.json``, where a video is ``vid<number>`` of ``youtube_mapping.txt``.

    Args:
        folder: Of the annotation files.
        split: One of train, val and test.
        problems: What becomes of rows that cannot be used.
    """
    return _numbered(folder, split, problems, "vid")


def msrvtt_qa(folder: str, split: str, problems: Problems) -> Iterator[Annotation]:
    """Reads ``{split}_qa.json``, where number 0 is ``video0``, or ``{split}.csv`` with names.

    Args:
        folder: Of the annotation files.
        split: One of train, val and test.
        problems: What becomes of rows that cannot be used.
    """
    names = (f"{split}.csv", f"{split}_qa.json")
    if find_file(folder, names, KEY).name.startswith(names[1]):
        return _numbered(folder, split, problems, "video")

    def make(place: str, row: Row) -> Annotation:
        question = text_of(row, "question")
        kind = first_word(question)
        return Annotation(name_of(row, "video"), question, answer_of(row), kind, split, place)

    rows = table(folder, names[:1], ",", ("video", "question", "answer"), problems)
    return made(rows, make, problems)


def _numbered(folder: str, split: str, problems: Problems, prefix: str) -> Iterator[Annotation]:
    """Reads ``{split}_qa.json``, where a video has a number that follows a prefix in its name.

    Args:
        folder: Of the annotation files.
        split: One of train, val and test.
        problems: What becomes of rows that cannot be used.
        prefix: Of the names of videos.
    """

    def make(place: str, row: Row) -> Annotation:
        number = name_of(row, "video_id")
        if not (number.isascii() and number.isdigit()):
            raise Malformed(f"video_id must be a number from 0, got {number!r}")
        question = text_of(row, "question")
        kind = first_word(question)
        return Annotation(f"{prefix}{number}", question, answer_of(row), kind, split, place)

    return made(objects(folder, (f"{split}_qa.json",), problems), make, problems)


def next_qa(folder: str, split: str, problems: Problems) -> Iterator[Annotation]:
    """Reads ``{split}.csv``: open-ended answers, or the text of the right one of several.

    Args:
        folder: Of the annotation files.
        split: One of train, val and test.
        problems: What becomes of rows that cannot be used.
    """

    def make(place: str, row: Row) -> Annotation:
        answer = choice_of(row, _NEXT_CHOICES) if "a0" in row else answer_of(row)
        kind = _NEXT_TYPES.get(text_of(row, "type")[:1], "other")
        video = name_of(row, "video")
        return Annotation(video, text_of(row, "question"), answer, kind, split, place)

    columns = ("video", "question", "answer", "type")
    rows = table(folder, (f"{split}.csv",), ",", columns, problems, _NEXT_CHOICES)
    return made(rows, make, problems)


def activitynet_qa(folder: str, split: str, problems: Problems) -> Iterator[Annotation]:
    """Reads ``{split}_q.json`` and ``{split}_a.json``, joined by the id of the question.

    Args:
        folder: Of the annotation files.
        split: One of train, val and test.
        problems: What becomes of rows that cannot be used.
    """
    answers: dict[str, tuple[str, str]] = {}
    asked: set[str] = set()

    def keep(place: str, row: Row) -> None:
        number = _new(row, answers)
        answers[number] = (answer_of(row), _activitynet_kind(row.get("type")))

    def make(place: str, row: Row) -> Annotation:
        number = _new(row, asked)
        video = name_of(row, "video_name")
        question = text_of(row, "question")
        asked.add(number)
        if number not in answers:
            raise Malformed(f"question {number} has no answer")
        return Annotation(video, question, *answers[number], split, place)

    for _ in made(objects(folder, (f"{split}_a.json",), problems), keep, problems):
        pass
    return made(objects(folder, (f"{split}_q.json",), problems), make, problems)


def _new(row: Row, known: set[str] | dict[str, tuple[str, str]]) -> str:
    """Gives the id of a question that was not there before."""
    number = name_of(row, "question_id")
    if number in known:
        raise Malformed(f"question_id must stand in one entry, got {number} again")
    return number


def _activitynet_kind(number: object) -> str:
    if isinstance(number, int) and 0 <= number < len(_ACTIVITYNET_TYPES):
        return _ACTIVITYNET_TYPES[number]
    return "other"


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
    place = existing(folder, KEY, ("a folder", "a file"))
    listed = files_in(place, KEY) if place.is_dir() else [place.name]
    there = {kind: name for kind, name in names.items() if {name, f"{name}.gz"} & {*listed}}
    if not there:
        find_file(folder, list(names.values()), KEY)
    columns = ("gif_name", "question", "answer")
    for kind, name in there.items():

        def make(place: str, row: Row, kind: str = kind) -> Annotation:
            answer = choice_of(row, _TGIF_CHOICES) if "a1" in row else answer_of(row)
            video = name_of(row, "gif_name")
            return Annotation(video, text_of(row, "question"), answer, kind, split, place)

        rows = table(folder, (name,), "\t", columns, problems, _TGIF_CHOICES)
        yield from made(rows, make, problems)


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
        UserError: If the format or a split is unknown, a file is missing or damaged, a row is
            malformed, or nothing is left.
    """
    if form not in FORMATS:
        raise unknown_name("annotation format", form, FORMATS, "data.format")
    for split in splits:
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS, "data.splits")
    rows = [row for split in splits for row in FORMATS[form](folder, split, problems)]
    if not rows:
        skipped = "".join(f"; {words}" for words in problems.skipped())
        raise UserError(
            f"{KEY} must hold at least one question of the splits {', '.join(splits)}, "
            f"got none in {folder!r}{skipped}"
        )
    return rows
