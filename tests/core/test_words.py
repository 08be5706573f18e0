"""Words after a number: of one thing, of several, and of some of all."""

import pytest

from cdc_flower.core.words import counted, counted_of


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 users"), (1, "1 user"), (2, "2 users"), (1_200, "1,200 users")]
)
def test_one_thing_is_named_as_one(count: int, words: str) -> None:
    assert counted(count, "user") == words


def test_a_plural_of_its_own_is_taken() -> None:
    assert counted(2, "strategy", "strategies") == "2 strategies"
    assert counted(1, "strategy", "strategies") == "1 strategy"


@pytest.mark.parametrize(
    ("count", "total", "words"),
    [
        (1, 1, "1 of 1 recording has"),
        (1, 2, "1 of 2 recordings has"),
        (2, 2, "2 of 2 recordings have"),
        (0, 3, "0 of 3 recordings have"),
    ],
)
def test_the_verb_follows_how_many_of_all_there_are(count: int, total: int, words: str) -> None:
    assert counted_of(count, total, "recording", ("has", "have")) == words


def test_without_a_verb_nothing_follows() -> None:
    assert counted_of(1, 2, "device") == "1 of 2 devices"
