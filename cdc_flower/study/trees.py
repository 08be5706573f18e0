"""Names the types of configurations, which are trees of keys."""

from collections.abc import Mapping
from typing import Any

#: A resolved configuration. Options say the types of its values, and no type checker reads those.
Config = Mapping[str, Any]
#: A tree of keys, resolved or not.
Tree = dict[str, Any]
