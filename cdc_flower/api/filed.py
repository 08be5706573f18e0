"""Finds the names of classes that are registered or have a file in the configuration."""

from cdc_flower.core.errors import UserError
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


def registered_name(value: object, registry: Registry, kind: str) -> str | None:
    """Turns a registered class into its name.

    Args:
        value: A name, a class or None.
        registry: Of its kind.
        kind: In words, for the message.

    Raises:
        UserError: If it is something else, or a class that has no name.
    """
    if isinstance(value, str | None):
        return value
    names = [entry.name for entry in registry.entries() if entry.value is value]
    if not names:
        told = getattr(value, "__name__", type(value).__name__)
        raise UserError(
            f'{kind} must be a name or a class that @cdc.register("{kind}", NAME) names, got {told}'
        )
    return names[0]
