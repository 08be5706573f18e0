"""Ranks by p(i), the share of the item in the historical part with one event added to each."""

from cdc_flower.tasks.recommendation.references.registry import Known, Line, references


@references.register("popularity", default_place=1)
def popularity(known: Known) -> Line:
    """Ranks by the share of each item in the historical part."""
    share = known.counts.share
    return lambda data, segment: known.logits(share[data.candidates])
