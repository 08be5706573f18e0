"""The watch ends processes of a Ray that lost its driver, and no other; stand-ins need no Ray."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdc_flower.simulations.grids import ray_watch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has the watch")


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Path]:
    """The folder of a session, in which something was spilled."""
    folder = tmp_path / "session"
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "out").touch()
    (folder / "ray_spilled_objects_1").mkdir()
    yield folder


def stand_in(title: str, opened: Path, **variables: str) -> "subprocess.Popen[bytes]":
    """A process with a title, an open file and variables."""
    with opened.open() as file:
        return subprocess.Popen(
            [title, "60"], executable="/bin/sleep", stdin=file, env={**os.environ, **variables}
        )


def test_what_is_left_of_ray_is_ended_and_whoever_reads_its_files_is_not(session: Path) -> None:
    mark, log = f"RAY_OF_{os.getpid()}", session / "logs" / "out"
    other = session.parent / "other"
    other.touch()
    ended = {
        "marked": stand_in("raylet", other, **{mark: "mine"}),
        "titled": stand_in("ray::DashboardAgent", log),
    }
    spared = {
        "reader of a log": stand_in("tail", log),
        "another session's": stand_in("ray::DashboardAgent", other),
        "another driver's": stand_in("raylet", other, **{mark: "theirs"}),
    }
    try:
        program = [sys.executable, "-I", "-S", str(ray_watch.__file__)]
        subprocess.run(
            [*program, str(os.getpid()), f"{mark}=mine"],
            input=f"{session}\n".encode(),
            check=True,
            timeout=60,
        )
        assert [name for name, each in ended.items() if each.poll() is None] == []
        assert [name for name, each in spared.items() if each.poll() is not None] == []
        assert [path.name for path in session.iterdir()] == ["logs"]
    finally:
        for each in (*ended.values(), *spared.values()):
            each.kill()
            each.wait()
