"""The line of docs/data_files.md for each published format, run on a small file of that format."""

import bz2
import gzip
import json
import lzma
import re
import shlex
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

import cdc_flower
from cdc_flower.tasks.data import data_of
from cdc_flower.tasks.data.interactions import EventFileOptions
from cdc_flower.tasks.recommendation.event_files import ReadEvents, read_parts

ROOT = Path(__file__).parents[3]
CONFIG = Path(cdc_flower.__file__).parent / "configs" / "data" / "interactions.yaml"
LINES = dict(
    re.findall(
        r"^\| ([^|]+?) \| [^|]+ \| `(data\.path=.+)` \|$",
        (ROOT / "docs/data_files.md").read_text(),
        re.M,
    )
)

Write = Callable[[Path], None]


def text(content: str, encoding: str = "utf-8") -> Write:
    return lambda path: void(path.write_bytes(content.encode(encoding)))


def packed(content: str) -> Write:
    return lambda path: void(path.write_bytes(gzip.compress(content.encode(), mtime=0)))


def void(_: object) -> None:
    """Drops a value."""


def lines(*objects: dict[str, Any]) -> str:
    return "".join(json.dumps(each) + "\n" for each in objects)


def reviews_2014(path: Path) -> None:
    rows = (("A2", "B01", 1393545600), ("A1", "B02", 1363392000), ("A2", "B02", 1393545601))
    objects = [
        {
            "reviewerID": user,
            "asin": item,
            "reviewerName": 'a "b"',
            "helpful": [0, 0],
            "overall": 5.0,
            "unixReviewTime": time,
            "reviewTime": "02 28, 2014",
        }
        for user, item, time in rows
    ]
    packed(lines(*objects))(path)


def movielens_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ml-25m/README.txt", "hello")
        archive.writestr("ml-25m/tags.csv", "userId,movieId,tag,timestamp\n9,9,x,1\n")
        rows = "userId,movieId,rating,timestamp\nA1,B02,5.0,1363392000\n"
        rows += "A2,B01,3.5,1393545600\nA2,B02,5.0,1393545601\n"
        archive.writestr("ml-25m/ratings.csv", rows)


def netflix(path: Path) -> None:
    path.mkdir()
    (path / "combined_data_1.txt").write_text("1:\n2,3,2014-02-28\n")
    (path / "combined_data_2.txt").write_text("2:\n1,5,2013-03-16\n2,1,2014-03-01\n")
    (path / "movie_titles.csv").write_text("1,2003,Dinosaur Planet\n")


def parquet_parts(path: Path) -> None:
    path.mkdir()
    rows = pd.DataFrame(
        {
            "userId": ["A2", "A1", "A2"],
            "movieId": ["B01", "B02", "B02"],
            "timestamp": pd.to_datetime([1393545600, 1363392000, 1393545601], unit="s"),
        }
    )
    rows.iloc[:2].to_parquet(path / "part-0.snappy.parquet")
    rows.iloc[2:].to_parquet(path / "part-1.snappy.parquet")
    (path / "_SUCCESS").touch()


EVENTS = (("A1", "B02", 1363392000), ("A2", "B01", 1393545600), ("A2", "B02", 1393545601))
RATINGS = "".join(f"{user},{item},5.0,{time}\n" for user, item, time in EVENTS)
ISO = {1363392000: "2013-03-16T00:00:00Z", 1393545600: "2014-02-28T00:00:00Z"}
ISO[1393545601] = "2014-02-28T00:00:01Z"
#: What is in the table, by the line of the page: the content of the file.
FORMATS: dict[str, Write] = {
    "Amazon 2014, reviews": reviews_2014,
    "Amazon 2014, ratings": text(RATINGS),
    "Amazon 2018, reviews": reviews_2014,
    "Amazon 2018, ratings": text("".join(f"{i},{u},5.0,{t}\n" for u, i, t in EVENTS)),
    "Amazon 2023, reviews": packed(
        lines(
            *(
                {"rating": 5.0, "title": "x", "asin": "B99", "parent_asin": i, "user_id": u}
                | {"timestamp": t * 1000, "helpful_vote": 0}
                for u, i, t in EVENTS
            )
        )
    ),
    "Amazon 2023, ratings": packed(
        "user_id,parent_asin,rating,timestamp\n"
        + "".join(f"{u},{i},5.0,{t}000\n" for u, i, t in EVENTS)
    ),
    "MovieLens 100K": text("".join(f"{u}\t{i}\t5\t{t}\n" for u, i, t in EVENTS)),
    "MovieLens 1M, 10M": text("".join(f"{u}::{i}::5::{t}\n" for u, i, t in EVENTS)),
    "MovieLens 20M, 25M, 32M, latest": movielens_zip,
    "RecBole": text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        + "".join(f"{u}\t{i}\t5.0\t{t}.0\n" for u, i, t in EVENTS)
    ),
    "Gowalla": packed(
        "".join(f"{u}\t{ISO[t]}\t30.23\t-97.79\t{i}\n" for u, i, t in reversed(EVENTS))
    ),
    "Last.fm 1K": text(
        "".join(f'{u}\t{ISO[t]}\t\t{i}\t\t"Heroes" 7" mix\n' for u, i, t in reversed(EVENTS))
    ),
    "Last.fm HetRec": text(
        "userID\tartistID\tweight\n" + "".join(f"{u}\t{i}\t139\n" for u, i, _ in EVENTS)
    ),
    "Yoochoose": text("".join(f"{u},{ISO[t][:-1]}.000Z,{i},S\n" for u, i, t in EVENTS)),
    "RetailRocket": text(
        "timestamp,visitorid,event,itemid,transactionid\n1433221332117,A9,addtocart,B77,\n"
        + "".join(f"{t}000,{u},view,{i},\n" for u, i, t in EVENTS)
    ),
    "Taobao": text("1,2,3,pv,1511544070\n" + "".join(f"{u},{i},9,buy,{t}\n" for u, i, t in EVENTS)),
    "Book-Crossing": text(
        '"User-ID";"ISBN";"Book-Rating"\r\n'
        + "".join(f'"{u}";"{i}";"0"\r\n' for u, i, _ in EVENTS),
        "latin-1",
    ),
    "Netflix": netflix,
    "Steam": packed(
        "".join(
            f"{{u'username': u'{u}', u'hours': 13.2, u'product_id': u'{i}', "
            f"u'date': u'{ISO[t][:10]}'}}\n"
            for u, i, t in EVENTS
        )
    ),
    "Yelp": text(
        lines(
            *(
                {"review_id": "x", "user_id": u, "business_id": i, "stars": 4.0, "text": "a\nb"}
                | {"date": ISO[t][:-1].replace("T", " ")}
                for u, i, t in EVENTS
            )
        )
    ),
    "Parquet, a folder of parts": parquet_parts,
}
WITHOUT_TIME = {"Last.fm HetRec", "Book-Crossing"}


def read_line(line: str, folder: Path) -> tuple[Path, Callable[[], ReadEvents]]:
    """Finds the path of a line of the page, and what reads it as the command line would."""
    node = OmegaConf.load(CONFIG)
    for override in OverridesParser.create().parse_overrides(shlex.split(line)):
        key = override.key_or_group.removeprefix("data.")
        OmegaConf.update(node, key, override.value(), merge=False)
    node.path = str(folder / str(node.path))
    content: Any = OmegaConf.to_container(node)

    def read() -> ReadEvents:
        options = data_of(content)
        assert isinstance(options, EventFileOptions)
        return read_parts(options)

    return Path(content["path"]), read


def test_every_line_of_the_page_is_run_here() -> None:
    assert LINES.keys() == FORMATS.keys()


@pytest.mark.parametrize("name", FORMATS)
def test_one_line_reads_a_published_format(name: str, tmp_path: Path) -> None:
    path, read = read_line(LINES[name], tmp_path)
    FORMATS[name](path)
    table = read().events
    users, items = (["1", "2"], ["1", "2"]) if name == "Netflix" else (["A1", "A2"], ["B01", "B02"])
    assert table.device_names == users and table.item_names == items
    assert table.offsets.tolist() == [0, 1, 3] and table.items.tolist() == [2, 1, 2]
    if name in WITHOUT_TIME:
        assert table.times_s is None
    else:
        assert table.times_s is not None
        day = name in ("Steam", "Netflix")
        days = [int(t) - (int(t) % 86400 if day else 0) for _, _, t in EVENTS]
        if name == "Netflix":
            days[2] += 86400
        assert table.times_s.tolist() == days


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst", "zip"])
def test_packed_files_are_read_whatever_their_name(kind: str, tmp_path: Path) -> None:
    raw = RATINGS.encode()
    path, read = read_line(LINES["Amazon 2014, ratings"], tmp_path)
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("__MACOSX/._ratings.csv", b"\0\1")
            archive.writestr("ratings.csv", raw)
    elif kind == "zst":
        with pa.CompressedOutputStream(str(path), "zstd") as out:
            out.write(raw)
    else:
        pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[kind]
        path.write_bytes(pack(raw))
    assert read().events.num_events == 3
