"""Rows and files of annotated videos that cannot be used: an error, or counted and left out."""

import sys
from dataclasses import dataclass, field

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.core.words import counted


@dataclass(frozen=True)
class Problems:
    """Refuses or counts rows and files that cannot be used.

    Args:
        on_error: ``raise``, or ``skip``, which counts and tells what is left out.
        counts: Noun for one of each kind -> how many were left out.
        first: Noun for one of each kind -> the first one in words.
    """

    on_error: str
    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(on_error: str) -> "Problems":
        """Counts from nothing.

        Raises:
            UserError: If ``on_error`` is unknown.
        """
        if on_error not in ("raise", "skip"):
            raise unknown_name("on_error", on_error, ("raise", "skip"), "data.on_error")
        return Problems(on_error)

    def report(self, noun: str, text: str) -> None:
        """Raises a problem as an error, or counts one more of its kind.

        Args:
            noun: For one of its kind; several are the noun with an s.
            text: Words for this one.

        Raises:
            UserError: With ``on_error=raise``.
        """
        if self.on_error == "raise":
            raise UserError(f"{text} (data.on_error=skip leaves it out)")
        self.counts[noun] = self.counts.get(noun, 0) + 1
        self.first.setdefault(noun, text)

    def skipped(self) -> list[str]:
        """Says of each kind how much was left out, and the first of it."""
        return [
            f"{counted(count, noun)} skipped, first {self.first[noun]}"
            for noun, count in self.counts.items()
        ]

    def tell(self, source: str) -> None:
        """Says on the terminal how much was left out."""
        for words in self.skipped():
            print(f"{source}: {words}", file=sys.stderr)
