"""What every test shares: one thread, no telemetry, quick property tests, and the folder of real
data.
"""

import os

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"  # both are read when the libraries are imported
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.pop("HYDRA_FULL_ERROR", None)

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from mutants import PROPERTY, Mutants, summary

import cdc_flower.configs  # noqa: F401  (lets Hydra find the files of methods)

torch.set_num_threads(1)
settings.register_profile(
    "cdc_flower", deadline=None, max_examples=30, derandomize="CI" in os.environ
)
settings.load_profile("cdc_flower")

#: Name of the group of tests that start Ray or Flower's runtime.
RUNTIMES = "runtimes"


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups tests for two processes: by file, and those that start Ray or Flower in one group.

    Such a test starts processes of its own, which use both cores. Their group comes first, so that
    the other process plays the files meanwhile, and then files that have slow tests, so that none
    of those is left for one process at the end.
    """
    is_slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (not _starts_a_runtime(item), item.path not in is_slow))
    for item in items:
        group = RUNTIMES if _starts_a_runtime(item) else item.path.as_posix()
        item.add_marker(pytest.mark.xdist_group(group))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Ends a run in two processes whose groups xdist does not know, as it would say nothing."""
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    if is_worker and session.items and "@" not in session.items[0].nodeid:
        raise pytest.UsageError("pytest-xdist must know groups of tests, got a pytest too new")


def _starts_a_runtime(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("ray", "flwr"))


@pytest.fixture
def mutants(request: pytest.FixtureRequest) -> Iterator[Mutants]:
    """Counts what came of changed files; the sum over all tests stands at the end of a run."""
    found = Mutants()
    yield found
    request.node.user_properties.append((PROPERTY, found.facts()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how many changed files were read, and what that took at most."""
    reports = [each for reports in terminalreporter.stats.values() for each in reports]
    lines = summary(
        facts
        for report in reports
        if getattr(report, "when", "") == "teardown"
        for name, facts in report.user_properties
        if name == PROPERTY
    )
    for line in lines:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data that ``CDC_FLOWER_DATA`` names; without it the test is skipped."""
    value = os.environ.get("CDC_FLOWER_DATA")
    if not value:
        pytest.skip("set CDC_FLOWER_DATA to the folder of real data to run this test")
    folder = Path(value)
    if not folder.is_dir():
        pytest.skip(f"CDC_FLOWER_DATA={value} is not a folder")
    return folder
