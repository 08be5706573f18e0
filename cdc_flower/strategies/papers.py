"""Papers, as one cites them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """One paper.

    Attributes:
        name: Of its method or tool, as readers know it.
        text: Authors, title, place and year.
        arxiv: Its number on arXiv.
        bibtex: Its entry.
    """

    name: str
    text: str
    arxiv: str
    bibtex: str


def paper(
    name: str, *, key: str, author: str, title: str, venue: str, year: int, arxiv: str
) -> Paper:
    """Makes a paper with its sentence and its BibTeX entry.

    Args:
        name: Of its method or tool.
        key: Of the BibTeX entry.
        author: The first one, ``Last, First``.
        title: As BibTeX has it, with braces around what keeps its case.
        venue: Journal or proceedings.
        year: When it appeared.
        arxiv: Its number on arXiv.
    """
    is_article = venue.startswith(("ACM Trans", "arXiv"))
    kind, place = ("article", "journal") if is_article else ("inproceedings", "booktitle")
    bibtex = (
        f"@{kind}{{{key},\n  author = {{{author} and others}},\n  title = {{{title}}},\n"
        f"  {place} = {{{venue}}},\n  year = {{{year}}},\n  eprint = {{{arxiv}}},\n"
        "  archivePrefix = {arXiv}\n}"
    )
    last_name = author.split(",")[0]
    plain_title = title.replace("{", "").replace("}", "")
    return Paper(name, f"{last_name} et al. {plain_title}. {venue}, {year}.", arxiv, bibtex)
