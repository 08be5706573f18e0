"""Finds the names of classes that have a file in the configuration."""

from cdc_flower.core.registry import Registry
from cdc_flower.study.catalog import entries_of_group


def filed_name(value: object, registry: Registry, group: str) -> object:
    """Turns a registered class that has a file of defaults into its name, and nothing else.

    Args:
        value: A name, class or object.
        registry: Of its kind.
        group: Of configuration files.
    """
    if not isinstance(value, type):
        return value
    names = (entry.name for entry in registry.entries() if entry.value is value)
    return next((name for name in names if name in entries_of_group(group)), value)
