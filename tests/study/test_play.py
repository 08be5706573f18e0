from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny import LABELS, NUM_SEGMENTS, Around, fleet, inline, strategy, stream, table

from cdc_flower.simulations.deployment import deploy
from cdc_flower.simulations.fleet import Fleet
from cdc_flower.study.play import play
from cdc_flower.tables.columns import COLUMNS
from cdc_flower.tasks.recommendation.task import RECOMMENDATION
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


def shuffled(_: MessageBatch, replies: Any) -> Any:
    """Single messages, last node first, as Flower's runtime may give them."""
    return list(replies)[::-1]


def test_there_is_a_row_for_each_device_segment_and_metric() -> None:
    rows = table("static")
    assert len(rows) == 4 * NUM_SEGMENTS * len((*RECOMMENDATION.pooled, *RECOMMENDATION.metrics))
    assert list(rows.columns) == list(COLUMNS.names)
    assert rows.groupby(["segment", "device_id", "metric"], observed=True).size().eq(1).all()
    assert rows.time_s.unique().tolist() == stream().segment_starts_s[:-1].tolist()


def test_the_devices_are_in_order_whatever_the_order_of_the_replies() -> None:
    rows, mixed = table("duet"), table("duet", Around(inline(), shuffled))
    assert mixed[mixed.segment == 0].device_id.drop_duplicates().tolist() == [0, 1, 2, 3]
    pd.testing.assert_frame_equal(rows, mixed, check_categorical=False)


def test_each_device_has_its_own_link_whatever_its_node_is() -> None:
    class Renumbered(Around):
        """Nodes in another order than devices."""

        def get_node_ids(self) -> list[int]:
            return list(self._inner.get_node_ids())[::-1]

    rates = np.array([1e3, 2e3, 4e3, 8e3])
    links = Fleet(rates, rates, np.zeros(4), np.full(4, 1e9), 1e9)
    rows, other = table("duet", links=links), table("duet", Renumbered(inline()), links)
    latency = rows[(rows.segment == 0) & (rows.metric == "auc")].latency_s.to_numpy()
    np.testing.assert_allclose(latency[:-1] / latency[1:], 2, rtol=0.01)
    pd.testing.assert_frame_equal(rows, other, check_categorical=False)


def test_a_device_that_does_not_answer_has_no_rows_in_that_segment() -> None:
    def lose(sent: MessageBatch, replies: Any) -> Any:
        if sent.message_type == "evaluate" and sent.configs[records.CLOCK][records.SEGMENT] == 2:
            return [reply for reply in replies if reply.metadata.src_node_id != 3]
        return replies

    rows = table("duet", Around(inline(), lose))
    assert sorted(rows[rows.segment == 2].device_id.unique()) == [0, 2, 3]
    assert sorted(rows[rows.segment == 3].device_id.unique()) == [0, 1, 2, 3]


def test_a_segment_that_nobody_answers_has_no_rows() -> None:
    def lose(sent: MessageBatch, replies: Any) -> Any:
        is_lost = (
            sent.message_type == "evaluate" and sent.configs[records.CLOCK][records.SEGMENT] == 2
        )
        return [] if is_lost else replies

    rows = table("duet", Around(inline(), lose))
    assert sorted(rows.segment.unique()) == [0, 1, 3, 4, 5]


def test_a_deployment_reaches_every_node_or_fails_with_its_number() -> None:
    nodes = deploy(inline(), strategy("static"))
    assert nodes.node_ids.tolist() == [2, 3, 4, 5]
    assert nodes.device_ids.tolist() == [0, 1, 2, 3]
    with pytest.raises(RuntimeError, match="got no answer from 3"):
        deploy(Around(inline(), lambda _, replies: replies.select([0, 2, 3])), strategy("static"))
    failing = Around(
        inline(), lambda sent, replies: sent.select([1]).reply(errors={0: (2, "disk full")})
    )
    with pytest.raises(RuntimeError, match="got an error from 3: disk full"):
        deploy(failing, strategy("static"))


def test_rows_are_collected_as_soon_as_a_segment_is_done() -> None:
    seen: list[int] = []

    def stop(frame: pd.DataFrame) -> None:
        seen.append(int(frame.segment.iloc[0]))
        if len(seen) == 2:
            raise KeyboardInterrupt

    starts_s = stream().segment_starts_s
    with pytest.raises(KeyboardInterrupt):
        play(
            strategy("static"),
            inline(),
            fleet(),
            starts_s,
            labels={**LABELS, "strategy": "static"},
            collect=stop,
        )
    assert seen == [0, 1]
