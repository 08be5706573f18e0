"""Runs the command in processes that can be killed, without paying for imports each time.

A zygote is a process that has imported the package and waits. For each command it forks a child,
which is a process of its own: it can be killed at any moment and shares nothing that it writes.
"""

import gc
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Self

#: Seconds that a forked command may take before it counts as one that hangs.
LONGEST_S = 300.0
#: Modules that a run imports when it comes to need them; torch's is for its optimizers.
_NEEDED = (
    "cdc_flower.cli",
    "cdc_flower.study.command",
    "cdc_flower.study.companions",
    "cdc_flower.study.run",
    "scipy.stats",
    "torch._dynamo",
)
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
    _code: int | None = None

    def wait(self, timeout_s: float = LONGEST_S) -> int:
        """Waits for its end; the code is negative, the signal's number, where a signal ended it.

        Raises:
            TimeoutError: If it takes longer; then it is killed.
        """
        code = self.ended_within(timeout_s)
        if code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.ended_within(5.0)
            raise TimeoutError(f"a command took more than {timeout_s} s:\n{self.printed()}")
        return code

    def ended_within(self, seconds: float) -> int | None:
        """Waits for its end for some time; None if it goes on."""
        if self._code is None:
            self._code = self.zygote.ask({"wait": self.pid, "timeout_s": seconds})
        return self._code

    def kill_at(self, cpu_s: float, number: int) -> int:
        """Sends a signal when it has computed for some time, and waits for the end.

        It may have ended before. Time on a clock would be another moment on a busy machine.
        """
        while (spent_s := self.cpu_s()) is not None and spent_s < cpu_s:
            time.sleep(0.003)
        if spent_s is not None:
            os.kill(self.pid, number)
        return self.wait()

    def cpu_s(self) -> float | None:
        """Reads for how long it has computed, all threads together; None if it has ended."""
        state, spent_s = self._stat()
        return None if state == "Z" else spent_s

    def whole_cpu_s(self) -> float:
        """Waits for its end without taking its code, and reads for how long it computed."""
        until = time.monotonic() + LONGEST_S
        while time.monotonic() < until:
            state, spent_s = self._stat()
            if state == "Z":
                return spent_s
            time.sleep(0.01)
        raise TimeoutError(f"a command took more than {LONGEST_S} s:\n{self.printed()}")

    def _stat(self) -> tuple[str, float]:
        """Reads state and CPU seconds; one that has ended stays until its code is taken."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

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

    def start(
        self, *arguments: str, largest_file: int | None = None, with_summary: bool = True
    ) -> Command:
        """Starts ``cdc-flower`` with these arguments.

        Args:
            arguments: As on the command line.
            largest_file: Bytes above which writing to a file fails; None: any.
            with_summary: Whether a run ends with its summary, which takes as long as a small run.
        """
        self._count += 1
        log = self._folder / f"{self._count:04d}.log"
        asked = {
            "arguments": arguments,
            "log": str(log),
            "largest_file": largest_file,
            "with_summary": with_summary,
        }
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
    """Answers questions until the pipe is closed."""
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
            _become(**question)
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


def _become(
    arguments: Sequence[str], log: str, largest_file: int | None, with_summary: bool
) -> None:
    """Turns a child into the command and ends it; arguments as of :meth:`Zygote.start`."""
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(target, 1)
    os.dup2(target, 2)
    if largest_file is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    from cdc_flower.cli import main
    from cdc_flower.study import run

    if not with_summary:
        run.finish = lambda *_, **__: None
    sys.argv = ["cdc-flower", *arguments]
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    logging.shutdown()
    sys.stdout.flush()
    os._exit(
        code
    )  # to take apart what was imported takes as long as a small run, and writes nothing


def import_all() -> None:
    """Imports everything that a run needs, so that children have it."""
    for module in _NEEDED:
        import_module(module)

    from cdc_flower.models.registry import models
    from cdc_flower.strategies.registry import strategies
    from cdc_flower.tasks.registry import tasks
    from cdc_flower.training.checkpoints import source_hash

    for registry in (models, strategies, tasks):
        len(registry)
    source_hash()  # reads the sources, once for a process


if __name__ == "__main__":
    import_all()
    gc.freeze()  # else each child copies all that its first collection looks at
    _serve()
