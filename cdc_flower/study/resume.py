"""Finds out whether a run folder can be gone on with, and goes on."""

from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path

import yaml

from cdc_flower.core.errors import UserError
from cdc_flower.study import folder
from cdc_flower.study.facts import Facts, changed_key, difference
from cdc_flower.study.journal import Journal
from cdc_flower.study.trees import Config
from cdc_flower.tables.parts import PARTS, Order


def config_in(out: Path) -> Config:
    """Reads the configuration of a run folder, as it was resolved.

    Raises:
        UserError: If there is none, or it is damaged.
    """
    path = out / folder.CONFIG
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{out}: not a run folder, it has no {folder.CONFIG}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        words = " ".join(str(error).split())
        raise UserError(f"{path}: not readable as YAML ({words})") from error
    also = config.get("also") if isinstance(config, Mapping) else None
    if not isinstance(also, list) or not all(isinstance(each, Mapping) for each in also):
        raise UserError(f"{path}: must be the configuration of a run")
    return dict(config)


class Found(Enum):
    """Tells what a run folder holds: nothing yet, an interrupted run, or a finished one."""

    NOTHING = "nothing"
    BEGUN = "begun"
    FINISHED = "finished"


def found_in(out: Path | None, configs: Sequence[Config], *, resumes: bool, skips: bool) -> Found:
    """Tells what a run finds in its folder.

    Args:
        out: The folder; None for one that is still to be made.
        configs: Of the run, one for each task.
        resumes: Whether it goes on with an interrupted run.
        skips: Whether a finished run is left as it is.

    Raises:
        UserError: If the folder holds what the run must not go on with, or cannot be written.
    """
    if out is None:
        return Found.NOTHING
    if (out / folder.RESULTS).is_file() and (resumes or skips):
        check_same(out, configs)
        return Found.FINISHED
    if resumes and (out / folder.CONFIG).is_file() and (out / PARTS).is_dir():
        check_same(out, configs)
        return Found.BEGUN
    folder.check_writable(out)
    return Found.NOTHING


def check_same(out: Path, configs: Sequence[Config]) -> None:
    """Refuses to go on with a run of another configuration.

    Args:
        out: Holds a run, interrupted or finished.
        configs: That are asked for, one for each task.

    Raises:
        UserError: If a key that counts differs.
    """
    kept = config_in(out)
    before = {str(one.get("task")): one for one in [kept, *kept["also"]]}
    now = {str(one["task"]): one for one in configs}
    changed = "" if list(before) == list(now) else _tasks_words(before, now)
    for task, config in now.items():
        changed = changed or changed_key(before[task], config)
    if changed:
        raise _another(out, changed)


def _tasks_words(before: Mapping[str, Config], now: Mapping[str, Config]) -> str:
    return f"task is {', '.join(now)}, was {', '.join(before)}"


def _another(out: Path, changed: str) -> UserError:
    return UserError(
        f"{out}: a run must go on as it was begun, but {changed}; another out begins a new one"
    )


def opened(out: Path, order: Order, facts: Facts, *, resumes: bool) -> Journal:
    """Opens the journal of a run that begins, or goes on.

    Args:
        out: The run folder, owned by this process.
        order: Of tasks and strategies in the table.
        facts: On which rows depend.
        resumes: Whether what is kept is used.

    Raises:
        UserError: If it was begun with other facts.
    """
    journal = Journal(out, facts)
    if not resumes:
        journal.clear()
    kept = journal.parts.facts()
    if kept is None:  # or it is damaged: marks and states say themselves what they are of
        journal.begin(order)
    elif changed := difference(kept, facts):
        raise _another(out, changed)
    return journal
