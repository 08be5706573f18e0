"""Lists the options of a run: every key that belongs to no method, model or link.

Each says whether it changes results, from which ``run_id`` follows, and whether it means the same
for every task, from which follows which tasks the bare command plays.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cdc_flower.core.options import option
from cdc_flower.simulations.fleet import Speeds
from cdc_flower.training.schedule import Schedule

#: In ``Rule.task``: defaults of the tasks differ, so a value on the command line is for one task.
EACH_TASK = "each"

Node = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The top of the configuration. Nodes are checked by the options of what they configure."""

    plugins: tuple[str, ...] = option(
        (), doc="modules of your own that are imported first; what they register has a name then"
    )
    task: str = option(task=EACH_TASK, doc="what devices do: cdc-flower list tasks")
    strategies: tuple[str, ...] = option(
        task=EACH_TASK, doc="methods and arms to compare, in order"
    )
    references: tuple[str, ...] = option(
        (),
        task="recommendation",
        doc="lines beside the strategies: auto, or names of cdc-flower list references",
    )
    controls: bool = option(
        True, neutral=False, doc="whether the mean and another device's layers are played beside"
    )
    num_segments: int = option(8, least=1, doc="segments of the stream")
    num_negatives: int = option(
        99, least=1, task="recommendation", doc="candidates beside the true one at an event"
    )
    seed: int = option(0, least=0, doc="of everything that is drawn")
    experiment_name: str = option("none", task=EACH_TASK, doc="column experiment of the table")
    data: Node = option(task=EACH_TASK, doc="streams of devices: cdc-flower list data")
    model: Node = option(task=EACH_TASK, doc="device model: cdc-flower list models")
    strategy: Node = option(task=EACH_TASK, doc="options of methods and arms, by name")
    cloud: Node = option(task=EACH_TASK, doc="training on historical data")
    metrics: Node = option(task="recommendation", doc="how devices are scored")
    network: Node = option(doc="links: cdc-flower list networks")
    fleet: Node = option(doc="devices and their speeds")
    conditions: Node = option(doc="losses, outages and limits of all links")
    protocol: Node = option(doc="codecs of payloads")
    quarantine: Node = option(default_factory=dict, doc="replies of devices that are left out")
    policy: Node = option(doc="which devices report: cdc-flower list policies")
    attack: Node = option(
        default_factory=lambda: {"name": "none"},
        doc="which devices are hostile, and how: cdc-flower list attacks",
    )
    grid: Node = option(changes_results=False, doc="where devices are played")
    out: str | None = option(
        None, changes_results=False, doc="run folder; null: results/runs/<time>"
    )
    report: bool = option(True, changes_results=False, doc="whether to write report.html")
    cache: str | None = option(
        None, changes_results=False, doc="folder of trained parameters; null trains anew"
    )
    resume: bool = option(
        False, changes_results=False, doc="whether to go on with an interrupted run in out"
    )
    checkpoint: Node = option(changes_results=False, doc="when the state of a run is saved")
    also: tuple[Node, ...] = option(
        (), changes_results=False, doc="configurations of further tasks in the same run"
    )
    command: str = option("", changes_results=False, doc="the command that was given")


@dataclass(frozen=True, kw_only=True)
class FleetOptions(Speeds):
    """Devices and their speeds."""

    num_devices: int | None = option(None, least=1, doc="null: all that the data has")


@dataclass(frozen=True, kw_only=True)
class AdaptationOptions:
    """Training of strategies on top of the base model."""

    batch_size: int | None = option(None, least=1, doc="null: that of the base model")
    examples_per_epoch: int | None = option(
        None, least=1, doc="validated after so many; null: after all of them"
    )
    patience_steps: int | None = option(
        300, least=1, doc="steps without a gain until a stage stops; null: never"
    )


@dataclass(frozen=True, kw_only=True)
class CloudOptions(Schedule):
    """Training of the base model on the historical part, before the stream begins."""

    epochs: int = option(200, least=0, neutral=0, doc="at most")
    rate: float = option(5e-3, least=0, neutral=0, doc="learning rate of Adam")
    batch_size: int = option(512, least=1, doc="examples of a step")
    num_negatives: int = option(4, least=1, doc="candidates beside the true one of an example")
    adaptation: Node = option(doc="training of strategies")
    validation: str = option(
        "devices", choices=("devices", "last"), doc="held out: devices, or the last event of each"
    )
    validation_fraction: float = option(0.05, above=0, below=1, doc="share that is held out")


@dataclass(frozen=True, kw_only=True)
class CheckpointOptions:
    """Keeping of the whole state of a strategy while it is played."""

    every: int | str | None = option(
        "auto", least=0, neutral=0, doc="segments; auto: about a minute; 0 or null keeps none"
    )
