"""The error of a grid that is gone."""

from cdc_flower.core.errors import UserError


class GridLost(UserError):
    """Reports that Ray, or what devices were played on, is gone; the run can be resumed."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the grid has ended: {reason}")
