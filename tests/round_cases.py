"""Runs that stop, are saved and go on, for tests of rounds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tiny import LABELS, cloud, inline, same, strategy, stream
from video_tiny import video_cloud, video_inline, video_strategy, video_stream
from video_tiny import video_task as task_of

from cdc_flower.core.saveable import Arrays
from cdc_flower.simulations.fleet import Conditions, Fleet, Network, Speeds
from cdc_flower.simulations.grids.codecs import WithCodecs
from cdc_flower.simulations.grids.requests import WithRequests
from cdc_flower.simulations.protocol.encoding import Codecs
from cdc_flower.simulations.requests.setup import Requests, requests_of
from cdc_flower.study.play import play
from cdc_flower.study.session import Session
from cdc_flower.tasks.recommendation.task import RECOMMENDATION

CODECS = Codecs(("delta", "int8", "zstd"))
ON_DRIFT = {"name": "on_drift", "max_bytes": None, "detector": "page_hinkley"}
ON_DRIFT |= {"threshold": 0.02, "delta": 0.05}
ADWIN = {**ON_DRIFT, "detector": "adwin", "delta": 0.9}
LIMITED = {"name": "every", "n": 1, "max_bytes": 2500.0}  # which is reached in the fourth segment
UNCERTAINTY = {"name": "uncertainty", "max_bytes": None, "rate": 0.5, "epochs": 1}


def thin_links(num_devices: int, bps: float, **rules: Any) -> Fleet:
    """Links on which much comes late, some is lost, and all queues are in use."""
    given = {"loss": 0.1, "packet_bytes": 200, "outage_every_s": 100.0, "outage_s": 20.0}
    given |= {"cell_up_bps": 4 * bps, "cell_down_bps": 2 * bps, "ttl_s": 150.0, **rules}
    speeds = Speeds(2e4, 1e7, num_cloud_workers=1, cloud_s_per_device=12.0)
    network = Network("thin", bps, bps, 0.5, spread=0.5)
    return Fleet.build(num_devices, network, speeds=speeds, conditions=Conditions(**given), seed=3)


class World:
    """Everything that a run is made of, built anew for each play."""

    def __init__(
        self, name: str, policy: dict[str, Any] | None = None, bps: float = 120.0, **rules: Any
    ) -> None:
        self.name, self.policy, self.rules = name, policy, rules
        self.stream: Any = stream()
        self.bps, self.task, self.codecs = bps, RECOMMENDATION, CODECS

    def built(self) -> Any:
        return strategy(self.name)

    def grid(self) -> Any:
        return inline()

    def requests(self, built: Any) -> Requests | None:
        asked = self.policy
        return None if asked is None else requests_of(asked, self.task, self.stream, cloud(), built)

    def policies(self, built: Any) -> list[WithRequests]:
        requests = self.requests(built)
        return [] if requests is None else [WithRequests(requests)]

    def play(self, rounds: Callable[[Session], object]) -> pd.DataFrame:
        """Rows of the rounds that are played; none if there are none."""
        frames = [pd.DataFrame()]
        built = self.built()
        play(
            built,
            self.grid(),
            thin_links(self.stream.num_devices, self.bps, **self.rules),
            self.stream.segment_starts_s,
            labels={**LABELS, "strategy": self.name},
            collect=frames.append,
            task=self.task,
            chain=[WithCodecs(self.codecs), *self.policies(built)],
            rounds=rounds,
        )
        return pd.concat(frames[1:] or frames, ignore_index=True)


class VideoWorld(World):
    """The same on video."""

    def __init__(self, name: str, policy: dict[str, Any] | None = None, bps: float = 300.0) -> None:
        super().__init__(name, policy, bps)
        self.stream = video_stream()
        self.task = task_of(self.stream)

    def built(self) -> Any:
        return video_strategy(self.name, self.stream)

    def grid(self) -> Any:
        return video_inline(self.stream)

    def requests(self, built: Any) -> Requests | None:
        asked, own = self.policy, video_cloud(self.stream)
        return None if asked is None else requests_of(asked, self.task, self.stream, own, built)


def saved_after(world: World, *stops: int, folder: Path) -> tuple[pd.DataFrame, list[Arrays]]:
    """Rows of a run up to the last of some rounds, and what was saved after each, in files too."""
    saved: list[Arrays] = []

    def begin(session: Session) -> None:
        for stop in stops:
            session.run(until=stop)
            saved.append(session.to_arrays())
            session.save(folder / f"{stop}.safetensors")

    return world.play(begin), saved


def gone_on(world: World, path: Path, saved: Arrays) -> pd.DataFrame:
    """Rows of a run that is built anew and goes on from a file, which gives the arrays back."""

    def go_on(session: Session) -> None:
        session.load(path)
        again = session.to_arrays()
        assert list(again) == list(saved)
        for name, value in saved.items():
            np.testing.assert_array_equal(again[name], value, err_msg=name)
            assert again[name].dtype == value.dtype
        session.run()

    return world.play(go_on)


def assert_goes_on(world: World, *stops: int, folder: Path) -> Arrays:
    """A run that stopped gives the rows of one that did not; returns what was saved last."""
    whole = world.play(Session.run)
    before, saved = saved_after(world, *stops, folder=folder)
    for stop, arrays in zip(stops, saved, strict=True):
        begun = before[before.segment < stop]
        after = gone_on(world, folder / f"{stop}.safetensors", arrays)
        assert len(begun) and len(after)
        same(whole, pd.concat([begun, after], ignore_index=True))
    return saved[-1]
