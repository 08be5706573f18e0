"""A sample of what ``make chaos`` plays: runs broken at moments drawn from seeds go on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.bench import Bench, kept_after, reference_of
from faults.chaos import checkpoint_files, trials_of
from zygote import Zygote

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("chaos")
    with Zygote(root / "logs") as zygote:
        yield Bench(zygote, root / "trials", reference_of(zygote, root / "whole"))


@pytest.mark.parametrize(
    ("kind", "count"), [("sigkill", 2), ("sigkill_twice", 1), ("sigterm", 1), ("full_disk", 1)]
)
def test_a_run_that_is_broken_at_a_drawn_moment_goes_on_to_the_same_table(
    kind: str, count: int, bench: Bench
) -> None:
    for trial in trials_of(kind, count, 2026, None):
        assert trial.play(bench)


def test_a_damaged_state_is_left_aside_and_the_run_goes_on_to_the_same_table(
    bench: Bench,
) -> None:
    interrupted = kept_after(bench.zygote, bench.folder / "interrupted", bench.world, num_parts=5)
    newest = Path("checkpoints/000002/session.safetensors")
    assert newest in checkpoint_files(interrupted)
    for kind in ("cut", "flip"):
        trials = [
            trial for trial in trials_of(kind, 2, 2026, interrupted) if str(newest) in trial.name
        ]
        assert trials[-1].play(bench)
