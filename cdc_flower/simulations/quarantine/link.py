"""The quarantine as a chain link: two ends that share a book, anew for each run of a strategy."""

from dataclasses import dataclass, field

from cdc_flower.simulations.chain import Ends
from cdc_flower.simulations.deployment import Nodes
from cdc_flower.simulations.quarantine.book import Book
from cdc_flower.simulations.quarantine.bounds import Known
from cdc_flower.simulations.quarantine.cloud_end import CloudEnd
from cdc_flower.simulations.quarantine.device_end import DeviceEnd
from cdc_flower.simulations.quarantine.options import QuarantineOptions
from cdc_flower.tables.quarantined import Left, counted, sentence


@dataclass
class WithQuarantine:
    """Leaves out replies that are not as they must be.

    Attributes:
        options: Of the quarantine; where it is not enabled, nothing is put anywhere.
        known: Of the data of the run.
    """

    options: QuarantineOptions = field(default_factory=QuarantineOptions)
    known: Known = field(default_factory=Known)
    _book: Book | None = field(default=None, init=False)

    def ends(self, nodes: Nodes) -> Ends:
        """Makes both ends."""
        if not self.options.enabled:
            return Ends()
        book = Book(nodes.device_ids, self.options)
        self._book = book
        return Ends(
            cloud=lambda grid: CloudEnd(grid, nodes, book, self.known, self.options),
            device=lambda grid: DeviceEnd(grid, nodes, book, self.known),
            count=book.count,
        )

    def left_out(self) -> list[Left]:
        """Lists what was left out of the run that was played last."""
        return self._book.left_out() if self._book is not None else []

    def notes(self) -> list[str]:
        """Says what was left out and from when on a model was not finite, without full stops."""
        book = self._book
        if book is None:
            return []
        said = []
        if left := book.left_out():
            said.append(f"{sentence(left)}; quarantine.csv lists them")
        if num_aside := int((book.num_set_aside > 0).sum()):
            verb = "was" if num_aside == 1 else "were"
            said.append(
                f"{counted(num_aside, 'device', 'devices')} {verb} set aside for "
                f"{counted(self.options.segments_aside, 'segment', 'segments')} at a time"
            )
        if diverged := book.diverged():
            said.append(diverged)
        return said
