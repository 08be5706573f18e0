"""Flower's own strategies go on where a saved run stopped."""

from typing import Any

import numpy as np
import pandas as pd
from flwr.serverapp.strategy import Strategy
from stock_cases import CASES, arrays_after, every_case, stock
from tiny import LABELS, fleet, inline, same, stream

from cdc_flower.strategies.stock_state import wrapped
from cdc_flower.study.play import play
from cdc_flower.study.session import Session


def changed_attributes(strategy: Strategy, before: list[dict[str, Any]]) -> set[str]:
    """Attributes, also of strategies inside, that rounds have changed."""
    changed: set[str] = set()
    for now, then in zip(wrapped(strategy), before, strict=True):
        for name, value in vars(now).items():
            if name not in then or repr(value) != then[name]:
                changed.add(name)
    return changed


@every_case
def test_what_rounds_change_is_saved(name: str) -> None:
    built = stock(name)
    before = [{key: repr(value) for key, value in vars(each).items()} for each in wrapped(built)]
    arrays_after(built, 2)
    changed = changed_attributes(built, before) - {"strategy"}
    assert changed <= {*built.carried, *built.passing}


@every_case
def test_a_run_that_stops_and_goes_on_gives_the_same_rows(name: str) -> None:
    more: dict[str, Any] = {"fraction_train": 0.75}
    if "strategy" in CASES[name]:
        noise = {"noise_multiplier": 0.01, "clipped_count_stddev": 6.0}
        more = {key: value for key, value in noise.items() if key in CASES[name]}
    saved: dict[str, np.ndarray] = {}

    def rows(rounds: Any) -> pd.DataFrame:
        frames: list[pd.DataFrame] = []
        play(
            stock(name, **more),
            inline(),
            fleet(up_bps=1e5, down_bps=1e5, rtt_s=0.1),
            stream().segment_starts_s,
            labels={**LABELS, "strategy": name},
            collect=frames.append,
            rounds=rounds,
        )
        return pd.concat(frames, ignore_index=True)

    def stop(session: Session) -> None:
        session.run(2)
        saved.update(session.to_arrays())

    def go_on(session: Session) -> None:
        session.from_arrays(saved)
        session.run()

    whole = rows(Session.run)
    begun, after = rows(stop), rows(go_on)
    same(whole, pd.concat([begun, after], ignore_index=True))
