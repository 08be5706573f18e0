"""Folders of the runs of a sweep: distinct, legible, and not long."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_flower.study.command import folder_name

KEYS = ("seed", "cloud.rate", "data.path", "num_segments", "network")
words = st.text("ab1_.-+/AB", min_size=1, max_size=6)
longs = st.builds(lambda word, count: word * count, words, st.integers(20, 60))
lists = st.lists(st.text("ab1_", min_size=1, max_size=3), max_size=3).map(
    lambda members: f"[{','.join(members)}]"
)
tricky = st.sampled_from(
    ["1_seed_2", "network", "a-b", "-1", "1", "1e-3", "1e+3", "1e3", "null", '"a b"', "{a: 1}"]
)
values = st.one_of(words, longs, lists, tricky)
sweeps = st.dictionaries(
    st.sampled_from(KEYS),
    st.lists(values, min_size=2, max_size=4, unique=True),
    min_size=1,
    max_size=3,  # 64 runs at most
)


def names_of(sweep: dict[str, list[str]]) -> list[str]:
    arguments = ["-m", *(f"{key}={','.join(each)}" for key, each in sweep.items())]
    runs = itertools.product(*([f"{key}={value}" for value in each] for key, each in sweep.items()))
    return [folder_name(run, arguments) for run in runs]


@given(sweeps)
def test_two_runs_of_a_sweep_never_share_a_folder(sweep: dict[str, list[str]]) -> None:
    names = names_of(sweep)
    assert len({name.lower() for name in names}) == len(names)  # a Mac's files know no capitals
    assert all(re.fullmatch(r"[A-Za-z0-9.-]{1,120}", name) for name in names)
    assert all(name.startswith(next(iter(sweep)).replace("_", "-")) for name in names)


@pytest.mark.parametrize(
    "pair",
    [
        ("-1", "1"),
        ("1e-3", "1e+3"),
        ("[a,b]", "[a_b]"),
        ("[1]", "1"),
        ("a_b", "a__b"),
        ("_a", "a"),
        ("SGD", "sgd"),
        ("/data/" + "x" * 200 + "/a", "/data/" + "x" * 200 + "/b"),
    ],
    ids=lambda pair: pair[0][:10],
)
def test_values_that_differ_in_what_a_name_cannot_hold_have_two_folders(
    pair: tuple[str, str],
) -> None:
    first, second = (name.lower() for name in names_of({"cloud.rate": list(pair)}))
    assert first != second


def test_words_of_a_value_are_not_taken_for_the_next_key() -> None:
    sweep = {"network": ["a_seed_1", "a"], "seed": ["b", "1_seed_b"]}
    assert len(set(names_of(sweep))) == 4


def test_plain_values_have_plain_names() -> None:
    assert names_of({"network": ["nb_iot", "lte"], "seed": ["0"]})[:1] == ["network-nb-iot"]
    assert "network-lte-seed-2" in names_of({"network": ["nb_iot", "lte"], "seed": ["0", "2"]})


def test_a_name_that_looks_like_one_with_a_hash_has_a_hash_itself() -> None:
    (hashed, _) = names_of({"cloud.rate": ["-1", "1"]})
    lookalike = hashed.removeprefix("cloud.rate-").replace("-", "_")
    assert names_of({"cloud.rate": [lookalike, "1"]})[0] != hashed
