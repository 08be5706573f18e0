"""Flower's own strategies as they are compared with ours, on tiny devices."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy
from tiny import Around, cloud, fleet, inline, stream

from cdc_flower.simulations.deployment import deploy
from cdc_flower.simulations.grids.links import LinkGrid
from cdc_flower.simulations.grids.strategy import StrategyGrid
from cdc_flower.strategies.registry import build_class

#: How tiny devices train, so that something changes in little time.
LOCAL = {"steps": 2, "rate": 0.05, "max_examples": 8}
INSIDE = {"_target_": "flwr.serverapp.strategy.FedAvgM", "server_momentum": 0.5}
#: What each strategy of Flower's is given; those that are not here are refused.
CASES: dict[str, dict[str, Any]] = {
    "FedAvg": {},
    "FedProx": {"proximal_mu": 0.5},
    "FedAdam": {"eta": 0.01},
    "FedAdagrad": {"eta": 0.01},
    "FedYogi": {"eta": 0.01},
    "FedAvgM": {"server_momentum": 0.9, "server_learning_rate": 0.5},
    "FedMedian": {},
    "FedTrimmedAvg": {"beta": 0.3},
    "Krum": {"num_malicious_nodes": 1},
    "MultiKrum": {"num_malicious_nodes": 1, "num_nodes_to_select": 2},
    "Bulyan": {},
    "QFedAvg": {"client_learning_rate": 0.05, "q": 0.5},
    "DifferentialPrivacyServerSideFixedClipping": {
        "strategy": INSIDE,
        "noise_multiplier": 0.0,
        "clipping_norm": 0.1,
        "num_sampled_clients": 4,
    },
    "DifferentialPrivacyServerSideAdaptiveClipping": {
        "strategy": INSIDE,
        "noise_multiplier": 0.0,
        "clipped_count_stddev": 0.0,
        "num_sampled_clients": 4,
    },
}

every_case = pytest.mark.parametrize("name", CASES)


def flowers_class(name: str) -> type[Strategy]:
    """The class of Flower's."""
    found: type[Strategy] = getattr(flower, name)
    return found


def stock(name: str, num_devices: int = 4, seed: int = 0, **settings: Any) -> Any:
    """A strategy of Flower's that plays, prepared."""
    given = {**LOCAL, "layers": "head", **CASES[name], **settings}
    built = build_class(flowers_class(name), given, f"strategy.{name.lower()}")
    built.prepare(replace(cloud(num_devices), seed=seed))
    return built


def as_flower_builds(name: str) -> Strategy:
    """The same strategy without anything of ours."""
    given = dict(CASES[name])
    if "strategy" in given:
        given["strategy"] = flower.FedAvgM(server_momentum=INSIDE["server_momentum"])
    return flowers_class(name)(**given)


def behind_links(built: Any) -> tuple[Around, StrategyGrid]:
    """Devices with the model of a strategy, and the grid behind links that it is given."""
    around = Around(inline())
    deploy(around, built)
    around.sent.clear()
    around.replies.clear()
    links = fleet(up_bps=1e5, down_bps=1e5, rtt_s=0.1)
    return around, StrategyGrid(LinkGrid(around, links, stream().segment_starts_s))


def arrays_after(built: Any, num_rounds: int = 3) -> dict[str, np.ndarray]:
    """The global model after some rounds of Flower's own ``start``."""
    _, grid = behind_links(built)
    result = built.start(grid, built.initial_arrays(), num_rounds)
    return {name: array.numpy() for name, array in result.arrays.items()}
