"""What the cloud side of a strategy trains with: epochs that may be shorter than a pass over the
history.
"""

from dataclasses import replace

import numpy as np
import pytest
from tiny import cloud


def rows_of(epochs: int, **settings: int) -> list[list[int]]:
    given = replace(cloud(), **settings)
    return [
        [int(row) for batch in given.batches(epoch) for row in batch.rows]
        for epoch in range(epochs)
    ]


def test_by_default_an_epoch_is_every_example_once() -> None:
    num_examples = cloud().train.num_examples
    for rows in rows_of(2):
        assert sorted(rows) == list(range(num_examples))


@pytest.mark.parametrize("batch_size", [7, 32])
def test_shorter_epochs_go_on_where_the_last_one_ended_so_each_pass_sees_every_example_once(
    batch_size: int,
) -> None:
    num_examples = cloud().train.num_examples
    short = rows_of(20, batch_size=batch_size, examples_per_epoch=20)
    num_batches = -(-20 // batch_size)
    assert max(map(len, short)) == num_batches * batch_size
    flat = [row for rows in short for row in rows]
    whole = [row for rows in rows_of(2, batch_size=batch_size) for row in rows]
    assert flat[: len(whole)] == whole[: len(flat)]
    assert len(flat) > num_examples
    assert sorted(flat[:num_examples]) == list(range(num_examples))


def test_an_epoch_of_more_examples_than_there_are_is_one_pass() -> None:
    assert rows_of(2, examples_per_epoch=10**9) == rows_of(2)


def test_epochs_do_not_depend_on_each_other() -> None:
    given = replace(cloud(), examples_per_epoch=20)
    third = [batch.candidates for batch in given.batches(3)]
    for epoch in range(3):
        list(given.batches(epoch))
    for one, other in zip(third, given.batches(3), strict=True):
        np.testing.assert_array_equal(one, other.candidates)
