"""Ray as this process starts it, joins it, asks whether it is still there, and ends it."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.grids import ray_watch
from cdc_flower.simulations.grids.lost import GridLost

#: Processes that this one starts through Ray have a variable of this name.
MARK = "CDC_FLOWER_RAY"
#: A server of Ray that takes no connection in this time is gone.
CONNECT_S = 5.0
#: Servers are looked at again after this time.
LOOK_S = 2.0
#: Ray may take this long to end; where its server is gone it may not end at all.
END_S = 10.0
#: A cluster may be without a CPU for this many looks.
LOOKS_WITHOUT_CPU = 5
#: A head that takes connections may leave this many questions in a row without an answer.
MOST_LOOKS = 5

#: Watches over the Ray that this process started.
_watches: list[subprocess.Popen[bytes]] = []


def start_ray(num_workers: int, address: str | None = None) -> None:
    """Starts Ray quietly, without its dashboard, or joins the cluster at an address.

    Workers that are started here import from the folders that this process does, such as a user's
    own decoder.

    Raises:
        UserError: If there is no cluster at the address.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # the grid tells what it plays again
    with _own_sigterm():
        if address is not None:
            _join(address)
        else:
            _start(num_workers)


def _join(address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"grid.address: no Ray cluster at {address!r}: {first}") from error


def _start(num_workers: int) -> None:
    mark = uuid.uuid4().hex
    watch = _start_watch(mark)
    given = {"PYTHONPATH": os.pathsep.join(_own_folders()), MARK: mark}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        context = ray.init(
            address="local",  # whatever clusters run on this machine
            num_cpus=num_workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # Ray raises a plain one where its servers are not there in time
        end_ray(is_lost=True)
        raise GridLost(f"Ray did not start: {str(error).splitlines()[0]}") from error
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
    if watch is not None and watch.stdin is not None:
        watch.stdin.write(f"{vars(context)['address_info']['session_dir']}\n".encode())
        watch.stdin.flush()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keeps what this process does at SIGTERM, where it does anything: Ray would replace it."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not signal.SIG_DFL and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _start_watch(mark: str) -> "subprocess.Popen[bytes] | None":
    """Starts the process that ends what is left of Ray after this one; on Linux alone."""
    if sys.platform != "linux":
        return None
    program = [sys.executable, "-I", "-S", str(ray_watch.__file__)]
    watch = subprocess.Popen(
        [*program, str(os.getpid()), f"{MARK}={mark}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in a terminal is for the driver
        env={name: value for name, value in os.environ.items() if name != MARK},
    )
    _watches.append(watch)
    return watch


def end_ray(*, is_lost: bool = False) -> None:
    """Ends the Ray that this process started, or leaves the one that it joined.

    Args:
        is_lost: Whether Ray is gone, so that what is left of it is killed before it is asked to
            end: it would wait for servers.
    """
    if is_lost:
        _end_watches()
    if ray.is_initialized():
        ending = threading.Thread(target=ray.shutdown, daemon=True)
        ending.start()
        ending.join(END_S)
    _end_watches()


def _end_watches() -> None:
    """Lets the watches do their work, and waits for it."""
    while _watches:
        watch = _watches.pop()
        if watch.stdin is not None:
            watch.stdin.close()
        watch.wait()


class Servers:
    """Knows the servers of Ray that this process needs: Ray's head, and the node of this process.

    Args:
        is_own: Whether this process started them, and so there are no other nodes.

    Attributes:
        addresses: Of each, by its name.
        is_lost: Whether one has been found to be gone.
    """

    def __init__(self, *, is_own: bool) -> None:
        self._is_own = is_own
        context = ray.get_runtime_context()
        host, _, port = context.gcs_address.rpartition(":")
        self.addresses = {"Ray's head": (host, int(port))}
        self._own_id = context.get_node_id()
        for node in ray.nodes():
            if node["NodeID"] == self._own_id:
                address = node["NodeManagerAddress"], node["NodeManagerPort"]
                self.addresses["Ray's node here"] = address
        self._num_without, self.is_lost = 0, False
        self._seen_s = time.monotonic()

    def look(self) -> None:
        """Checks the servers, unless that was done just now.

        Raises:
            GridLost: If one takes no connection.
        """
        if time.monotonic() > self._seen_s + LOOK_S:
            self._check_servers()
            self._seen_s = time.monotonic()

    def check(self, error: Exception | None = None) -> None:
        """Does nothing as long as Ray is there and has something to play on.

        Args:
            error: That made somebody ask.

        Raises:
            GridLost: If a server takes no connection, or no node has had a CPU for some time.
        """
        self._check_servers(error)
        if self._is_own:
            return
        has_cpu = self._ask(lambda: bool(ray.cluster_resources().get("CPU")))
        self._num_without = 0 if has_cpu else self._num_without + 1
        if self._num_without > LOOKS_WITHOUT_CPU:
            raise GridLost("no node of the Ray cluster has a CPU any more") from error

    def _check_servers(self, error: Exception | None = None) -> None:
        for name, address in self.addresses.items():
            try:
                socket.create_connection(address, timeout=CONNECT_S).close()
            except OSError:
                where, self.is_lost = f"{address[0]}:{address[1]}", True
                raise GridLost(f"{name} at {where} does not answer any more") from error

    def has_other_nodes(self) -> bool:
        """Tells whether the cluster has living nodes beside that of this process."""
        return not self._is_own and self._ask(
            lambda: any(node["Alive"] and node["NodeID"] != self._own_id for node in ray.nodes())
        )

    def _ask(self, question: Callable[[], bool]) -> bool:
        """Asks Ray's head, which may go in the middle: Ray itself waits a minute for it.

        Raises:
            GridLost: If it does.
        """
        answers: list[bool] = []
        asking = threading.Thread(target=lambda: answers.append(question()), daemon=True)
        asking.start()
        for _ in range(MOST_LOOKS):
            asking.join(CONNECT_S)
            if answers:
                return answers[0]
            self._check_servers()
        raise GridLost("Ray's head takes connections and does not answer")


def _own_folders() -> list[str]:
    """Lists the folders of ``sys.path`` beside those of Python itself, and those of PYTHONPATH."""
    python = {Path(prefix) for prefix in (sys.prefix, sys.base_prefix)}
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    folders = [folder for folder in (*sys.path, *inherited) if folder]
    return [f for f in dict.fromkeys(folders) if python.isdisjoint(Path(f).parents)]
