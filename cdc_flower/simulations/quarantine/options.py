"""Options of the quarantine: what is left out, and for how long a device is set aside."""

import math
from dataclasses import dataclass

from cdc_flower.core.options import check_options, option


@dataclass(frozen=True, kw_only=True)
class QuarantineOptions:
    """Checks replies of devices; where every reply is as it must be, nothing changes.

    Raises:
        UserError: If a value is out of its range.
    """

    enabled: bool = option(
        True, neutral=False, doc="whether replies are checked; false hands on all that comes"
    )
    max_norm: float | None = option(
        None,
        above=0,
        below=math.inf,
        doc="largest L2 norm of what a device changed of the model that it was sent; null: any",
    )
    max_failures: int | None = option(
        3,
        least=1,
        doc="answers of a device in a row that are left out before it is set aside; null: any "
        "number",
    )
    segments_aside: int = option(
        2,
        least=0,
        neutral=0,
        doc="segments in which it is then asked neither to report nor to train; 0: none",
    )

    def __post_init__(self) -> None:
        check_options(self, "quarantine")
