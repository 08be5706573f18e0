"""Makes the columns that are functions of others, as a user registers them."""

from collections.abc import Mapping
from contextlib import suppress

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.core.words import counted
from cdc_flower.tables.column import Column, Scope, Type
from cdc_flower.tables.columns import COLUMNS


class KnownColumns(dict[str, NDArray]):
    """Holds arrays ``[n]`` by the name of their column, which nobody can change.

    Attributes:
        asking: The column whose function asks for others, for errors.
    """

    asking = ""

    def __missing__(self, name: object) -> NDArray:
        """Refuses a name.

        Raises:
            UserError: Always.
        """
        raise unknown_name("column", str(name), self, f"column {self.asking}")


def made_columns(facts: Mapping[str, ArrayLike]) -> dict[str, NDArray]:
    """Makes the columns that are made of others, one after another, so that later see earlier ones.

    Args:
        facts: ``[n]``, or one value for all, of columns of a device and segment; ``device_id`` is
            ``[n]``. Functions see the neutral value of a column that is not given.

    Raises:
        UserError: If a function asks for a column that is not there, or its values do not fit.
    """
    wanted = [each for each in COLUMNS if each.made_of is not None and each.name not in facts]
    if not wanted:
        return {}
    num_devices = np.size(facts["device_id"])
    known = _known(facts, num_devices)
    made = {}
    for column in wanted:
        made[column.name] = known[column.name] = _value(column, known, num_devices)
    return made


def try_column(column: Column) -> None:
    """Asks the function of a column for one device to which nothing happened.

    What it needs is then known to be there before anything is trained.

    Raises:
        UserError: If it asks for a column that is not there, or its values do not fit.
    """
    nothing = {
        each.name: 0 if each.neutral is None else each.neutral
        for each in COLUMNS
        if each.scope is Scope.DEVICE_SEGMENT and each.name != column.name
    }
    with np.errstate(all="ignore"), suppress(ArithmeticError):
        _value(column, _known(nothing, 1), 1)


def _known(facts: Mapping[str, ArrayLike], num_devices: int) -> KnownColumns:
    """Collects what functions see: what is given, and neutral values of what is not."""
    return KnownColumns(
        (column.name, _spread(facts.get(column.name, column.neutral), column, num_devices))
        for column in COLUMNS
        if column.scope is Scope.DEVICE_SEGMENT
        and (column.name in facts or (column.neutral is not None and column.made_of is None))
    )


def _value(column: Column, known: KnownColumns, num_devices: int) -> NDArray:
    """Makes one column ``[n]`` of others.

    Args:
        column: Which has a function.
        known: The others.
        num_devices: How many values there must be; one is for all.

    Raises:
        UserError: If its function asks for another column, or its values do not fit.
    """
    if column.made_of is None:
        raise ValueError(f"{column.name} must be made of other columns")
    known.asking = column.name
    values = np.asarray(column.made_of(known))
    if values.shape not in ((), (num_devices,)):
        raise UserError(
            f"column {column.name}: its function must return a value for each device "
            f"({counted(num_devices, 'device')}), got the shape {values.shape}"
        )
    fits = np.can_cast(values.dtype, column.dtype, "same_kind")
    if not fits or (column.type is not Type.TEXT and values.dtype == object):
        raise UserError(
            f"column {column.name}: its function must return {column.type}, got {values.dtype}"
        )
    return _spread(values, column, num_devices)


def _spread(value: ArrayLike | None, column: Column, num_devices: int) -> NDArray:
    """Repeats one value for all devices; the array cannot be written to."""
    array = np.asarray(value)
    if column.type is not Type.TEXT:
        array = array.astype(column.dtype, copy=False)
    return np.broadcast_to(array, (num_devices,))
