"""Ends what Ray leaves behind when the process that started it is gone, however it ended.

Run as a program of its own, which imports nothing but Python's library::

    python -I -S ray_watch.py DRIVER_ID MARK

It reads the folder of Ray's session from its input, and waits for the input to end. Ray's own
processes end with the driver, except its agents: they may wait for a server that is gone. All of
them carry ``MARK`` in the environment that they were started with, as do workers and what those
start; a driver that Ray runs elsewhere does not.
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
#: Ray's processes have this long to end by themselves, and then to be gone.
GRACE_S = 3.0
GONE_S = 10.0


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


def marked(mark: str) -> list[int]:
    """Lists the processes that were started with a mark in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:  # gone in the meantime, or another user's
            continue
    return found


def end_marked(mark: str, driver_id: int) -> None:
    """Ends the marked processes, after they had time to end by themselves."""
    start_s = time.monotonic()
    while (left := marked(mark)) and time.monotonic() < start_s + GRACE_S + GONE_S:
        if time.monotonic() > start_s + GRACE_S:
            for process_id in left:
                if process_id != driver_id:
                    end(process_id)
        time.sleep(0.1)


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
    end_marked(mark, driver_id)
    for session in sessions:
        for spilled in Path(session).glob("ray_spilled_objects*"):
            shutil.rmtree(spilled, ignore_errors=True)


if __name__ == "__main__":
    main()
