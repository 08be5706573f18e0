"""Runs ``flwr run`` as a user would, but in a home and on ports of its own, and leaves no process
behind.

The devices are those of Flower's Simulation Runtime, or SuperNodes, each a process of its own, of a
SuperLink. ``flwr run`` starts a SuperLink that outlives it, and ends with 0 even if the run
crashed. So the harness asks ``flwr ls`` how the run ended, and afterwards ends every process that
was started with its ``FLWR_HOME``.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_BIN = Path(sys.executable).parent
_TAIL_LINES = 60
_POLL_S = 0.5
_GRACE_S = 5.0
#: The name of the SuperLink of :func:`flwr_deployment`.
_DEPLOYMENT = "dep"


RunConfig = dict[str, bool | int | float | str]


class FlwrRunError(Exception):
    """The run did not complete; the text ends with the last lines of its log."""


def flwr_run(
    app_dir: Path, run_config: RunConfig, num_supernodes: int, home: Path, timeout_s: float
) -> str:
    """Run a Flower app in Flower's Simulation Runtime and wait for its end.

    Relative paths of the app are relative to ``home``: the runtime does not run in ``app_dir``.

    Args:
        app_dir: The folder with the app's ``pyproject.toml``.
        run_config: Overrides of ``[tool.flwr.app.config]``; only keys that are there.
        num_supernodes: How many simulated nodes.
        home: Flower's home for this run, such as ``tmp_path``; created if absent.
        timeout_s: Real seconds for everything: SuperLink, Ray, and the run.

    Returns:
        What ``flwr run --stream`` printed, without colors.

    Raises:
        FlwrRunError: If the run crashed, was stopped, or took longer than ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    command = _run_command(app_dir, run_config, home := _home(home))
    command += [
        "--federation-config",
        f"num-supernodes={num_supernodes} client-resources-num-cpus=1 init-args-num-cpus=2",
    ]
    with _runtime(home) as env:
        _flwr(command, env, home, deadline)
        _check(_wait_for_the_end([], env, home, deadline), home)
    return _output(home)


def flwr_deployment(
    app_dir: Path, run_config: RunConfig, node_configs: list[str], home: Path, timeout_s: float
) -> str:
    """Run a Flower app on a SuperLink and SuperNodes of this computer and wait for its end.

    Args:
        app_dir: The folder with the app's ``pyproject.toml``.
        run_config: Overrides of ``[tool.flwr.app.config]``; only keys that are there.
        node_configs: ``--node-config`` of each SuperNode.
        home: Flower's home for this run, such as ``tmp_path``; created if absent.
        timeout_s: Real seconds for everything.

    Returns:
        What all processes printed, without colors.

    Raises:
        FlwrRunError: If the run crashed, was stopped, or took longer than ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    command = _run_command(app_dir, run_config, home := _home(home), _DEPLOYMENT)
    port, *node_ports = _free_ports(1 + len(node_configs))
    link = f'[superlink.{_DEPLOYMENT}]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    (home / "config.toml").write_text(link, encoding="utf-8")
    with _runtime(home) as env:
        _start(["flower-superlink", "--insecure", "--port", str(port)], env, home)
        _wait_for_port(port, home, deadline)
        for node_port, config in zip(node_ports, node_configs, strict=True):
            to = [
                "--superlink",
                f"127.0.0.1:{port}",
                "--port",
                str(node_port),
                "--node-config",
                config,
            ]
            _start(["flower-supernode", "--insecure", *to], env, home)
        _flwr(command, env, home, deadline)
        _check(_wait_for_the_end([_DEPLOYMENT], env, home, deadline), home)
    return _output(home)


def _home(home: Path) -> Path:
    if not Path("/proc/self/environ").exists():
        pytest.skip(
            "the processes of Flower's runtime are found in /proc, which this system has not"
        )
    home = home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    return home


def _run_command(app_dir: Path, run_config: RunConfig, home: Path, *superlink: str) -> list[str]:
    config = home / "run-config.toml"  # a file, because the command line has no escape for a quote
    config.write_text(
        "".join(f"{json.dumps(k)} = {json.dumps(v)}\n" for k, v in run_config.items()),
        encoding="utf-8",
    )
    return ["run", str(app_dir.resolve()), *superlink, "--stream", "--run-config", str(config)]


@contextlib.contextmanager
def _runtime(home: Path) -> Iterator[dict[str, str]]:
    """The environment of the processes of a run, all of which are ended with the context."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as ray_dir:
        try:
            yield _environment(home, ray_dir)
        finally:
            _end_processes(f"FLWR_HOME={home}")


def _check(end: tuple[str, str], home: Path) -> None:
    if end[0] != "finished:completed":
        raise FlwrRunError(f"flwr run: {end[0]}, {end[1]}\n{_tail(home)}")


def _start(command: list[str], env: dict[str, str], home: Path) -> None:
    """Start a program of Flower that goes on; its output goes to the end of ``flwr.log``."""
    with (home / "flwr.log").open("ab") as log:
        subprocess.Popen(
            [_BIN / command[0], *command[1:]], env=env, cwd=home, stdout=log, stderr=log
        )


def _free_ports(count: int) -> list[int]:
    """Ports that nobody uses, held together, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait_for_port(port: int, home: Path, deadline: float) -> None:
    while True:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > deadline:
            raise FlwrRunError(f"flower-superlink: no answer in time\n{_tail(home)}")
        time.sleep(0.1)


def _environment(home: Path, ray_dir: str) -> dict[str, str]:
    """The caller's environment, with Flower and Ray kept to themselves and off the network."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("FLWR_", "RAY_"))}
    ports = _free_ports(2)
    return env | {
        "PATH": f"{_BIN}{os.pathsep}{env.get('PATH', '')}",  # flwr starts flower-superlink by name
        "FLWR_HOME": str(home),
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(ports[0]),
        "FLWR_LOCAL_CONTROL_API_PORT": str(ports[1]),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5",
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_TMPDIR": ray_dir,  # short: the path of a socket may have 107 characters
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _flwr(command: list[str], env: dict[str, str], home: Path, deadline: float) -> None:
    """Run one ``flwr`` command; its output goes to the end of ``flwr.log``."""
    with (home / "flwr.log").open("ab") as log:
        process = subprocess.Popen(
            [_BIN / "flwr", *command], env=env, cwd=home, stdout=log, stderr=log
        )
        try:
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise FlwrRunError(f"flwr {command[0]}: no end in time\n{_tail(home)}") from None
    if code:
        raise FlwrRunError(f"flwr {command[0]}: exit code {code}\n{_tail(home)}")


def _wait_for_the_end(
    superlink: list[str], env: dict[str, str], home: Path, deadline: float
) -> tuple[str, str]:
    """Status and details of this home's only run, such as ``("finished:completed", "N/A")``."""
    command = [_BIN / "flwr", "ls", *superlink, "--format", "json"]
    while True:
        answer = subprocess.run(
            command, env=env, cwd=home, capture_output=True, text=True, timeout=60
        )
        try:
            run = json.loads(answer.stdout)["runs"][0]
        except (ValueError, LookupError):
            raise FlwrRunError(f"flwr ls: {answer.stdout}{answer.stderr}\n{_tail(home)}") from None
        if run["status"].startswith("finished"):
            return run["status"], run["status-details"]
        if time.monotonic() > deadline:
            raise FlwrRunError(
                f"flwr run: still {run['status']} when the time was up\n{_tail(home)}"
            )
        time.sleep(_POLL_S)


def _output(home: Path) -> str:
    text = (home / "flwr.log").read_text(encoding="utf-8", errors="replace")
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def _tail(home: Path) -> str:
    return "\n".join(_output(home).splitlines()[-_TAIL_LINES:])


def _processes() -> dict[tuple[int, int], int]:
    """Parent of each living process; a process is its id and its start, so that a later one is not
    taken for it.
    """
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # gone in the meantime
            continue
        if fields[0] != "Z":
            parents[int(stat.parent.name), int(fields[19])] = int(fields[1])
    return parents


def _started_with(variable: str) -> set[tuple[int, int]]:
    """Processes with this variable in their environment, and all that descend from them."""
    parents = _processes()
    found = set()
    for pid, start in parents:
        try:
            if variable.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.add((pid, start))
        except OSError:  # gone, or not ours
            continue
    while (
        more := {child for child, parent in parents.items() if parent in {pid for pid, _ in found}}
        - found
    ):
        found |= more  # Ray's workers overwrite their environment with their title
    return found


def _end_processes(variable: str) -> None:
    """End the processes of a run by their ids; those that do not go are killed."""
    asked: set[tuple[int, int]] = set()
    start = time.monotonic()
    while left := _started_with(variable) | (asked & _processes().keys()):
        late = time.monotonic() - start > _GRACE_S
        for pid, _ in left if late else left - asked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        asked |= left
        if time.monotonic() - start > 3 * _GRACE_S:
            raise FlwrRunError(f"processes of the run do not end: {sorted(pid for pid, _ in left)}")
        time.sleep(0.1)
