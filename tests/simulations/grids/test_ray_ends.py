"""Ray, its driver, or a node of its cluster is killed: what is said and what is left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

import pytest

pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, pytest.mark.slow]

HERE = Path(__file__).parent
#: A run whose devices have states, and that takes some seconds after its first segment.
SMALL_RUN = (
    "strategies=[fedavg,duet]",
    "fleet.num_devices=8",
    "num_segments=8",
    "num_negatives=9",
    "cloud.epochs=1",
    "data=shifting_interests",
    "data.num_items=60",
    "data.history_events=12",
    "strategy.duet.epochs=1",
    "report=false",
    "checkpoint.every=1",
)


def ask(driver: "subprocess.Popen[str]", num_exchanges: int) -> None:
    assert driver.stdin is not None
    driver.stdin.write("\n" * num_exchanges)
    driver.stdin.flush()


def started(*arguments: str) -> "subprocess.Popen[str]":
    """The driver, after its first exchange."""
    path = [str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    driver = subprocess.Popen(
        [sys.executable, str(HERE / "ray_driver.py"), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    ask(driver, 1)
    assert driver.stdout is not None
    assert driver.stdout.readline(), driver.stderr and driver.stderr.read()
    return driver


@pytest.fixture
def driver() -> Iterator["subprocess.Popen[str]"]:
    made = started()
    ask(made, 1000)
    yield made
    made.kill()
    made.communicate()


def stat(process: int) -> list[str]:
    """Fields of a process after its name: state, parent, ...; the 20th is when it began."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # gone
        return []


def below(process: int) -> dict[int, str]:
    """The processes that descend from one, with when they began."""
    stats = {int(path.name): stat(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    found = {process}
    while more := {k for k, s in stats.items() if s and int(s[1]) in found} - found:
        found |= more
    return {each: stats[each][19] for each in found - {process}}


def named(processes: Iterable[int], name: str) -> int:
    """The process whose program has this name."""
    programs = {each: Path(f"/proc/{each}/cmdline").read_text() for each in processes}
    return next(k for k, text in programs.items() if Path(text.split("\0")[0]).name == name)


def shared_files(processes: Iterable[int]) -> set[str]:
    """Files of shared memory that processes have mapped."""
    maps = [Path(f"/proc/{each}/maps").read_text().splitlines() for each in processes]
    words = [line.split() for line in chain.from_iterable(maps)]
    return {found[5] for found in words if len(found) > 5 and found[5].startswith("/dev/shm")}


def check_nothing_left(processes: dict[int, str], files: set[str]) -> None:
    deadline = time.monotonic() + 15
    left = set(processes)
    while left and time.monotonic() < deadline:
        now = {each: stat(each) for each in left}
        left = {k for k, s in now.items() if s and s[0] != "Z" and s[19] == processes[k]}
        time.sleep(0.1)
    assert not [Path(f"/proc/{each}/cmdline").read_text() for each in left]
    assert not [file for file in files if Path(file).exists()]


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long)]
)
def test_nothing_is_left_of_a_driver_that_was_killed(
    driver: "subprocess.Popen[str]", how: signal.Signals
) -> None:
    processes = below(driver.pid)
    assert len(processes) > 5  # head, node, its agents, workers, and the watch over them
    files = shared_files(processes)
    driver.send_signal(how)
    driver.wait()
    check_nothing_left(processes, files)


@pytest.mark.parametrize("name", ["gcs_server", pytest.param("raylet", marks=pytest.mark.long)])
def test_a_run_whose_ray_is_gone_ends_in_one_sentence_and_leaves_nothing(
    driver: "subprocess.Popen[str]", name: str
) -> None:
    processes = below(driver.pid)
    files = shared_files(processes)
    os.kill(named(processes, name), signal.SIGKILL)
    _, told = driver.communicate(timeout=30)
    assert driver.returncode == 2
    last = told.strip().splitlines()[-1]
    assert last.startswith("cdc-flower: the grid has ended: Ray's ")
    check_nothing_left(processes, files)


def run_command(*arguments: str) -> "subprocess.Popen[str]":
    """Starts ``cdc-flower``."""
    return subprocess.Popen(
        [sys.executable, "-c", "from cdc_flower.cli import main; main()", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.long
def test_a_command_whose_ray_is_gone_names_the_folder_and_its_resumption_ends_in_the_same_table(
    tmp_path: Path,
) -> None:
    run = [*SMALL_RUN, f"out={tmp_path / 'ray'}", "grid=ray", "grid.num_workers=2"]
    command = run_command(*run, "grid.shard_devices=2")
    try:
        while not list((tmp_path / "ray").glob("parts/*/*/*.parquet")):
            assert command.poll() is None, command.communicate()
            time.sleep(0.02)
        processes = below(command.pid)
        files = shared_files(processes)
        os.kill(named(processes, "gcs_server"), signal.SIGKILL)
        _, told = command.communicate(timeout=60)
    finally:
        command.kill()
    assert command.returncode == 2
    assert told.startswith("cdc-flower: the grid has ended: Ray's head at ")
    assert told.rstrip().endswith(f"cdc-flower resume {tmp_path / 'ray'} goes on")
    check_nothing_left(processes, files)
    others = [
        run_command("resume", str(tmp_path / "ray")),
        run_command(
            *SMALL_RUN, f"out={tmp_path / 'inline'}", "grid=inline", "grid.shard_devices=2"
        ),
    ]
    assert [(each.communicate(), each.returncode)[1] for each in others] == [0, 0]
    mine, expected = (tmp_path / name / "results.parquet" for name in ("ray", "inline"))
    assert mine.read_bytes() == expected.read_bytes()


@pytest.mark.long
def test_a_run_goes_on_when_a_node_of_its_cluster_dies_and_counts_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
    soon = {"health_check_period_ms": 500, "health_check_initial_delay_ms": 500}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": soon})
    try:
        dying = cluster.add_node(num_cpus=2)
        driver = started(cluster.address)
        assert driver.stdout is not None
        # Ray tells of the node in between.
        numbers = (
            [int(word) for word in line.split()] for line in driver.stdout if line[0].isdigit()
        )
        ask(driver, 5)
        played = list(islice(numbers, 5))
        other = cluster.add_node(num_cpus=2)
        ask(driver, 20)
        cluster.remove_node(dying, allow_graceful=False)
        played += islice(numbers, 20)
        assert [line[:4] for line in played] == [[k] * 4 for k in range(2, 27)]
        ask(driver, 1000)
        cluster.remove_node(other, allow_graceful=False)
        _, told = driver.communicate(timeout=60)
        assert driver.returncode == 2
        assert "no node of the Ray cluster has a CPU any more" in told
    finally:
        cluster.shutdown()
