"""What each attack makes of five messages, of which two are of hostile devices."""

from typing import Any

import numpy as np
import pytest
from attack_cases import (
    HOSTILE,
    POPULARITY,
    UPDATES,
    exchange,
    made,
    reported,
    sent_to,
    trained,
    updates_after,
)

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.attacks import attacks
from cdc_flower.simulations.attacks.alie import formula_z
from cdc_flower.simulations.attacks.attack import HostileAttack
from cdc_flower.simulations.attacks.setup import attack_of, check_attack
from cdc_flower.wire import records

HONEST = UPDATES[~HOSTILE]
HISTORY = np.array([[1, 2, 3], [4, 5, 0], [3, 3, 3], [7, 6, 5], [2, 0, 0]])
ON_UPDATES = ["sign_flip", "scaling", "noise", "alie", "ipm"]
EVERY = [name for name in attacks if name != "none"]


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("sign_flip", {}, -UPDATES[HOSTILE]),
        ("sign_flip", {"scale": 10.0}, -10 * UPDATES[HOSTILE]),
        ("scaling", {}, 10 * UPDATES[HOSTILE]),
        ("scaling", {"scale": 1.0}, UPDATES[HOSTILE]),
        ("noise", {"scale": 0.0}, UPDATES[HOSTILE]),
        ("alie", {"z": 1.5}, [HONEST.mean(0) - 1.5 * HONEST.std(0)] * 2),
        ("alie", {"z": 0.0}, [HONEST.mean(0)] * 2),
        ("ipm", {}, [-0.5 * HONEST.mean(0)] * 2),
        ("ipm", {"epsilon": 10.0}, [-10 * HONEST.mean(0)] * 2),
    ],
)
def test_hostile_devices_send_another_update_and_the_others_their_own(
    name: str, settings: dict[str, Any], expected: Any
) -> None:
    found = updates_after(name, **settings)
    np.testing.assert_allclose(found[HOSTILE], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[~HOSTILE], HONEST)


def test_noise_is_a_multiple_of_the_size_of_honest_updates_and_the_same_again() -> None:
    added = updates_after("noise", scale=3.0)[HOSTILE] - UPDATES[HOSTILE]
    draws = exchange(trained()).draws.standard_normal(added.shape)
    size = np.sqrt(np.mean(HONEST**2))
    np.testing.assert_allclose(added, 3 * size * draws, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(updates_after("noise"), updates_after("noise"))


def test_the_formula_of_alie_gives_the_values_of_the_paper() -> None:
    assert formula_z(100, 10) == pytest.approx(0.112, abs=1e-3)
    assert formula_z(100, 20) == pytest.approx(0.286, abs=1e-3)
    assert np.isfinite([formula_z(n, f) for n in range(1, 9) for f in range(n + 1)]).all()


@pytest.mark.parametrize("name", EVERY)
def test_an_attacked_message_keeps_its_records_types_and_bytes(name: str) -> None:
    for replies, sent in ((trained(), sent_to()), (reported(HISTORY), None)):
        after = made(name).attacked(exchange(replies, sent=sent))
        assert after.record_names() == replies.record_names()
        np.testing.assert_array_equal(after.wire_bytes(), replies.wire_bytes())
        for record, held in replies.arrays.items():
            for key, value in held.items():
                assert after.arrays[record][key].dtype == value.dtype
        np.testing.assert_array_equal(
            after.select(~HOSTILE).arrays[next(iter(replies.arrays))][key],
            replies.select(~HOSTILE).arrays[next(iter(replies.arrays))][key],
        )


@pytest.mark.parametrize("name", ON_UPDATES)
def test_attacks_on_updates_leave_reports_alone(name: str) -> None:
    replies = reported(HISTORY)
    assert made(name).attacked(exchange(replies)) == replies


def test_an_update_is_held_at_the_largest_number_of_its_type() -> None:
    replies = made("scaling", scale=1e300).attacked(exchange(trained(), sent=sent_to()))
    assert np.isfinite(replies.arrays[records.ARRAYS]["w"]).all()


def test_where_all_of_an_exchange_are_hostile_they_look_at_themselves() -> None:
    both = trained().select(HOSTILE)
    sent = sent_to(2)
    found = made("ipm", epsilon=1.0).attacked(exchange(both, sent=sent)).arrays[records.ARRAYS]
    mean = UPDATES[HOSTILE].mean(0)
    np.testing.assert_allclose(found["w"] - sent["w"], [-mean[:2]] * 2, rtol=1e-6)


# Reports.


def history_after(kind: str, history: Any = HISTORY) -> np.ndarray:
    replies = made("report_poisoning", kind=kind).attacked(exchange(reported(history)))
    found: np.ndarray = replies.arrays[records.REPORT][records.HISTORY]
    return found


@pytest.mark.parametrize("kind", ["random", "other_context", "least_popular"])
def test_a_poisoned_report_is_of_items_that_there_are_and_honest_ones_stay(kind: str) -> None:
    found = history_after(kind)
    np.testing.assert_array_equal(found[~HOSTILE], HISTORY[~HOSTILE])
    assert (found[HOSTILE] != HISTORY[HOSTILE]).any()
    assert found.min() >= 0 and found.max() < len(POPULARITY)


def test_random_items_fill_the_places_that_were_filled() -> None:
    many = np.tile(HISTORY, (1, 50))
    found = history_after("random", many)
    np.testing.assert_array_equal(found == 0, many == 0)
    assert set(found[1]) == {0, *range(1, len(POPULARITY))}


def test_the_rarest_items_are_told_in_order_of_their_counts() -> None:
    np.testing.assert_array_equal(history_after("least_popular")[HOSTILE], [[6, 2, 0], [6, 0, 0]])


def test_a_report_of_another_context_is_that_of_an_honest_device_of_one() -> None:
    found = history_after("other_context")
    np.testing.assert_array_equal(found[1], HISTORY[3])  # the one honest device of context 1
    assert found[4].tolist() in HISTORY[[0, 2]].tolist()  # of context 0


def test_frames_and_features_become_noise_and_what_a_device_holds_stays() -> None:
    frames = np.arange(5 * 1 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 1, 4, 4, 3)
    feature = np.random.default_rng(0).normal(3, 2, (5, 400)).astype(np.float32)
    replies = reported(frames=frames, feature=feature, held=np.arange(5, dtype=np.int32))
    told = made("report_poisoning").attacked(exchange(replies)).arrays[records.REPORT]
    assert (told["frames"][HOSTILE] != frames[HOSTILE]).mean() > 0.9
    np.testing.assert_array_equal(told["frames"][~HOSTILE], frames[~HOSTILE])
    assert told["feature"][HOSTILE].mean() == pytest.approx(3, abs=0.4)
    assert told["feature"][HOSTILE].std() == pytest.approx(2, abs=0.4)
    np.testing.assert_array_equal(told["held"], np.arange(5))


def test_report_poisoning_leaves_updates_and_uploads_alone() -> None:
    for replies in (trained(), reported(HISTORY).only(())):
        assert made("report_poisoning").attacked(exchange(replies, sent=sent_to())) == replies


# Replay.


def test_a_stale_device_sends_what_it_sent_some_segments_before() -> None:
    attack, found = made("stale_replay", segments=2), []
    for segment in range(5):
        replies = attack.attacked(exchange(trained(UPDATES + segment), segment=segment))
        found.append(replies.arrays[records.ARRAYS]["w"])
    first = [trained(UPDATES + segment).arrays[records.ARRAYS]["w"] for segment in range(5)]
    for segment, expected in enumerate([0, 1, 0, 1, 2]):
        np.testing.assert_array_equal(found[segment][HOSTILE], first[expected][HOSTILE])
        np.testing.assert_array_equal(found[segment][~HOSTILE], first[segment][~HOSTILE])
    assert all(len(kept) == 3 for kept in attack._kept.values())


def test_a_reply_of_another_shape_is_not_sent_again() -> None:
    attack = made("stale_replay", segments=1)
    attack.attacked(exchange(reported(HISTORY[:, :2]), segment=0))
    replies = reported(HISTORY)
    assert attack.attacked(exchange(replies, segment=1)) == replies


def test_kinds_of_messages_are_replayed_apart_and_go_on_where_they_were_saved() -> None:
    attack, other = made("stale_replay", segments=1), made("stale_replay", segments=1)
    attack.attacked(exchange(trained(), segment=0))
    attack.attacked(exchange(reported(HISTORY), segment=0))
    other.from_arrays(attack.to_arrays())
    for each in (attack, other):
        replies = each.attacked(exchange(reported(HISTORY[::-1]), segment=1))
        told = replies.arrays[records.REPORT][records.HISTORY]
        np.testing.assert_array_equal(told[HOSTILE], HISTORY[HOSTILE])
        np.testing.assert_array_equal(told[~HOSTILE], HISTORY[::-1][~HOSTILE])
    replies = trained()
    assert made("stale_replay", segments=0).attacked(exchange(replies)) is replies


# Who is hostile.


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.05, 1), (0.2, 5), (0.3, 8), (0.5, 12)])
def test_as_many_devices_are_hostile_as_the_share_says(share: float, count: int) -> None:
    assert made("sign_flip", share=share).hostile(25, 0).sum() == count == round(share * 25)


def test_who_is_hostile_follows_the_seed_of_the_run_or_its_own_and_not_the_attack() -> None:
    one = made("sign_flip").hostile(50, 0)
    assert (one == made("report_poisoning").hostile(50, 0)).all()
    assert (one != made("sign_flip").hostile(50, 1)).any()
    own = made("sign_flip", seed=7)
    assert (own.hostile(50, 0) == own.hostile(50, 1)).all()
    wide = made("sign_flip", share=0.4).hostile(50, 0)
    assert (wide | ~one).all()  # more devices are hostile, and the same ones still are
    assert not made("none").hostile(50, 0).any()


# Options.


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (
            {"name": "sing_flip"},
            "attack.name: unknown attack 'sing_flip'; did you mean 'sign",
        ),
        ({"name": "sign_flip", "share": 0.6}, r"attack.share must be .* in \[0, 0.5\], got 0.6"),
        ({"name": "none", "share": 0.2}, "attack: unknown key 'share'"),
        ({"name": "ipm", "z": 1}, "attack: unknown key 'z'"),
        ({"name": "report_poisoning", "kind": "randon"}, "did you mean random?"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(node: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        attack_of(node)


def test_rare_items_are_refused_where_devices_tell_none() -> None:
    node = {"name": "report_poisoning", "kind": "least_popular"}
    with pytest.raises(UserError, match=r"attack\.kind must be random or other_context where"):
        check_attack(node, {}, frozenset({records.FRAMES}))
    check_attack(node, {}, frozenset({records.HISTORY}))


def test_noise_is_refused_in_the_place_of_encoded_pictures() -> None:
    from cdc_flower.strategies.registry import build_strategy

    strategies = {"mmpg": build_strategy("cdc_mmpg", {"form": "jpeg"})}
    with pytest.raises(
        UserError, match=r"strategy\.mmpg\.form must be raw or feature with attack="
    ):
        check_attack({"name": "report_poisoning"}, strategies, frozenset({records.FRAMES}))


def test_a_share_of_zero_is_the_neutral_value_of_every_attack() -> None:
    assert all(issubclass(attacks[name].value, HostileAttack) for name in EVERY)
