"""The command line: exit codes, one line for a mistake, several runs, and the report again."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pandas as pd
import pytest
from fault_cases import at_part, interrupt
from hydra.core.singleton import Singleton

from cdc_flower import __version__
from cdc_flower.cli import main
from cdc_flower.configs import find_methods
from cdc_flower.report.folders import run_folders

pytestmark = pytest.mark.slow  # plays whole runs

SMALL = [
    "fleet.num_devices=4",
    "num_segments=2",
    "num_negatives=9",
    "data=shifting_interests",
    "references=[]",
    "data.history_events=12",
    "data.num_items=40",
    "cloud.epochs=1",
    "strategies=[static]",
]


@dataclass
class Done:
    """What a command left: its exit code and what it printed."""

    returncode: int
    stdout: str
    stderr: str


class Command(Protocol):
    """``cdc-flower`` with these arguments, in the folder of the test."""

    def __call__(self, *arguments: str) -> Done: ...


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """In this process, so that nothing is imported again."""
    state = Singleton.get_state()
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["cdc-flower", *arguments])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Done(code, *capfd.readouterr())

    yield run
    Singleton.set_state(state)
    find_methods()


@pytest.mark.slow
def test_a_process_of_its_own_runs_and_exits_with_2_after_a_mistake(tmp_path: Path) -> None:
    def process(*arguments: str) -> subprocess.CompletedProcess[str]:
        code = "from cdc_flower.cli import main; main()"
        given = [sys.executable, "-c", code, *arguments]
        return subprocess.run(given, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    done = process(*SMALL, "out=run")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert "static" in done.stdout and "report.html" in done.stdout
    wrong = process("data=ml_1m")
    assert wrong.returncode == 2 and wrong.stderr.startswith("cdc-flower: data.path must be given")
    assert len(wrong.stderr.splitlines()) == 1


def test_two_seeds_make_two_run_folders_and_latest_points_at_the_newest(
    command: Command, tmp_path: Path
) -> None:
    done = command("-m", "seed=0,1", "report=false", *SMALL)

    assert done.returncode == 0, done.stderr
    runs = tmp_path / "results" / "runs"
    folders = sorted(
        path.name for path in runs.iterdir() if path.is_dir() and not path.is_symlink()
    )
    assert len(folders) == 2 and "seed-0" in folders[0] and "seed-1" in folders[1]
    assert (runs / "latest").resolve().name == folders[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "results"
    ]  # nothing else is left behind

    (runs / "notes").mkdir()
    first = "multirun.yaml, notes"
    written = f"{first}, per_seed.csv, report.html, summary.csv, summary.md"
    for others in (first, written):
        again = command(
            "report", *sorted(str(path) for path in runs.iterdir())
        )  # as a shell reads runs/*
        assert again.returncode == 0 and (runs / "report.html").exists(), again.stderr
        assert f"not run folders, passed over: {others}\n" in again.stderr
    wrong = command("report", str(runs / folders[0]), "--baseline", "statik")
    assert (
        wrong.returncode == 2
        and "--baseline: unknown strategy 'statik'; did you mean 'static'?" in wrong.stderr
    )


def test_verify_exits_with_0_where_the_table_is_played_again_and_with_1_where_it_is_not(
    command: Command, tmp_path: Path
) -> None:
    assert command(*SMALL, "report=false", "out=run").returncode == 0
    done = command("verify", "run", "--strategies", "static", "--segments", "1", "--exact")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.splitlines() == [
        "provenance: machine, libraries, code and data are those of the run",
        "recommendation, static: equal to the bit (1 segment, 36 rows)",
    ]
    path = tmp_path / "run" / "results.parquet"
    rows = pd.read_parquet(path)
    for factor, codes in ((1 + 1e-9, (0, 1)), (1.1, (1, 1))):
        rows.assign(value_sum=rows["value_sum"] * factor).to_parquet(path)
        assert command("verify", "run").returncode == codes[0]
        again = command("verify", "run", "--exact")
        assert again.returncode == codes[1] and "value_sum differs in" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["strategies=[statik]"],
            "cdc-flower: strategies: unknown strategy 'statik'; did you mean 'static'?",
        ),
        (["strategies=[../x]"], "cdc-flower: strategies: a name must be 1 to 64 letters, digits"),
        (["data=ml_1m"], "cdc-flower: data.path must be given"),
        (
            ["data=ml_1m", "data.path=nowhere"],
            "cdc-flower: data.path must be an existing path",
        ),
        (["report", "nowhere"], "nowhere: there is no such run folder"),
    ],
)
def test_a_mistake_is_one_line_without_a_traceback_and_exits_with_2(
    arguments: list[str], text: str, command: Command, tmp_path: Path
) -> None:
    done = command(*arguments)

    assert done.returncode == 2
    assert (
        text in done.stderr
        and "Traceback" not in done.stderr
        and len(done.stderr.splitlines()) == 1
    )
    assert not list(tmp_path.iterdir())


def test_a_malformed_row_is_told_with_its_file_and_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("1\t2\t3\t4\n1\t2\tbad\t5\n")

    done = command("data=ml_100k", "data.path=u.data")

    assert (
        done.returncode == 2
        and "u.data:2: rating must be a finite number, got 'bad'" in done.stderr
    )
    assert [path.name for path in tmp_path.iterdir()] == ["u.data"]


def test_what_is_passed_over_is_neither_a_missing_folder_nor_a_run_without_results(
    tmp_path: Path,
) -> None:
    run, failed, other = (tmp_path / name for name in ("run", "failed", "other"))
    for folder, file in ((run, "results.parquet"), (failed, "config.yaml"), (other, "report.html")):
        folder.mkdir()
        (folder / file).write_text("")
    (tmp_path / "latest").symlink_to("run")

    every = [run, failed, other, other / "report.html", tmp_path / "latest", tmp_path / "missing"]
    assert run_folders(every) == (
        [run, failed, tmp_path / "missing"],
        [other, other / "report.html"],
    )
    assert run_folders([other]) == ([other], [])  # nothing but this was asked for: it is an error


def test_an_experiment_that_gives_itself_no_name_is_called_as_its_file(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "narrow.yaml").write_text(
        "# @package _global_\nmodel: {width: 4}\n"
    )

    done = command("--config-dir", "mine", "experiment=narrow", "report=false", *SMALL, "out=run")

    assert done.returncode == 0, done.stderr
    assert set(pd.read_parquet(tmp_path / "run" / "results.parquet")["experiment"]) == {"narrow"}


def one_line(done: Done) -> str:
    """The mistake that a command told in one line and nothing else."""
    assert done.returncode == 2 and not done.stdout
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("cdc-flower: ")
    return done.stderr.removeprefix("cdc-flower: ").strip()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["reprot", "x"], "unknown command 'reprot'; did you mean 'report'?"),
        (["list", "stratgies"], "unknown kind 'stratgies'; did you mean 'strategies'?"),
        (["describe", "presona"], "nothing is named 'presona'; did you mean 'persona'?"),
        (["describe", "strategies/lte"], "unknown name 'lte'"),
        (["report"], "Missing argument 'FOLDER...'"),
        (["report", "x", "--basline", "y"], "No such option '--basline'"),
        (["verify", "nowhere"], "nowhere: there is no such run folder"),
        (["stress", "x", "out=y"], "write --out y"),
        (["stress", "x", "metric=auc"], "write --metric auc"),
        (["run", "network=let"], "unknown choice of network 'let'; did you mean 'lte'?"),
        (["network=let"], "unknown choice of network 'let'; did you mean 'lte'?"),
        (["--cfg", "job", "num_segment=5"], "num_segment is no key of the configuration"),
        (["-m", "network=lte,let"], "unknown choice of network 'let'"),
        (["--confg", "job"], "unrecognized arguments: --confg"),
        (["--config-dir", "nowhere"], "--config-dir must be a folder, got nowhere"),
        (["--config-name", "confg"], "unknown configuration 'confg'; did you mean 'config'?"),
        (["--cfg", "job", "-m", "seed=0,1"], "--cfg and -m cannot be given together"),
    ],
)
def test_a_wrong_command_kind_name_or_flag_is_one_line_and_exits_with_2(
    arguments: list[str], text: str, command: Command
) -> None:
    assert text in one_line(command(*arguments))


def test_run_is_the_default_command(command: Command) -> None:
    bare = command("--cfg", "job", "seed=3", "network=3g")
    named = command("run", "seed=3", "--cfg", "job", "network=3g")  # in any order

    assert bare.returncode == 0 and bare.stdout == named.stdout
    assert "seed: 3" in bare.stdout and "name: 3g" in bare.stdout


def test_files_of_ones_own_are_found_and_their_keys_are_checked(
    command: Command, tmp_path: Path
) -> None:
    for name, key in (("right", "num_segments"), ("wrong", "num_segment")):
        (tmp_path / "experiment").mkdir(exist_ok=True)
        (tmp_path / "experiment" / f"{name}.yaml").write_text(
            f"# @package _global_\nexperiment_name: {name}\n{key}: 3\n"
        )

    done = command("--config-dir", str(tmp_path), "--cfg", "job", "experiment=right")
    assert done.returncode == 0 and "num_segments: 3" in done.stdout
    wrong = command("--config-dir", str(tmp_path), "--cfg", "job", "experiment=wrong")
    assert "num_segment is no key of the configuration" in one_line(wrong)


def test_help_names_every_command_and_hydras_help_the_groups(command: Command) -> None:
    own, hydras = command("--help"), command("run", "--help")

    assert own.returncode == hydras.returncode == 0
    assert all(
        name in own.stdout for name in ("run", "report", "verify", "stress", "list", "describe")
    )
    assert "network: 3g, 5g" in hydras.stdout and "num_segments: 8" in hydras.stdout
    assert command("--version").stdout == f"cdc-flower {__version__}\n"


def test_list_and_describe_say_what_there_is(command: Command) -> None:
    assert "nb_iot" in command("list").stdout
    assert "NB-IoT, a nominal profile" in command("list", "networks").stdout
    shown = command("describe", "persona").stdout
    for text in ("strategies=[static,persona]", "num_prototypes", "gru, transformer", "2509.06552"):
        assert text in shown
    inherited = command("describe", "data/moving_digits_captions").stdout
    assert "clips_per_segment  16" in inherited and "as a share of white" in inherited


def test_a_file_of_an_experiment_without_its_first_line_is_told_so(
    command: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "narrow.yaml").write_text("network: nb_iot\n")
    done = command("--config-dir", str(tmp_path), "--cfg", "job", "experiment=narrow")
    assert done.returncode == 2
    assert "experiment=narrow must be a file that begins with '# @package _global_'" in one_line(
        done
    )


@pytest.mark.slow
def test_several_runs_skip_finished_ones_and_go_on_with_an_interrupted_one(
    command: Command, tmp_path: Path
) -> None:
    several = ["-m", "seed=0,1", "report=false", *SMALL, "out=runs", "checkpoint.every=1"]
    with at_part(3, interrupt):  # in the second run
        stopped = command(*several)
    second = "runs/seed-1"
    assert stopped.returncode == 130
    assert f"cdc-flower resume {second} goes on" in stopped.stderr
    refused = command(*several)
    assert "runs/seed-0: finished already" in refused.stdout
    assert "got runs/seed-1 with an interrupted one" in refused.stderr
    again = command(*several, "resume=true")
    assert again.returncode == 0, again.stderr
    assert "runs/seed-0: finished already" in again.stdout
    kept = command("resume", second)
    assert kept.returncode == 0 and f"{second}: finished already" in kept.stdout
    assert "resume" not in (tmp_path / second / "config.yaml").read_text().partition("command:")[2]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["resume", "nowhere"], "nowhere: not a run folder, it has no config.yaml"),
        (["resume"], "Missing argument 'FOLDER'"),
        (["resume=true"], "resume=true must have the folder of a run, as in out=FOLDER"),
        (["checkpoint.every=soon"], "checkpoint.every must be auto, a whole number >= 0 or null"),
        (["checkpoint.every=-1"], "checkpoint.every must be"),
        (["resume=maybe"], "resume must be true or false, got maybe"),
    ],
)
def test_a_wrong_word_about_resuming_is_one_line(
    arguments: list[str], text: str, command: Command
) -> None:
    assert text in one_line(command(*arguments))


@pytest.mark.parametrize("text", ["[1]", "also: 5", "a: [", "also: [3]"])
def test_a_damaged_configuration_of_a_folder_is_one_line(
    text: str, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(text)
    assert "run/config.yaml: " in one_line(command("resume", "run"))
