"""Ends what Ray leaves behind when the process that started it is gone, however it ended.

Run as a program of its own, which imports nothing but Python's library::

    python -I -S ray_watch.py DRIVER_ID MARK

It reads the folder of Ray's session from its input, and waits for the input to end. Ray's own
processes end with the driver, except its agents, which may wait for a server that is gone. It finds
them by ``MARK`` in the environment that they began with. Agents and workers write a title of Ray's
over that, so they are found by the title and an open file of the session, which Ray names after the
driver. Whoever else reads these files, or has joined this Ray, is left alone.
"""

import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path

#: Looks for the end of the driver this often, beside waiting for the end of the input.
LOOK_S = 1.0
#: Killed processes have this long to be gone.
GONE_S = 10.0
#: Titles of Ray's agents and workers begin with this.
TITLE = b"ray::"


def wait_for_end(driver_id: int) -> list[str]:
    """Waits for the end of the driver or of the input, and gives the lines of the input."""
    read = b""
    while os.getppid() == driver_id:  # a child of the driver may keep the input open
        if select.select([0], [], [], LOOK_S)[0]:
            more = os.read(0, 4096)
            if not more:
                break
            read += more
    return read.decode().splitlines()


def is_marked(process: Path, mark: str, sessions: list[str]) -> bool:
    """Tells whether a process has a mark in its environment, or is Ray's and of a session.

    Args:
        process: Its folder in ``/proc``.
        mark: Name and value.
        sessions: Folders.
    """
    try:
        if mark.encode() in (process / "environ").read_bytes().split(b"\0"):
            return True
        if not (process / "cmdline").read_bytes().startswith(TITLE):
            return False
        opened = [os.readlink(file) for file in (process / "fd").iterdir()]
    except OSError:  # gone in the meantime, or another user's
        return False
    return any(file.startswith(f"{session}/") for file in opened for session in sessions)


def end_marked(mark: str, sessions: list[str], driver_id: int) -> None:
    """Kills the marked processes until there are none: one may just have started another.

    Args:
        mark: Name and value in the environment.
        sessions: Folders.
        driver_id: The driver, which may live on without Ray.
    """
    deadline_s, spared = time.monotonic() + GONE_S, (os.getpid(), driver_id)
    while time.monotonic() < deadline_s:
        processes = [path for path in Path("/proc").glob("[0-9]*") if int(path.name) not in spared]
        left = [path for path in processes if is_marked(path, mark, sessions)]
        if not left:
            return
        for process in left:
            end(int(process.name))
        time.sleep(0.05)


def end(process_id: int) -> None:
    """Kills a process, unless it is gone."""
    try:
        os.kill(process_id, signal.SIGKILL)
    except ProcessLookupError:
        return


def main() -> None:
    """Waits, then ends processes and removes what was spilled from memory to disk."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    driver_id, mark = int(sys.argv[1]), sys.argv[2]
    sessions = wait_for_end(driver_id)
    end_marked(mark, sessions, driver_id)
    for session in sessions:
        for spilled in Path(session).glob("ray_spilled_objects*"):
            shutil.rmtree(spilled, ignore_errors=True)


if __name__ == "__main__":
    main()
