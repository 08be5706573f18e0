"""Papers to cite for the strategies of a run."""

from collections.abc import Iterable

from cdc_flower.strategies.papers import Paper, paper
from cdc_flower.strategies.registry import looks

FLOWER = paper(
    "Flower",
    key="beutel2020flower",
    author="Beutel, Daniel J.",
    title="{Flower}: A Friendly Federated Learning Research Framework",
    venue="arXiv preprint arXiv:2007.14390",
    year=2020,
    arxiv="2007.14390",
)


def papers_for(strategies: Iterable[str]) -> list[Paper]:
    """Lists the papers of strategies in their order, each once, and Flower's at the end.

    An arm such as ``persona_small`` cites what the method cites that its name begins with.
    """
    known = {name: look.paper for name, look in looks().items() if look.paper is not None}
    found = [
        paper
        for name in strategies
        for key, paper in known.items()
        if name == key or name.startswith(f"{key}_")
    ]
    return [*dict.fromkeys(found), FLOWER]
