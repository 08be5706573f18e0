"""Changed files: which are counted as read or refused, and which are faults."""

import time

import mutants as counting
import pytest
from mutants import Mutants, TookTooLong, summary

from cdc_flower.core.errors import UserError
from cdc_flower.core.opening.damage import whole


def test_files_that_are_read_and_refused_are_counted() -> None:
    found = Mutants()
    for number in range(5):
        with found.one():
            if number < 3:
                raise UserError("a line")
    assert (found.num_read, found.num_refused) == (2, 3)
    other = Mutants("others", 1)
    words, others = summary([found.facts(), other.facts(), found.facts()])
    assert others.startswith("1 others: 1 read, 0 refused")
    assert words.startswith("10 changed files: 4 read, 6 refused in a line, slowest 0.0")
    assert found.peak_bytes > 2**20 and words.endswith(" MiB") and summary([]) == []


def test_any_other_error_and_several_lines_are_faults() -> None:
    with pytest.raises(KeyError), Mutants().one():
        raise KeyError("x")
    for text in ("two\nlines", "x" * 1_000):
        with pytest.raises(AssertionError), Mutants().one():
            raise UserError(text)


def test_a_reader_that_hangs_is_no_damage_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "LONGEST_S", 0.05)
    with pytest.raises(TookTooLong), Mutants().one(), whole("f", "file"):
        time.sleep(5)
