"""The published protocol: leave the last item of each user out, and what each part of the data may
hold.

Rows are checked against plain loops over each user's own items.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from run_cases import config_of, quiet, table_of
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score

from cdc_flower.core.stream import TruthReader
from cdc_flower.strategies.base import no_progress
from cdc_flower.study import run as runs
from cdc_flower.study.cloud import train_cloud
from cdc_flower.study.setup import prepare
from cdc_flower.tasks.recommendation.metrics import RankingMetrics, pooled_auc
from cdc_flower.tasks.recommendation.stream import EventStream
from cdc_flower.tasks.recommendation.task import Recommendation

pytestmark = pytest.mark.slow  # plays whole runs

EXPERIMENT = "experiment=leave_last_out"
SMALL = (
    "fleet.num_devices=8",
    "data=shifting_interests",
    "data.history_events=20",
    "data.num_items=200",
    "cloud.epochs=1",
    "report=false",
    "controls=false",
)


@pytest.fixture(scope="module", params=["embedded", "ml_100k"])
def source(request: pytest.FixtureRequest) -> tuple[EventStream, dict[str, Any]]:
    overrides = [EXPERIMENT, *SMALL, "data.exclude_seen=true"]
    if request.param == "ml_100k":
        folder = request.getfixturevalue("data_dir") / "rec" / "ml-100k"
        if not folder.is_dir():
            pytest.skip(f"{folder} is absent")
        filters = ["data.min_user_events=30", "data.min_item_events=30"]
        overrides = [EXPERIMENT, "data=ml_100k", f"data.path={folder}", *filters]
    config = config_of(*overrides, small=())
    return Recommendation.build(config).stream, config


def own_items(stream: EventStream) -> list[list[int]]:
    """The items of each user, oldest first."""
    return [
        stream.items[a:b].tolist()
        for a, b in zip(stream.offsets[:-1], stream.offsets[1:], strict=True)
    ]


def padded(items: list[int], length: int = 10) -> list[int]:
    """The last of these items, oldest first, padded on the right with 0."""
    return (items[-length:] + [0] * length)[:length]


def true_items(stream: EventStream) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    batch = stream.segment(np.arange(stream.num_devices), 0)
    positive, _, _ = batch.truth.read(TruthReader())
    return batch.candidates[np.arange(len(positive)), positive], positive


def test_the_test_row_of_each_user_is_the_last_item_after_the_ten_before_it_among_99_others(
    source: Any,
) -> None:
    stream, _ = source
    users, batch = own_items(stream), stream.segment(np.arange(stream.num_devices), 0)
    assert (batch.num_events == 1).all() and batch.candidates.shape == (stream.num_devices, 100)
    assert true_items(stream)[0].tolist() == [items[-1] for items in users]
    assert batch.history.tolist() == [padded(items[:-1]) for items in users]
    for items, row in zip(users, batch.candidates.tolist(), strict=True):
        # Nothing that the user has anywhere is a negative. What is drawn twice is rare.
        assert [item for item in row if item in items] == [items[-1]]


def test_the_last_item_of_no_user_is_historical_and_its_own_past_lacks_it(source: Any) -> None:
    stream, _ = source
    history = stream.historical()
    parts = [
        history.items[a:b].tolist()
        for a, b in zip(history.offsets[:-1], history.offsets[1:], strict=True)
    ]
    assert parts == [items[:-1] for items in own_items(stream)]
    if history.exclude_seen and stream.num_items > 300:  # each user likes a film once
        batch = stream.segment(np.arange(stream.num_devices), 0)
        assert not (batch.history == true_items(stream)[0][:, None]).any()


def test_a_training_row_is_five_pairs_of_an_item_and_the_ten_before_it(source: Any) -> None:
    stream, config = source
    train, held_out = stream.historical().split_last()
    users = own_items(stream)
    expected = [(d, k) for d, items in enumerate(users) for k in range(1, len(items) - 2)]
    assert train.num_examples == len(expected) == sum(len(items) - 3 for items in users)
    count = config["cloud"]["num_negatives"]
    seen = []
    for batch in train.batches(1024, 0, 0, count):
        assert batch.candidates.shape[1] == 1 + 4
        for row, history, candidates in zip(
            batch.rows, batch.history, batch.candidates.tolist(), strict=True
        ):
            device, place = expected[row]
            assert history.tolist() == padded(users[device][:place])
            assert candidates[0] == users[device][place]
            assert not set(candidates[1:]) & set(users[device][:-2])
        seen += batch.rows.tolist()
        if len(seen) > 5000:
            break
    assert len(set(seen)) == len(seen)
    assert held_out.target.tolist() == [items[-2] for items in users]
    assert held_out.history().tolist() == [padded(items[:-2]) for items in users]


def test_a_lag_of_one_is_the_sequence_that_ends_one_event_earlier(source: Any) -> None:
    stream, _ = source
    train, held_out = stream.historical().split_last()
    rows = np.arange(min(train.num_examples, 3000))
    now, before = train.history(rows), train.lagged(rows, np.ones(len(rows), np.int64))
    for row in rows[1:]:
        if train.device[row] == train.device[row - 1]:
            assert before[row].tolist() == now[row - 1].tolist()
    users = own_items(stream)
    found = held_out.lagged(
        np.arange(held_out.num_examples), np.ones(held_out.num_examples, np.int64)
    )
    assert found.tolist() == [padded(items[:-3] or items[:1]) for items in users]
    everyone = np.arange(stream.num_devices)
    assert stream.recent(everyone, 0).tolist() == [padded(items[:-1]) for items in users]
    assert stream.recent(everyone, 0, lag=1).tolist() == [padded(items[:-2]) for items in users]


def test_the_metrics_of_the_protocol_are_those_of_scikit_learn(source: Any) -> None:
    stream, _ = source
    batch = stream.segment(np.arange(stream.num_devices), 0)
    _, positive = true_items(stream)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=batch.candidates.shape).astype(np.float32)
    logits[np.arange(len(positive)), positive] += 1
    truth = np.arange(100) == positive[:, None]
    found = RankingMetrics().score(logits, batch)
    sums, counts = found.value_sum.sum(axis=0), found.value_count.sum(axis=0)
    values = dict(
        zip(
            ("log_loss", "user_auc", "hr@5", "ndcg@5", "hr@10", "ndcg@10"),
            sums / counts,
            strict=False,
        )
    )
    part, whole = pooled_auc(found.positive, found.negative, batch.num_events, found.num_negative)

    assert part.sum() / whole.sum() == pytest.approx(roc_auc_score(truth.ravel(), logits.ravel()))
    by_user = [roc_auc_score(true, mine) for true, mine in zip(truth, logits, strict=True)]
    assert values["user_auc"] == pytest.approx(np.mean(by_user))
    for k in (5, 10):
        assert values[f"ndcg@{k}"] == pytest.approx(ndcg_score(truth, logits, k=k))
        hits = (np.argsort(-logits, axis=1)[:, :k] == positive[:, None]).any(axis=1)
        assert values[f"hr@{k}"] == pytest.approx(hits.mean())
    first = np.argsort(truth * -1.0 + np.arange(100) / 1000, axis=1)[
        :, :5
    ]  # the true one and the first four others
    chosen = np.take_along_axis(truth, first, 1), np.take_along_axis(logits, first, 1).astype(float)
    assert values["log_loss"] == pytest.approx(
        log_loss(chosen[0].ravel(), 1 / (1 + np.exp(-chosen[1].ravel())))
    )


def test_the_experiment_runs_with_fine_tuning_of_every_layer_as_an_arm(tmp_path: Path) -> None:
    overrides = [
        EXPERIMENT,
        "strategies=[static,fine_tuning,fine_tuning_all]",
        f"out={tmp_path}/run",
    ]
    table = table_of(runs.run(config_of(*overrides, small=SMALL), console=quiet()))

    assert table["strategy"].unique().tolist() == [
        "static",
        "fine_tuning",
        "fine_tuning_all",
        "popularity",
        "markov",
    ]
    events = table.groupby(["strategy", "metric"], observed=True)["value_count"].sum()
    assert (events == 8).all()
    loss = table[table["metric"] == "log_loss"].set_index("strategy")["value_sum"]
    assert not np.allclose(loss["fine_tuning_all"], loss["static"])
    assert not np.allclose(loss["fine_tuning_all"], loss["fine_tuning"])
    once = table.drop_duplicates(["strategy", "device_id"])
    labels = once.groupby("strategy", observed=True)["num_labels"].sum()
    stream = Recommendation.build(config_of(*overrides, small=SMALL)).stream
    history = stream.historical()
    assert (
        labels["fine_tuning_all"] == history.num_examples
    )  # everything that its users have before the last item


@pytest.mark.parametrize("model", ["din", "gru4rec", "sasrec"])
@pytest.mark.parametrize(
    "data", ["ml_1m", "ml_100k", "amazon_grocery", "amazon_beauty", "interactions"]
)
def test_the_experiment_composes_with_every_file_and_model(data: str, model: str) -> None:
    config = config_of(
        EXPERIMENT, f"data={data}", f"model={model}", "data.path=x", "num_negatives=50", small=()
    )
    assert config["data"]["cut"] == "last" and config["data"]["name"] == data
    assert (config["num_segments"], config["num_negatives"], config["model"]["name"]) == (
        1,
        50,
        model,
    )
    assert config["model"]["history_length"] == 10
    assert config["cloud"]["validation"] == "last" and config["network"]["name"] == "unlimited"


def test_the_cloud_validates_on_the_second_to_last_item_of_each_user_and_knows_no_last_one() -> (
    None
):
    setup = prepare(config_of(EXPERIMENT, *SMALL, "cloud.epochs=0", small=()))
    config = config_of(EXPERIMENT, *SMALL, "cloud.epochs=0", small=())
    cloud = train_cloud(config, setup.stream, setup.model, no_progress)
    users = own_items(setup.stream)
    assert cloud.validation.target.tolist() == [items[-2] for items in users]  # type: ignore[attr-defined]
    offsets = cloud.train.offsets  # type: ignore[attr-defined]
    kept = [cloud.train.items[a:b].tolist() for a, b in pairwise(offsets)]  # type: ignore[attr-defined]
    assert kept == [items[:-2] for items in users]
