import gzip
import json
import os
from pathlib import Path

import pytest

from cdc_flower.core.errors import UserError
from cdc_flower.core.opening import texts
from cdc_flower.tasks.video.annotations import read_annotations
from cdc_flower.tasks.video.msvd import msvd_captions, msvd_names
from cdc_flower.tasks.video.problems import Problems
from cdc_flower.tasks.video.rows import Annotation

RAISE = Problems.of("raise")
CSV = "video,question,answer,type\n"
CHOICES = "video,question,answer,type,a0,a1,a2,a3,a4\n"
TGIF = "gif_name\tquestion\ta1\ta2\ta3\ta4\ta5\tanswer\n"
GOOD = {"video_id": 1, "question": "who runs", "answer": "man"}


def rows_of(form: str, folder: Path, problems: Problems = RAISE) -> list[Annotation]:
    return read_annotations(form, str(folder), ("train",), problems)


def test_msrvtt_qa_is_read_as_it_is_published(tmp_path: Path) -> None:
    for part, (split, first) in enumerate({"train": 0, "val": 6513, "test": 7010}.items()):
        entry = {"answer": "couch", "category_id": 14, "id": part, "question": "what sits"}
        (tmp_path / f"{split}_qa.json").write_text(json.dumps([{**entry, "video_id": first}]))
    rows = read_annotations("msrvtt_qa", str(tmp_path), ("train", "val", "test"), RAISE)
    assert [row.video for row in rows] == ["video0", "video6513", "video7010"]
    assert [row.split for row in rows] == ["train", "val", "test"]
    assert rows[0].answer == "couch" and rows[0].kind == "what"
    assert rows[2].place.endswith("test_qa.json: entry 0")


def test_a_missing_file_is_told_with_its_key_and_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "training.csv").write_text("x")
    message = r"data\.annotations must be a folder with one of train\.csv, train\.csv\.gz, train_qa"
    with pytest.raises(UserError, match=message + r".*, which holds training\.csv"):
        rows_of("msrvtt_qa", tmp_path)
    with pytest.raises(
        UserError, match=r"must be a folder with one of Train_frameqa_question\.csv"
    ):
        rows_of("tgif_qa", tmp_path)
    with pytest.raises(UserError, match=r"one of train\.csv, .*got '.*training\.csv'"):
        rows_of("next_qa", tmp_path / "training.csv")
    os.mkfifo(tmp_path / "train.csv")
    with pytest.raises(UserError, match=r"which holds training\.csv"):
        rows_of("next_qa", tmp_path)
    with pytest.raises(UserError, match=r"data\.annotations must be .*, got a pipe"):
        rows_of("next_qa", tmp_path / "train.csv")


BAD_TABLES = [
    ("next_qa", CHOICES.replace(",a4", "") + "1,why,4,CW,p,q,r,s\n", r"csv:1: .*got none for a4"),
    ("next_qa", CHOICES + "1,why,5,CW,p,q,r,s,t\n", r"csv:2: answer must be 0 to 4, got '5'"),
    ("next_qa", CHOICES + "1,why,4,CW,p,q,r,s\n", r"csv:2: a4 must not be empty"),
    (
        "next_qa",
        CSV + "1,is it red, blue,blue,D\n",
        r"csv:2: must have 4 fields as the header, got",
    ),
    ("next_qa", CSV + "1,who\n", r"csv:2: answer must not be empty"),
    (
        "next_qa",
        "video,question,video,answer,type\n",
        r"csv:1: must have each column once, got vid",
    ),
    ("next_qa", CSV + f"1,{'w' * 200_000},b,D\n", r"csv:2: must be CSV \(field larger than"),
    ("next_qa", CSV + f"1,{'w' * 20_000},b,D\n", r"question must have at most 10,000 characters"),
    ("next_qa", CSV + f"{'v' * 300},who,b,D\n", r"video must have at most 255 characters, got 300"),
    ("next_qa", CSV + '1,"who\n2,what,b,D\n', r"csv:3: must be CSV \(unexpected end of data"),
    ("next_qa", CSV + "1\x07,who,b,D\n", r"video must have no control characters"),
    ("next_qa", CSV + "1,who,b\0,D\n", r"csv:2: must be text, got a zero byte"),
    ("msrvtt_qa", "video,question\n", r"csv:1: must have the columns video, question, answer, got"),
    ("tgif_qa", TGIF.replace("\ta5", "") + "g\twhat\tp\tq\tr\ts\t4\n", r"csv:1: .*none for a5"),
    ("tgif_qa", TGIF + "g\twhat\tp\tq\tr\ts\tt\t-1\n", r"csv:2: answer must be 0 to 4, got '-1'"),
]


@pytest.mark.parametrize(("form", "text", "message"), BAD_TABLES)
def test_a_bad_table_is_told_with_its_line(
    form: str, text: str, message: str, tmp_path: Path
) -> None:
    name = "Train_action_question.csv" if form == "tgif_qa" else "train.csv"
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message) as error:
        rows_of(form, tmp_path)
    assert len(str(error.value)) < 400


BAD_ENTRIES = [
    ({"question": 7}, r"question must be text, got 7"),
    ({"question": ["who"]}, r"question must be text, got \['who'\]"),
    ({"question": " "}, r"question must not be empty"),
    ({"question": "\ud800"}, r"question must be text, got half a character"),
    ({"answer": None}, r"answer must not be empty"),
    ({"answer": {"a": 1}}, r"answer must be text, got \{'a': 1\}"),
    ({"answer": True}, r"answer must be text, got True"),
    ({"answer": float("nan")}, r"answer must be text or a finite number, got nan"),
    ({"video_id": -1}, r"video_id must be a number from 0, got '-1'"),
    ({"video_id": 1.5}, r"video_id must be text, got 1.5"),
    ({"video_id": True}, r"video_id must be text, got True"),
    ({"video_id": "../x"}, r"video_id must be a number from 0, got '\.\./x'"),
    ({"video_id": int("9" * 300)}, r"video_id must have at most 255 characters, got 300"),
]


@pytest.mark.parametrize("form", ["msvd_qa", "msrvtt_qa"])
@pytest.mark.parametrize(("change", "message"), BAD_ENTRIES)
def test_a_bad_entry_is_told_and_skip_counts_it(
    change: dict[str, object], message: str, form: str, tmp_path: Path
) -> None:
    (tmp_path / "train_qa.json").write_text(json.dumps([GOOD, {**GOOD, **change}, GOOD]))
    with pytest.raises(UserError, match=r"train_qa\.json: entry 1: " + message):
        rows_of(form, tmp_path)
    problems = Problems.of("skip")
    assert len(rows_of(form, tmp_path, problems)) == 2
    assert problems.counts == {"malformed row": 1}


BAD_FILES = [
    ("[" * 100_000, r"train_qa\.json: must be a whole JSON file"),
    ('[{"video_id": ' + "1" * 5_000 + "}]", r"train_qa\.json: must be a whole JSON file"),
    ("[\n{]", r"train_qa\.json:2: must be JSON"),
    ("{}", r"train_qa\.json: must be a JSON list, got dict"),
    ("[[1]]", r"train_qa\.json: entry 0: must be a JSON object, got list"),
    (" ", r"train_qa\.json: must hold annotations, got an empty file"),
    (b"\n\xff\xfe", r"train_qa\.json:2: must be utf-8 text, got byte 0xff"),
    (b"\x1f\x8b", r"train_qa\.json: must be a whole gzip file \(it ends too soon\)"),
    (b"\x1f\x8b\x08" + b"\xff" * 40, r"train_qa\.json: must be a whole gzip file"),
    (gzip.compress(b"[1, 2]" * 99, mtime=0)[:-12], r"train_qa\.json: must be a whole gzip file"),
]


@pytest.mark.parametrize(("content", "message"), BAD_FILES)
def test_a_bad_file_is_told_and_skip_counts_it(
    content: str | bytes, message: str, tmp_path: Path
) -> None:
    data = content.encode() if isinstance(content, str) else content
    (tmp_path / "train_qa.json").write_bytes(data)
    with pytest.raises(UserError, match=message) as error:
        rows_of("msvd_qa", tmp_path)
    assert len(str(error.value)) < 400
    with pytest.raises(
        UserError, match=r"at least one question .*; 1 (annotation file|malformed row) skipped"
    ):
        rows_of("msvd_qa", tmp_path, Problems.of("skip"))
    (tmp_path / "val_qa.json").write_text(json.dumps([GOOD]))
    problems = Problems.of("skip")
    rows = read_annotations("msvd_qa", str(tmp_path), ("train", "val"), problems)
    assert len(rows) == 1 and sum(problems.counts.values()) == 1


def test_text_that_expands_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "MOST_BYTES", 5_000)
    whole = json.dumps([GOOD] * 50).encode()
    (tmp_path / "train_qa.json.gz").write_bytes(
        gzip.compress(whole[:99]) + gzip.compress(whole[99:])
    )
    assert len(rows_of("msvd_qa", tmp_path)) == 50, "several members are one file"
    for content in (gzip.compress(bytes(50_000_000)), b" " * 5_001):
        (tmp_path / "train_qa.json.gz").write_bytes(content)
        with pytest.raises(UserError, match="a file must have at most 5,000 bytes"):
            rows_of("msvd_qa", tmp_path)


def test_byte_order_marks_and_ends_of_line_of_other_systems_are_read(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(
        b'\xef\xbb\xbfvideo,question,answer,type\r\n1,"is it, so",yes,D\r\n\r\n2,who,man,C\r\n'
    )
    rows = rows_of("next_qa", tmp_path)
    assert [(row.video, row.question, row.answer) for row in rows] == [
        ("1", "is it, so", "yes"),
        ("2", "who", "man"),
    ]


@pytest.mark.parametrize(
    ("questions", "answers", "message"),
    [
        (
            ["q1", "q1"],
            ["q1"],
            r"val_q\.json: entry 1: question_id must stand in one entry, got q1",
        ),
        (["q1"], ["q1", "q1"], r"val_a\.json: entry 1: question_id must stand in one entry"),
        ([["q1"]], ["q1"], r"val_q\.json: entry 0: question_id must be text, got \['q1'\]"),
        (["q1"], [{"q": 1}], r"val_a\.json: entry 0: question_id must be text"),
    ],
)
def test_a_question_of_activitynet_stands_there_once(
    questions: list[object], answers: list[object], message: str, tmp_path: Path
) -> None:
    asked = [{"video_name": "a", "question": "who", "question_id": number} for number in questions]
    told = [{"answer": "yes", "type": [3], "question_id": number} for number in answers]
    (tmp_path / "val_q.json").write_text(json.dumps(asked))
    (tmp_path / "val_a.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match=message):
        read_annotations("activitynet_qa", str(tmp_path), ("val",), RAISE)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            [{"id": "a.avi", "caption": "a man"}],
            r"entry 0: caption must be a list of texts, got str",
        ),
        ([{"id": "a.avi", "caption": [7]}], r"entry 0: caption must be text, got 7"),
        ([{"id": "a.avi"}], r"entry 0: caption must be a list of texts, got NoneType"),
        ([{"caption": []}], r"entry 0: id must not be empty"),
        ([7], r"entry 0: must be a JSON object, got int"),
        ({}, r"must be a JSON list, got dict"),
        (
            [{"id": "a", "caption": ["x"]}, {"id": "a.avi", "caption": ["y"]}],
            r"entry 1: id must st",
        ),
    ],
)
def test_captions_are_lists_of_texts_by_clip(entries: object, message: str, tmp_path: Path) -> None:
    (tmp_path / "testing_label.json").write_text(json.dumps(entries))
    with pytest.raises(UserError, match=r"testing_label\.json: " + message):
        msvd_captions(str(tmp_path))


def test_the_names_of_msvd_are_told_once(tmp_path: Path) -> None:
    (tmp_path / "youtube_mapping.txt").write_text("a_1 vid1\nb_1 vid2\nc_1 vid1\n")
    with pytest.raises(UserError, match=r"mapping\.txt:3: must name vid1 once, got a_1 and c_1"):
        msvd_names(str(tmp_path))
    with pytest.raises(UserError, match=r"data\.msvd must be a folder with one of testing_label"):
        msvd_captions(str(tmp_path))
