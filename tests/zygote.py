"""Runs the command in processes that can be killed, without paying for imports each time.

A zygote is a process that has imported the package and waits. For each command it forks a child,
which is a process of its own: it can be killed at any moment and shares nothing that it writes.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

#: Seconds that a forked command may take before it counts as one that hangs.
LONGEST_S = 120.0
_ENVIRONMENT = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}


@dataclass
class Command:
    """A command that runs in a child of a zygote.

    Attributes:
        zygote: Whose child it is.
        pid: Of the child.
        log: The file with all that it prints.
    """

    zygote: "Zygote"
    pid: int
    log: Path

    def wait(self, timeout_s: float = LONGEST_S) -> int:
        """Waits for its end; the code is negative, the signal's number, where a signal ended it.

        Raises:
            TimeoutError: If it takes longer; then it is killed.
        """
        code = self.zygote.ask({"wait": self.pid, "timeout_s": timeout_s})
        if code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.zygote.ask({"wait": self.pid, "timeout_s": 5.0})
            raise TimeoutError(f"a command took more than {timeout_s} s:\n{self.printed()}")
        return code

    def kill_after(self, seconds: float, number: int) -> int:
        """Sends a signal after some time, and waits for the end; it may have ended before."""
        code = self.zygote.ask({"wait": self.pid, "timeout_s": seconds})
        if code is not None:
            return code
        os.kill(self.pid, number)
        return self.wait()

    def printed(self) -> str:
        """Reads what it printed so far."""
        return self.log.read_text(errors="replace")


class Zygote:
    """Starts commands in forked children. Use it in a ``with`` block.

    Args:
        folder: Gets what the commands print.
        environment: Variables beside those of this process.
        current: The folder in which commands run; that of this process by default.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        current: Path | None = None,
    ) -> None:
        self._folder, self._current = folder, current
        self._environment = {**os.environ, **_ENVIRONMENT, **(environment or {})}
        self._count = 0

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment,
            cwd=self._current,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def start(self, *arguments: str, largest_file: int | None = None) -> Command:
        """Starts ``cdc-flower`` with these arguments.

        Args:
            arguments: As on the command line.
            largest_file: Bytes above which writing to a file fails; None: any.
        """
        self._count += 1
        log = self._folder / f"{self._count:04d}.log"
        asked = {"arguments": arguments, "log": str(log), "largest_file": largest_file}
        pid = self.ask(asked)
        if pid is None:
            raise RuntimeError("the zygote must give a process")
        return Command(self, pid, log)

    def ask(self, question: Mapping[str, object]) -> int | None:
        """Sends a question to the zygote, and reads its answer."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the zygote must have pipes")
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the zygote has ended")
        got: int | None = json.loads(answer)
        return got


def _serve() -> None:
    """Answers questions until the pipe is closed. A child leaves by returning."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        question = json.loads(line)
        if "wait" in question:
            code = _waited(question["wait"], question["timeout_s"])
            print(json.dumps(code), file=answers, flush=True)
            continue
        pid = os.fork()
        if not pid:
            _become(question["arguments"], question["log"], question["largest_file"])
            return
        print(json.dumps(pid), file=answers, flush=True)


def _waited(pid: int, timeout_s: float) -> int | None:
    """Waits for a child; None if it is still there after that time."""
    until = time.monotonic() + timeout_s
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        left_s = until - time.monotonic()
        if left_s <= 0:
            return None
        time.sleep(min(0.005, left_s))


def _become(arguments: Sequence[str], log: str, largest_file: int | None) -> None:
    """Turns a child into the command."""
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(target, 1)
    os.dup2(target, 2)
    if largest_file is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    from cdc_flower.cli import main

    sys.argv = ["cdc-flower", *arguments]
    main()


def _import_all() -> None:
    """Imports everything that a run needs, so that children have it."""

    from cdc_flower.models.registry import models
    from cdc_flower.strategies.registry import strategies
    from cdc_flower.tasks.registry import tasks

    for registry in (models, strategies, tasks):
        len(registry)


if __name__ == "__main__":
    _import_all()
    _serve()
