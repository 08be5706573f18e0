"""Takes request policies as classes and as objects."""

from collections.abc import Mapping

from cdc_flower.core.errors import UserError
from cdc_flower.core.held import Held, held
from cdc_flower.core.registry import snake_case
from cdc_flower.simulations.requests.policies import Policy


def policy_node(value: object, settings: Mapping[str, object]) -> Held:
    """Makes the node of a request policy that is given in Python.

    Args:
        value: A class or an object; each strategy has a copy of its own.
        settings: Configured options of a class.

    Raises:
        UserError: If it is no policy, or an option is wrong.
    """
    kind = value if isinstance(value, type) else type(value)
    if not issubclass(kind, Policy):
        raise UserError(
            f"policy must be a name, or a cdc_flower.Policy or a class of them, got {kind.__name__}"
        )
    return held(value, snake_case(kind.__name__), "policy", settings)
