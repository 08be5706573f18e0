"""Tells faults of machines, after which a shard is played again, from errors of an app."""

from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

#: Faults, and what to say of each.
_REASONS: dict[type[RayError], str] = {
    OutOfMemoryError: "Ray ended their worker because memory ran out",
    WorkerCrashedError: "their worker died",
    NodeDiedError: "the node of their worker died",
    ObjectLostError: "their states or replies were lost with a node",
}


def fault_in(error: RayError) -> str | None:
    """Says which fault of a machine an error comes from; None for any other error.

    A task that needs the states of one that failed fails with the same fault inside.
    """
    cause = getattr(error, "cause", None) if isinstance(error, RayTaskError) else error
    return next((said for kind, said in _REASONS.items() if isinstance(cause, kind)), None)
