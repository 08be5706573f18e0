"""Reference lines beside the strategies, as far as task and data of a configuration offer them."""

import logging

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.study.trees import Config
from cdc_flower.tasks.data import data, knows_law
from cdc_flower.tasks.registry import tasks

log = logging.getLogger("cdc_flower")

#: Stands for the lines that task and data offer, of those that are played by default.
AUTO = "auto"


def references_of(config: Config) -> list[str]:
    """Lists the reference lines of a configuration, in its order.

    ``auto`` stands for all default ones that task and data offer and that are not named beside it;
    a strategy of the same name takes the place of one.

    Raises:
        UserError: If the task or its data offer none of a given name, one is named twice, or a
            strategy has the same name.
    """
    names, known = config["references"], tasks.find(config["task"], "task").value.references
    given = [name for name in names if name != AUTO]
    if given and not len(known):
        shown = f"[{', '.join(given)}]"
        raise UserError(f"references must be empty with task={config['task']}, got {shown}")
    for place, name in enumerate(names):
        if name != AUTO and name not in known:
            raise unknown_name("reference", name, [AUTO, *known], "references")
        if name in names[:place] or name in config["strategies"]:
            raise UserError(f"references must be names of their own, got {name!r} twice")
    has_law = knows_law(config["data"])
    for name in given:
        if known[name].facts.needs_law and not has_law:
            fitting = ", ".join(entry.name for entry in data.entries() if entry.facts.knows_law)
            raise UserError(
                f"references: {name} needs data whose law is known, such as {fitting}; "
                f"got {config['data'].get('name')}"
            )
    found: list[str] = []
    for name in names:
        found += _default_ones(config, given) if name == AUTO else [name]
    return found


def _default_ones(config: Config, given: list[str]) -> list[str]:
    """Lists the default lines that are offered, and says which are not.

    Args:
        config: Of the run.
        given: Named beside ``auto``.
    """
    task = tasks.find(config["task"], "task").value
    owner = next(kind for kind in task.__mro__ if "references" in vars(kind))
    # Tasks of several kinds of questions have their metrics on the instance: none to compare here.
    if getattr(task, "metrics", ()) != getattr(owner, "metrics", ()):
        log.debug("references: none by default, %s is scored otherwise", config["task"])
        return []
    lines = task.references.entries()
    wanted = [line for line in lines if line.facts.default_place and line.name not in given]
    wanted = sorted(wanted, key=lambda line: line.facts.default_place)
    has_law = knows_law(config["data"])
    left_out = [line.name for line in wanted if line.facts.needs_law and not has_law]
    if left_out:
        name = config["data"].get("name")
        log.debug("references: %s left out, nobody knows the law of %s", left_out, name)
    taken = {*left_out, *config["strategies"]}
    return [line.name for line in wanted if line.name not in taken]
