"""Limits of what is unpacked: so many times the bytes of a file, and so many bytes at once."""

from dataclasses import dataclass

from cdc_flower.core.opening.damage import DamagedFile

#: A file or an archive may expand to so many times its bytes, or to ``FREE_BYTES`` if that is more.
#: Tables of events have some 5 to 50.
MOST_TIMES = 100
FREE_BYTES = 64 * 2**20
#: Most bytes of one file that is held as a whole, after it is unpacked.
MOST_BYTES = 256 * 2**20


@dataclass
class Budget:
    """Counts the bytes that come out of a file, also out of archives within it.

    Attributes:
        name: Of the file, for the error.
        num_packed: Bytes of it.
        num_taken: Bytes that came out so far.
    """

    name: object
    num_packed: int
    num_taken: int = 0

    @property
    def is_spent(self) -> bool:
        """Tells whether more came out than may."""
        return self.num_taken > max(FREE_BYTES, MOST_TIMES * self.num_packed)

    def take(self, count: int) -> None:
        """Counts bytes that came out, or are about to.

        Raises:
            DamagedFile: If they are too many.
        """
        self.num_taken += count
        if self.is_spent:
            raise DamagedFile(
                f"{self.name}: must expand to at most {MOST_TIMES} times its {self.num_packed:,} "
                f"bytes, or to {FREE_BYTES:,} bytes, got more; unpack it first if it is what you "
                "want"
            )


def too_long(name: object, most: int = MOST_BYTES) -> DamagedFile:
    """Makes the error of a file that is too long to be held."""
    return DamagedFile(f"{name}: a file must have at most {most:,} bytes; cut it into several")
