"""Ray, its driver, or a node of its cluster is killed: what is said and what is left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, pytest.mark.slow]

HERE = Path(__file__).parent


def started(*arguments: str) -> "subprocess.Popen[str]":
    """The driver, after its first exchange."""
    path = [str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    driver = subprocess.Popen(
        [sys.executable, str(HERE / "ray_driver.py"), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout is not None
    assert driver.stdout.readline(), driver.stderr and driver.stderr.read()
    return driver


@pytest.fixture
def driver() -> Iterator["subprocess.Popen[str]"]:
    made = started()
    yield made
    made.kill()
    made.wait()


def named(driver: "subprocess.Popen[str]", name: str) -> psutil.Process:
    """The process of the driver's Ray whose program has this name."""
    below = psutil.Process(driver.pid).children(recursive=True)
    return next(each for each in below if Path((each.cmdline() or [""])[0]).name == name)


def shared_files(processes: list[psutil.Process]) -> set[str]:
    """Files of shared memory that processes have mapped."""
    maps = [Path(f"/proc/{each.pid}/maps") for each in processes]
    words = [line.split() for file in maps if file.exists() for line in file.open()]
    return {found[5] for found in words if len(found) > 5 and found[5].startswith("/dev/shm")}


def wait_until(is_so: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def check_nothing_left(processes: list[psutil.Process], files: set[str]) -> None:
    _, left = psutil.wait_procs(processes, timeout=15)
    assert not [each for each in left if each.status() != psutil.STATUS_ZOMBIE]
    assert not [file for file in files if Path(file).exists()]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_of_a_driver_that_was_killed(
    driver: "subprocess.Popen[str]", how: signal.Signals
) -> None:
    processes = psutil.Process(driver.pid).children(recursive=True)
    assert len(processes) > 5  # head, node, its agents, workers, and the watch over them
    files = shared_files(processes)
    driver.send_signal(how)
    driver.wait()
    check_nothing_left(processes, files)


@pytest.mark.parametrize("name", ["gcs_server", "raylet"])
def test_a_run_whose_ray_is_gone_ends_in_one_sentence_and_leaves_nothing(
    driver: "subprocess.Popen[str]", name: str
) -> None:
    processes = psutil.Process(driver.pid).children(recursive=True)
    files = shared_files(processes)
    named(driver, name).kill()
    _, told = driver.communicate(timeout=30)
    assert driver.returncode == 2
    last = told.strip().splitlines()[-1]
    assert last.startswith("cdc-flower: the grid has ended: Ray's ")
    assert last.endswith("and cdc-flower resume FOLDER goes on from there")
    check_nothing_left(processes, files)


def test_a_run_goes_on_when_a_node_of_its_cluster_dies_and_counts_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        dying, other = (cluster.add_node(num_cpus=1) for _ in range(2))
        driver = started(cluster.address)
        assert driver.stdout is not None
        lines = [driver.stdout.readline() for _ in range(5)]
        cluster.remove_node(dying, allow_graceful=False)
        lines += [driver.stdout.readline() for _ in range(20)]
        numbers = [[int(word) for word in line.split()] for line in lines]
        assert [calls[:4] for calls in numbers] == [[k] * 4 for k in range(2, 27)]
        assert sum(sum(calls[4:]) for calls in numbers) > 0
        cluster.remove_node(other, allow_graceful=False)
        _, told = driver.communicate(timeout=60)
        assert driver.returncode == 2
        assert "no node of the Ray cluster has a CPU any more" in told
    finally:
        cluster.shutdown()
