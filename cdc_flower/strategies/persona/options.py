"""Options of Persona, and which of them go together."""

import math
from dataclasses import dataclass

from cdc_flower.core.options import option
from cdc_flower.strategies.persona.downlink import DOWNLINKS
from cdc_flower.strategies.persona.grouping import GroupingStrategy
from cdc_flower.strategies.persona.robust_means import MEAN, MEANS
from cdc_flower.strategies.persona.transfer import NUM_HEADS

#: The value of ``cluster_on`` with which prototypes are heads of regimes.
LIKELIHOOD = "likelihood"


@dataclass(eq=False, repr=False)
class PersonaOptions(GroupingStrategy):
    """Options of prototypes, of edits, and of what travels.

    Raises:
        ValueError: If a value is out of its range, or two do not go together.
    """

    cluster_on: str = option(
        "edits",
        choices=("edits", "embeddings", LIKELIHOOD),
        doc="historical samples are clustered by their edits (paper) or by their layer embeddings "
        "(released code); likelihood: prototypes are heads of regimes and mixed, whatever "
        "assignment is",
    )
    num_prototypes: int = option(
        5, least=1, neutral=1, doc="1 is the method with the base model's head as its prototype"
    )
    assignment: str = option(
        "dynamic",
        choices=("static", "dynamic"),
        changes_training=False,
        doc="static: the nearest center; dynamic: the prototype that needs the smallest edit",
    )
    refinement: str = option(
        "none",
        choices=("none", "bytes", "reports", "shrink"),
        neutral="none",
        changes_training=False,
        doc="while the stream goes on. none: prototypes stay; bytes: they move toward their "
        "members, who use what they did; reports: they move to what members reported, who use "
        "that; shrink: edits are drawn toward the mean of the members",
    )
    bytes_rate: float = option(
        0.1,
        least=0,
        most=1,
        neutral=0,
        changes_training=False,
        doc="with refinement=bytes, how far a prototype moves toward its members in each segment; "
        "0 is none",
    )
    refinement_mean: str = option(
        MEAN,
        choices=MEANS,
        neutral=MEAN,
        changes_training=False,
        doc="with refinement=bytes or reports, which mean over its members moves a prototype; "
        "clipped, trimmed and median hold against some hostile members",
    )
    reports_steps: int = option(
        10,
        least=0,
        neutral=0,
        changes_training=False,
        doc="with refinement=reports, steps of Adam in each segment at most, in the cloud; 0 is "
        "none",
    )
    reports_rate: float = option(
        0.01,
        least=0,
        below=math.inf,
        neutral=0,
        changes_training=False,
        doc="learning rate of these steps; 0 is none",
    )
    birth_share: float | None = option(
        0.05,
        least=0,
        most=1,
        changes_training=False,
        doc="with refinement=reports, the share of the devices that must fit badly under every "
        "prototype for a new one to be born; null: none ever is",
    )
    death_after: int = option(
        3,
        least=1,
        changes_training=False,
        doc="segments without members after which a prototype gives its place to a new one",
    )
    likelihood_pairs: int = option(
        9,
        least=1,
        doc="with cluster_on=likelihood, last pairs of a report by which prototypes are mixed, and "
        "pairs of a window of history",
    )
    sharpness: float = option(
        0.5,
        least=0,
        doc="of the likelihood in these mixtures: 0 mixes all prototypes alike, inf takes the best",
    )
    hedge: float = option(
        0.0,
        least=0,
        most=1,
        doc="share of the base model's head in every mixture, for a jump that no report can tell",
    )
    clip: float = option(
        1.0,
        least=0,
        neutral=0,
        doc="largest entry of an edit; 0 leaves every device its prototype, inf clips nothing",
    )
    edits: bool = option(
        True,
        doc="with cluster_on=likelihood, whether generated edits are added to the mixtures; false "
        "trains no editor and leaves devices the mixture alone",
    )
    low_rank: int | None = option(
        None,
        least=1,
        doc="of the edits, with downlink=edit or index; null is full rank, the paper's",
    )
    transfer: str = option(
        "gru", choices=("gru", "transformer", "none"), doc="of knowledge from layer to layer"
    )
    joint: bool = option(
        False,
        neutral=False,
        doc="whether static layers are trained along with the editor; false keeps the base model's",
    )
    report: str = option(
        "events",
        choices=("events", "feature"),
        changes_training=False,
        doc="what a device sends: its last items or frames, or a feature of them",
    )
    downlink: str = option(
        "full",
        choices=DOWNLINKS,
        changes_training=False,
        doc="full: whole layers; edit: what is added to the prototype that the device holds; "
        "index: the prototype's number alone where the edit is small",
    )
    edit_threshold: float = option(
        0.0,
        least=0,
        below=math.inf,
        neutral=0,
        changes_training=False,
        doc="with downlink=index, the largest entry of an edit that is not sent; 0 sends all "
        "others than zero",
    )
    released_code: bool = option(
        False,
        neutral=False,
        doc="whether decoders are random and not trained, and one feature is cloned for all "
        "layers; false is the paper's",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low_rank is not None and self.downlink == "full":
            raise ValueError(
                "low_rank must go with downlink=edit or index; full layers have no low rank"
            )
        moves = self.refinement in ("reports", "shrink") or bool(self.rate_of_bytes)
        if self.low_rank is not None and moves:
            raise ValueError(
                "low_rank must go with refinement=none; "
                "what a moved prototype or a shrunk edit needs is of full rank"
            )
        if self.transfer == "transformer" and self.width % NUM_HEADS:
            raise ValueError(
                f"width must be a multiple of {NUM_HEADS} with transfer=transformer, "
                f"got {self.width}"
            )
        if self.refinement_mean != MEAN and self.refinement not in ("bytes", "reports"):
            raise ValueError(
                "refinement_mean must go with refinement=bytes or reports, which take means of "
                f"members, got {self.refinement}"
            )
        if self.refinement == "shrink" and self.report == "feature":
            raise ValueError(
                "refinement=shrink must go with report=events; a feature has no two halves"
            )
        if self.refinement == "reports" and not self.mixes:
            raise ValueError(
                f"refinement=reports must go with cluster_on=likelihood, by which members are "
                f"found, got {self.cluster_on}"
            )
        defaults = {"likelihood_pairs": 9, "sharpness": 0.5, "hedge": 0.0}
        for name, default in defaults.items():
            if not self.mixes and getattr(self, name) != default:
                raise ValueError(
                    f"{name} must go with cluster_on=likelihood, which mixes prototypes"
                )
        if not self.edits and not self.mixes:
            raise ValueError(
                "edits=false must go with cluster_on=likelihood; "
                "else groups are found by edits, and clip=0 leaves devices their prototype"
            )
        if not self.edits and self.refinement == "shrink":
            raise ValueError(
                "refinement=shrink must go with edits=true; there is no edit to shrink"
            )
        if self.mixes:
            self._check_mixture()

    @property
    def mixes(self) -> bool:
        """Tells whether prototypes are heads of regimes, mixed for each device."""
        return self.cluster_on == LIKELIHOOD

    @property
    def rate_of_bytes(self) -> float:
        """Gives how far prototypes move toward their members; 0 without refinement=bytes."""
        return self.bytes_rate if self.refinement == "bytes" else 0.0

    def _check_mixture(self) -> None:
        """Refuses what a mixture of prototypes cannot have.

        Raises:
            ValueError: If there is such a value.
        """
        rules = (
            (not self.joint, "joint=false", "heads of regimes stand on fixed static layers"),
            (self.low_rank is None, "low_rank=null", "a mixture is no low-rank edit"),
            (self.report == "events", "report=events", "a feature tells of no pair"),
            (self.report_stride == 1, "report_stride=1", "pairs are of neighboring items"),
        )
        for holds, what, why in rules:
            if not holds:
                raise ValueError(f"cluster_on=likelihood must go with {what}; {why}")
        if self.refinement == "bytes":
            raise ValueError(
                "refinement=bytes must go with cluster_on=edits or embeddings; "
                "a mixture belongs to no single prototype"
            )
