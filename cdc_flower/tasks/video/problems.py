"""Rows and files of annotated videos that cannot be used: an error, or counted and left out."""

import sys
from dataclasses import dataclass, field

from cdc_flower.core.errors import UserError, unknown_name


class Damaged(UserError):
    """Reports a file that is not whole or not of its format; ``data.on_error=skip`` leaves it out.

    What is missing as a whole, such as a library or a folder, is another :class:`UserError`.
    """


@dataclass(frozen=True)
class Problems:
    """Refuses or counts rows and files that cannot be used.

    Args:
        on_error: ``raise``, or ``skip``, which counts and tells what is left out.
        counts: Of each kind, how many were left out.
        first: Of each kind, the first one in words.
    """

    on_error: str
    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(on_error: str) -> "Problems":
        """With nothing counted yet.

        Raises:
            UserError: If ``on_error`` is unknown.
        """
        if on_error not in ("raise", "skip"):
            raise unknown_name("on_error", on_error, ("raise", "skip"), "data.on_error")
        return Problems(on_error)

    def report(self, what: str, text: str) -> None:
        """A problem: an error, or one more of its kind.

        Raises:
            UserError: With ``on_error=raise``.
        """
        if self.on_error == "raise":
            raise UserError(f"{text} (data.on_error=skip leaves it out)")
        self.counts[what] = self.counts.get(what, 0) + 1
        self.first.setdefault(what, text)

    def skipped(self) -> list[str]:
        """Says of each kind how much was left out, and the first of it."""
        return [
            f"{count:,} {what} skipped, first {self.first[what]}"
            for what, count in self.counts.items()
        ]

    def tell(self, source: str) -> None:
        """Say on the terminal how much was left out."""
        for words in self.skipped():
            print(f"{source}: {words}", file=sys.stderr)
