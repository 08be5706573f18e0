"""Which strategy plays which task: devices tell something of their data that the strategy reads."""

from collections.abc import Mapping
from typing import Any

from cdc_flower.core.errors import UserError
from cdc_flower.strategies.registry import strategies as registered
from cdc_flower.tasks.protocol import Task
from cdc_flower.tasks.recommendation.task import Recommendation
from cdc_flower.tasks.video.task import VideoAnswers, VideoSearch

#: Tasks by name.
TASKS: dict[str, type[Task]] = {
    "recommendation": Recommendation,
    "video_qa": VideoAnswers,
    "video_retrieval": VideoSearch,
}


def plays(strategy: Any, task: str) -> bool:
    """Tells whether a strategy, or a class of them, reads something that devices of a task tell.

    One that declares nothing, as Flower's own do, asks for no report and plays every task.
    """
    reads: frozenset[str] = getattr(strategy, "reads", frozenset())
    return not reads or bool(reads & TASKS[task].tells)


def strategies_that_play(task: str) -> list[str]:
    """Names the registered strategies that play a task."""
    return [entry.name for entry in registered.entries() if plays(entry.value, task)]


def check_plays(strategies: Mapping[str, Any], task: str) -> None:
    """Refuses strategies that cannot read what devices of the task tell.

    Raises:
        UserError: If there is one. The text names the tasks and the strategies that would fit.
    """
    for name, strategy in strategies.items():
        if plays(strategy, task):
            continue
        fitting = ", ".join(other for other in TASKS if plays(strategy, other)) or "no task"
        raise UserError(
            f"strategies: {name} cannot play task={task}, whose devices tell "
            f"{', '.join(sorted(TASKS[task].tells))}, for it reads {', '.join(sorted(strategy.reads))}; "
            f"it plays {fitting}, and {task} is played by {', '.join(strategies_that_play(task))}"
        )
