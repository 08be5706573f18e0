"""Reference lines beside the strategies, as far as the task of a configuration offers them."""

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.study.trees import Config
from cdc_flower.tasks.registry import tasks


def references_of(config: Config) -> list[str]:
    """Lists the reference lines that the configuration names, in its order.

    Raises:
        UserError: If the task has none of that name, one is named twice, or a strategy has the same
            name.
    """
    names, known = config["references"], tasks.find(config["task"], "task").value.references
    if names and not known:
        shown = f"[{', '.join(names)}]"
        raise UserError(f"references must be empty with task={config['task']}, got {shown}")
    for place, name in enumerate(names):
        if name not in known:
            raise unknown_name("reference", name, known, "references")
        if name in names[:place] or name in config["strategies"]:
            raise UserError(f"references must be names of their own, got {name!r} twice")
    return list(names)
