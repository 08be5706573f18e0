"""Whom to cite for the strategies of a run."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """One paper.

    Attributes:
        name: What it is about, as readers know it.
        text: Authors, title, place and year.
        arxiv: Its number on arXiv.
        bibtex: Its entry.
    """

    name: str
    text: str
    arxiv: str
    bibtex: str


def _paper(
    name: str, key: str, author: str, title: str, venue: str, year: int, arxiv: str
) -> Paper:
    kind, place = (
        ("article", "journal")
        if venue.startswith(("ACM Trans", "arXiv"))
        else ("inproceedings", "booktitle")
    )
    bibtex = (
        f"@{kind}{{{key},\n  author = {{{author} and others}},\n  title = {{{title}}},\n"
        f"  {place} = {{{venue}}},\n  year = {{{year}}},\n  eprint = {{{arxiv}}},\n  archivePrefix = {{arXiv}}\n}}"
    )
    last_name = author.split(",")[0]
    plain_title = title.replace("{", "").replace("}", "")
    return Paper(name, f"{last_name} et al. {plain_title}. {venue}, {year}.", arxiv, bibtex)


FLOWER = _paper(
    "Flower",
    "beutel2020flower",
    "Beutel, Daniel J.",
    "{Flower}: A Friendly Federated Learning Research Framework",
    "arXiv preprint arXiv:2007.14390",
    2020,
    "2007.14390",
)
#: By the strategy's name. A variant such as ``persona_small`` cites what the first part of its name
#: cites.
PAPERS = {
    "duet": _paper(
        "DUET",
        "lv2023duet",
        "Lv, Zheqi",
        "{DUET}: A Tuning-Free Device-Cloud Collaborative Parameters Generation Framework for Efficient Device Model "
        "Generalization",
        "Proceedings of the ACM Web Conference (WWW)",
        2023,
        "2209.05227",
    ),
    "persona": _paper(
        "Persona",
        "lv2025persona",
        "Lv, Zheqi",
        "Tackling Device Data Distribution Real-time Shift via Prototype-based Parameter Editing",
        "Proceedings of the ACM International Conference on Multimedia (MM)",
        2025,
        "2509.06552",
    ),
    "cdc_mmpg": _paper(
        "CDC-MMPG",
        "ji2025cdcmmpg",
        "Ji, Wei",
        "Backpropagation-Free Multi-modal On-Device Model Adaptation via Cloud-Device Collaboration",
        "ACM Transactions on Multimedia Computing, Communications, and Applications (TOMM) 21(2)",
        2025,
        "2406.01601",
    ),
    "fedavg": _paper(
        "FedAvg",
        "mcmahan2017communication",
        "McMahan, Brendan",
        "Communication-Efficient Learning of Deep Networks from Decentralized Data",
        "Proceedings of AISTATS",
        2017,
        "1602.05629",
    ),
    "fedprox": _paper(
        "FedProx",
        "li2020fedprox",
        "Li, Tian",
        "Federated Optimization in Heterogeneous Networks",
        "Proceedings of Machine Learning and Systems (MLSys)",
        2020,
        "1812.06127",
    ),
}


def papers_for(strategies: Iterable[str]) -> list[Paper]:
    """The papers of these strategies in their order, each once, and Flower's at the end."""
    found = [
        PAPERS[key]
        for name in strategies
        for key in PAPERS
        if name == key or name.startswith(f"{key}_")
    ]
    return [*dict.fromkeys(found), FLOWER]
