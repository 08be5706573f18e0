"""A run folder says where its results come from, and nothing of that ends a run."""

import hashlib
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from run_cases import config_of, quiet, without_summary

from cdc_flower.report import read_folder, report_from_folders
from cdc_flower.study import data_files, provenance
from cdc_flower.study import run as runs
from cdc_flower.study.provenance import UNKNOWN, begin, differences, end, provenance_of

TINY = ("fleet.num_devices=3", "num_segments=1", "cloud.epochs=0", "strategies=[static]")


def read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((folder / "provenance.yaml").read_text("utf-8"))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    config = {**config_of(*TINY, f"out={out}"), "command": "cdc-flower x=1"}
    with without_summary():
        return runs.run(config, console=quiet())


def test_a_run_folder_names_machine_libraries_code_command_and_times(folder: Path) -> None:
    found = read(folder)

    assert found["run_id"] == runs.run_id_of(config_of(*TINY))
    assert (found["seed"], found["command"]) == (0, "cdc-flower x=1")
    assert found["started"] <= found["ended"] and found["ended"].endswith("+00:00")
    assert found["machine"]["capability"] == torch.backends.cpu.get_cpu_capability()
    assert found["machine"]["torch_threads"] == torch.get_num_threads()
    assert found["versions"]["torch"] == torch.__version__
    assert set(found["versions"]) >= {"python", "flwr", "numpy", "pandas", "ray", "cdc-flower"}
    assert found["blas"]["numpy"]["name"] and found["blas"]["torch"]
    assert len(found["code"]["sha256"]) == 64
    assert found["data"] == []  # it is drawn
    assert read_folder(folder).provenance == found


def test_the_page_shows_where_a_run_was_played(folder: Path, tmp_path: Path) -> None:
    path, _ = report_from_folders([folder], tmp_path / "page.html")
    page, found = path.read_text(encoding="utf-8"), read(folder)

    assert f"torch {torch.__version__}" in page and found["started"] in page
    assert f"<td>code.sha256</td><td>{found['code']['sha256']}</td>" in page
    (folder / "provenance.yaml").rename(tmp_path / "away")
    old, _ = report_from_folders([folder], tmp_path / "old.html")
    (tmp_path / "away").rename(folder / "provenance.yaml")
    assert "code.sha256" not in old.read_text(encoding="utf-8")


def test_what_a_run_reads_is_named_by_its_content(tmp_path: Path) -> None:
    ratings, traces = tmp_path / "ml", tmp_path / "traces"
    for name, text in {
        "ml/u.data": "1",
        "ml/README": "2",
        "traces/a.up": "3",
        "traces/b": "4",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    os.mkfifo(traces / "pipe.up")
    config = {
        "data": {"name": "ml", "path": str(ratings), "files": ["u.data"], "root": str(tmp_path)},
        "network": {"path": str(traces), "files": "*.up"},
    }
    one, two = data_files.data_facts([config, config])

    assert (one["path"], one["files"], one["bytes"]) == (str(ratings), 1, 1)
    assert one["sha256"] == hashlib.sha256(b"1").hexdigest()
    assert (two["path"], two["files"]) == (str(traces), 1)
    before = two["sha256"]
    (traces / "b").write_text("5")  # is not read
    assert data_files.data_facts([config])[1]["sha256"] == before
    (traces / "a.up").write_text("5")
    assert data_files.data_facts([config])[1]["sha256"] != before


def test_data_that_are_too_large_to_be_hashed_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("12345")
    config = {"data": {"path": str(tmp_path / "file")}, "network": {}}
    monkeypatch.setattr(data_files, "MOST_BYTES", 5)
    assert len(data_files.data_facts([config])[0]["sha256"]) == 64
    monkeypatch.setattr(data_files, "MOST_BYTES", 4)
    assert data_files.data_facts([config])[0]["sha256"].startswith("not taken")


def no_git(*_: object, **__: object) -> None:
    raise FileNotFoundError("git")


def slow_git(*_: object, **__: object) -> None:
    raise subprocess.TimeoutExpired("git", 2.0)


def failed_git(*_: object, **__: object) -> None:
    raise subprocess.CalledProcessError(128, "git")


@pytest.mark.parametrize("git", [no_git, slow_git, failed_git])
def test_without_git_the_commit_is_unknown_and_the_sources_are_hashed(
    git: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance.subprocess, "run", git)
    code = provenance_of(config_of(*TINY))["code"]
    assert (code["commit"], code["changed"]) == (UNKNOWN, UNKNOWN)
    assert len(code["sha256"]) == 64


def test_what_cannot_be_found_out_does_not_end_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no such thing")

    for name in ("_cpu", "_blas_of_numpy", "hash_of"):
        monkeypatch.setattr(provenance, name, fails)
    with without_summary():
        out = runs.run(config_of(*TINY, f"out={tmp_path}/run"), console=quiet())
    found = read(out)
    assert found["machine"]["cpu"] == found["code"]["sha256"] == UNKNOWN
    assert found["ended"]


def test_a_file_that_cannot_be_written_does_not_end_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(provenance, "write_whole", full)
    with without_summary():
        out = runs.run(config_of(*TINY, f"out={tmp_path}/run"), console=quiet())
    assert not (out / "provenance.yaml").exists() and (out / "results.parquet").exists()
    assert "provenance.yaml is not written: disk full" in (out / "run.log").read_text()


def test_a_run_that_goes_on_keeps_where_it_began_and_adds_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(*TINY)
    begin(tmp_path, config, "abc")
    first = read(tmp_path)
    assert first["ended"] is None and "resumed" not in first
    monkeypatch.setattr(provenance, "_cpu", lambda: "another")
    begin(tmp_path, config, "abc")
    end(tmp_path)

    found = read(tmp_path)
    (again,) = found.pop("resumed")
    assert found == first
    assert again["machine"]["cpu"] == "another" and again["ended"]
    assert "versions" not in again  # they are the same


def test_a_difference_is_told_with_its_place_and_both_values() -> None:
    now = provenance_of(config_of(*TINY))
    before = {
        **now,
        "versions": {**now["versions"], "torch": "1.0"},
        "data": [{"path": "x", "sha256": "a"}],
    }
    assert list(differences(now, now)) == []
    versions, data = differences(before, now)
    assert versions == f"versions.torch: 1.0 then, {torch.__version__} now"
    assert data == "data.0: {'path': 'x', 'sha256': 'a'} then, nothing now"
    assert "machine: unknown then" in next(differences({}, now))


def test_to_say_where_a_run_comes_from_takes_no_time_that_counts() -> None:
    config = config_of(*TINY)
    provenance_of(config)
    spent_s = []
    for _ in range(3):
        start_s = time.process_time()
        provenance_of(config)
        spent_s.append(time.process_time() - start_s)
    assert min(spent_s) < 0.3
