"""Hostile devices in runs of strategies: none of them changes nothing, and each counts once."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from attack_cases import made
from run_cases import config_of, played_table
from tiny import LABELS, fleet, inline, same, strategy, stream, table

from cdc_flower.simulations.attacks import Exchange, HostileAttack
from cdc_flower.simulations.attacks.link import AttackGrid, WithAttack
from cdc_flower.simulations.attacks.setup import marked, scene_of, with_attack
from cdc_flower.simulations.grids.through import grids_inside
from cdc_flower.study.play import play
from cdc_flower.study.session import Session
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

pytestmark = pytest.mark.slow  # plays whole runs

LINKS = fleet(up_bps=3e4, down_bps=8e4)
#: Settings of attacks that change something in four devices and six segments.
STRONG: dict[str, Any] = {
    "sign_flip": {"scale": 10.0},
    "alie": {"z": 1.5},
    "ipm": {"epsilon": 10.0},
    "report_poisoning": {"kind": "other_context"},
}


def link(name: str, share: float = 0.5, **settings: Any) -> WithAttack:
    attack = made(name, share=share, **{**STRONG.get(name, {}), **settings})
    return WithAttack(attack, 0, scene_of(stream()))


def played(
    name: str, attack: WithAttack, rounds: Any = Session.run, **settings: Any
) -> pd.DataFrame:
    frames: list[pd.DataFrame] = []
    play(
        strategy(name, **settings),
        inline(),
        LINKS,
        stream().segment_starts_s,
        labels={**LABELS, "strategy": name},
        collect=frames.append,
        chain=[attack],
        rounds=rounds,
    )
    return pd.concat(frames, ignore_index=True)


def differ(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    return not np.allclose(one.value_sum, other.value_sum, rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize(
    ("method", "name"),
    [("fedavg", "sign_flip"), ("fedavg", "label_flip"), ("duet", "report_poisoning")],
)
def test_a_share_of_zero_is_no_attack_to_the_bit(method: str, name: str) -> None:
    same(played(method, link(name, share=0.0)), table(method, links=LINKS))


@pytest.mark.parametrize(
    "name",
    ["sign_flip", "scaling", "noise", "alie", "ipm", "label_flip", "stale_replay"],
)
def test_an_attack_on_updates_reaches_averaging_and_no_byte_differs(name: str) -> None:
    plain, attacked = (
        table("fedavg", links=LINKS),
        played("fedavg", link(name, segments=1) if name == "stale_replay" else link(name)),
    )
    assert differ(plain, attacked)
    same(
        plain.drop(columns=["value_sum", "value_count"]),
        attacked.drop(columns=["value_sum", "value_count"]),
    )


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("duet", "random"),
        ("duet", "other_context"),
        ("duet", "least_popular"),
        ("persona", "random"),
        ("fedavg", "random"),
    ],
)
def test_a_poisoned_report_reaches_generation_and_not_averaging(method: str, kind: str) -> None:
    attack = link("report_poisoning", kind=kind)
    plain, attacked = table(method, links=LINKS), played(method, attack)
    assert differ(plain, attacked) == (method != "fedavg")


def test_a_poisoned_report_harms_its_own_device_alone_where_nothing_is_shared() -> None:
    attack = link("report_poisoning")
    hostile = attack.attack.hostile(4, 0)
    plain, attacked = table("duet", links=LINKS), played("duet", attack)
    is_hostile = hostile[plain.device_id]
    own = plain.metric != "auc"  # which compares with the candidates of all devices
    honest = own & ~is_hostile
    np.testing.assert_allclose(
        plain[honest].value_sum, attacked[honest].value_sum, rtol=1e-5, atol=1e-6
    )
    assert differ(plain[own & is_hostile], attacked[own & is_hostile])


def test_flipped_labels_reach_those_who_train_on_labels_and_uploads() -> None:
    for method in ("fine_tuning", "cloud_fine_tuning"):
        assert differ(table(method, links=LINKS), played(method, link("label_flip")))
    same(table("duet", links=LINKS), played("duet", link("label_flip")))


def test_an_attack_on_one_exchange_does_not_depend_on_codecs_or_policies_behind_it() -> None:
    config = config_of("strategies=[static,fedavg]", "attack=sign_flip", "attack.scale=10")
    rows = played_table(config)
    assert rows.drop_duplicates("device_id").is_hostile.sum() == round(0.2 * 8)
    encoded = played_table({**config, "protocol": {**config["protocol"], "codecs": ["zstd"]}})
    assert (rows.value_sum == encoded.value_sum).all()


@pytest.mark.parametrize(
    ("method", "name", "settings"),
    [
        ("fedavg", "stale_replay", {}),
        ("duet", "report_poisoning", {"kind": "random"}),
    ],
)
def test_a_run_under_attack_goes_on_to_the_same_rows(
    method: str, name: str, settings: dict[str, Any]
) -> None:
    whole = played(method, link(name, **settings))

    def first_half(session: Session) -> None:
        session.run(until=3)
        saved.append(session.to_arrays())

    def second_half(session: Session) -> None:
        session.from_arrays(saved[0])
        session.run()

    saved: list[Any] = []
    before = played(method, link(name, **settings), first_half)
    after = played(method, link(name, **settings), second_half)
    same(whole, pd.concat([before, after], ignore_index=True))


def test_a_center_of_clipping_is_saved_with_the_run() -> None:
    how = {"rule": "centered_clipping", "clip_steps": 1}
    whole = played("fedavg", link("noise"), **how)

    def first_half(session: Session) -> None:
        session.run(until=3)
        saved.append(session.to_arrays())

    def second_half(session: Session) -> None:
        session.from_arrays(saved[0])
        session.run()

    saved: list[Any] = []
    before = played("fedavg", link("noise"), first_half, **how)
    after = played("fedavg", link("noise"), second_half, **how)
    same(whole, pd.concat([before, after], ignore_index=True))


def test_the_end_of_an_attack_stands_next_to_the_devices_and_only_if_somebody_is_hostile() -> None:
    seen: list[list[type]] = []

    def look(session: Session) -> None:
        seen.append([type(grid) for grid in grids_inside(session.grid)])
        session.run()

    played("fedavg", link("sign_flip"), look)
    played("fedavg", link("sign_flip", share=0.0), look)
    assert seen[0][-2] is AttackGrid and AttackGrid not in seen[1]


def test_each_run_of_a_strategy_has_an_attack_of_its_own() -> None:
    config = {"seed": 3, "attack": {"name": "stale_replay", "share": 0.5}}
    one, other = (with_attack(config, stream()) for _ in range(2))
    assert one.attack is not other.attack and one.seed == 3
    assert with_attack({"seed": 0}, stream()).attack.hostile(9, 0).sum() == 0  # of before


def test_rows_of_hostile_devices_are_marked_by_their_number() -> None:
    rows = table("static")
    hostile = np.array([False, True, False, False])
    found = marked(rows, hostile)
    assert set(found[found.is_hostile].device_id) == {1} and found.is_hostile.dtype == bool
    assert marked(rows, np.zeros(4, bool)) is rows
    assert replace(link("sign_flip")).attack is not None


@dataclass(eq=False)
class Watching(HostileAttack):
    """Keeps what attackers see, and changes nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.seen: list[Exchange] = []
        self.drawn: list[float] = []

    def attacked(self, exchange: Exchange) -> MessageBatch:
        self.seen.append(exchange)
        self.drawn.append(float(exchange.draws.random()))
        return exchange.replies


def test_attackers_see_who_answers_what_was_sent_and_when_and_draw_anew_each_time() -> None:
    watching = [Watching(name="watching", share=0.5) for _ in range(2)]
    for each in watching:
        played("fedavg", WithAttack(each, 0, scene_of(stream())), num_train_devices=3)
    attack = watching[0]
    hostile = attack.hostile(4, 0)
    assert [exchange.segment for exchange in attack.seen] == list(range(6))
    for exchange in attack.seen:
        np.testing.assert_array_equal(exchange.device_ids + 2, exchange.replies.node_ids)
        np.testing.assert_array_equal(exchange.is_hostile, hostile[exchange.device_ids])
        assert exchange.sent.keys() == exchange.replies.arrays[records.ARRAYS].keys()
    first, second = (next(iter(seen.sent.values())) for seen in attack.seen[:2])
    assert len(first) == 3 and (first != second).any()  # the model of each round
    assert len(set(attack.drawn)) == 6 and watching[1].drawn == attack.drawn
