"""Columns of a user's own tables: which is which, and in which unit."""

from collections.abc import Callable, Mapping

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.simulations.network.formats.lines import MOST_BPS, MOST_RTT_S, Floats, wrong_line
from cdc_flower.simulations.network.formats.tables import Table
from cdc_flower.simulations.network.formats.units import (
    is_percent,
    rate_unit,
    time_unit,
    without_units,
)

#: Names of columns, without their units, by what they hold.
KNOWN_NAMES: dict[str, tuple[str, ...]] = {
    "time": ("", "time", "timestamp", "t", "date", "datetime", "elapsed", "time_gmt", "time_utc"),
    "down": (
        *("down", "dl", "downlink", "download", "downstream", "down_rate", "rate_down", "rate"),
        *("dl_bitrate", "dl_throughput", "dl_rate", "throughput", "bandwidth", "bitrate", "bw"),
    ),
    "up": (
        *("up", "ul", "uplink", "upload", "upstream", "up_rate", "rate_up"),
        *("ul_bitrate", "ul_throughput", "ul_rate"),
    ),
    "rtt": ("rtt", "ping", "latency", "round_trip_time", "ping_avg", "pingavg"),
    "loss": ("loss", "packet_loss", "loss_rate", "pingloss"),
    "device": ("device", "device_id", "user", "user_id", "client", "client_id", "node", "node_id"),
    "start": ("start", "start_time", "begin", "from"),
    "end": ("end", "end_time", "until", "to"),
}
#: Units that ``network.columns`` may give where a column's name has none.
UNITS = ("time_unit", "rate_unit", "rtt_unit")


class Columns:
    """Finds columns of a table by what they hold.

    Args:
        table: The table.
        given: Names of columns, and units, from ``network.columns``.
        roles: What the format reads.

    Raises:
        UserError: If a key of what is given is none, or a column is not there.
    """

    def __init__(self, table: Table, given: Mapping[str, str], roles: tuple[str, ...]) -> None:
        for key in given:
            if key not in (*roles, *UNITS):
                raise unknown_name("column", key, (*roles, *UNITS), "network.columns")
        self._table, self._given = table, given
        self._names = {role: self._find(role) for role in roles}

    def _find(self, role: str) -> str | None:
        if role in self._given:
            name = str(self._given[role])
            self._table.place(name)
            return name
        fits = [name for name in self._table.header if without_units(name) in KNOWN_NAMES[role]]
        if role == "time":  # an empty name without units is the index that pandas wrote
            fits = [name for name in fits if name]
        if len(fits) > 1:
            rule = f"columns {' and '.join(fits)} may both be {role}; say network.columns"
            raise wrong_line(self._table.source, self._table.line, rule, f"{role}=...")
        return fits[0] if fits else None

    def __contains__(self, role: str) -> bool:
        return self._names[role] is not None

    def name(self, role: str) -> str:
        """Names the column of something.

        Raises:
            UserError: If there is none.
        """
        name = self._names[role]
        if name is None:
            rule = (
                f"the header must have a column for {role}, such as {KNOWN_NAMES[role][1]}, "
                f"or network.columns={{{role}: NAME}} must name it"
            )
            raise wrong_line(
                self._table.source, self._table.line, rule, ",".join(self._table.header)
            )
        return name

    def seconds(self, role: str) -> float | None:
        """Finds the seconds in the unit of a time; None if nothing says it."""
        said = self._given.get("rtt_unit" if role == "rtt" else "time_unit")
        return self._unit(said, time_unit) if said else time_unit(self.name(role))

    def bits(self, role: str) -> float:
        """Finds the bits per second in the unit of a rate.

        Raises:
            UserError: If nothing says it.
        """
        said = self._given.get("rate_unit")
        unit = self._unit(said, rate_unit) if said else rate_unit(self.name(role))
        return self._known(unit, role, "rate_unit: kbit/s")

    def rtt_s(self) -> float | None:
        """Averages the round-trip times that were measured; None if none was.

        Raises:
            UserError: If their unit is unknown, or one is no number.
        """
        if "rtt" not in self:
            return None
        unit = self._known(self.seconds("rtt"), "rtt", "rtt_unit: ms")
        return self._table.mean(self.name("rtt"), unit, MOST_RTT_S)

    def loss(self) -> float | None:
        """Averages the shares of lost packets that were measured; None if none was.

        Raises:
            UserError: If one is not in [0, 1], or in [0, 100] where the name says percent.
        """
        if "loss" not in self:
            return None
        name = self.name("loss")
        return self._table.mean(name, 0.01 if is_percent(name) else 1.0, 1.0)

    def rates(self, role: str) -> Floats:
        """Reads rates in bits per second.

        Raises:
            UserError: If their unit is unknown, or one is no number.
        """
        return self._table.numbers(self.name(role), self.bits(role), MOST_BPS)

    def _known(self, unit: float | None, role: str, example: str) -> float:
        if unit is None:
            rule = (
                f"the name of a column must say its unit, as {self.name(role)}_"
                f"{example.partition(': ')[2].replace('bit/s', 'bps')}, "
                f"or network.columns={{{example}}}"
            )
            raise wrong_line(self._table.source, self._table.line, rule, self.name(role))
        return unit

    @staticmethod
    def _unit(said: str, read: Callable[[str], float | None]) -> float | None:
        unit = read(str(said))
        if unit is None:
            raise UserError(f"network.columns: a unit must be such as s, ms or kbit/s, got {said}")
        return unit
