"""Reports longer than the window of the device's model, every few items, and read in pairs."""

from typing import Any

import numpy as np
import pytest
from run_cases import config_of
from tiny import NUM_DEVICES, Around, cloud, inline, newly_trained, same, strategy, stream, table

from cdc_flower.core.errors import UserError
from cdc_flower.strategies.generation import GenerationStrategy
from cdc_flower.strategies.registry import build_strategy, strategies
from cdc_flower.study.plays import check_logs
from cdc_flower.study.setup import prepare
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

pytestmark = pytest.mark.slow  # plays whole runs

GENERATING = [
    entry.name
    for entry in strategies.entries()
    if issubclass(entry.value, GenerationStrategy) and "history" in entry.value.reads
]
every_generating_strategy = pytest.mark.parametrize("name", GENERATING)
EVERYONE = np.arange(NUM_DEVICES)


def reports_of(built: Any, **how: Any) -> tuple[Any, list[np.ndarray]]:
    """The table of a strategy, and what devices told in each segment."""
    around = Around(inline())
    rows = table("", grid=around, built=built, **how)
    told = [
        np.array(batch.array(records.REPORT, records.HISTORY))
        for batch in around.replies
        if getattr(batch, "message_type", "") == records.TRAIN_REPORT
    ]
    return rows, told


def bytes_up(rows: Any) -> np.ndarray:
    """Bytes of numbers that each device told in each segment, without any framing."""
    return rows.drop_duplicates(["segment", "device_id"]).payload_bytes_up.to_numpy()


def test_the_four_that_generate_from_items_are_here() -> None:
    assert GENERATING == ["apg", "duet", "group_fine_tuning", "persona"]


@every_generating_strategy
def test_a_report_of_twenty_items_is_eighty_bytes_and_one_of_ten_is_forty(name: str) -> None:
    for told, settings in (
        (40, {}),
        (80, {"report_length": 20}),
        (80, {"report_length": 20, "report_stride": 3, "report_reads": "pairs"}),
        (4, {"report_length": 1}),
    ):
        rows = table("", built=strategy(name, **settings))
        np.testing.assert_array_equal(bytes_up(rows), told)
        on_the_link = rows.drop_duplicates(["segment", "device_id"]).bytes_up
        assert on_the_link.nunique() == 1 and on_the_link.iloc[0] > told


@every_generating_strategy
def test_devices_tell_their_log_as_far_back_as_they_are_asked(name: str) -> None:
    built = strategy(name, report_length=20, report_stride=2, report_lag=1)
    _, told = reports_of(built)
    assert len(told) == stream().num_segments
    for segment, items in enumerate(told):
        assert items.dtype == np.int32
        expected = stream().recent(EVERYONE, segment, 1, 20, 2)
        np.testing.assert_array_equal(items, expected)
        assert (expected[:, 10] != 0).any()  # beyond the window of the device's model


@every_generating_strategy
def test_a_report_of_what_the_model_reads_changes_nothing(name: str) -> None:
    length = stream().history_length
    same(
        table("", built=newly_trained(name, report_length=length, report_stride=1)),
        table("", built=newly_trained(name)),
    )


@every_generating_strategy
@pytest.mark.parametrize("reads", ["items", "pairs"])
def test_training_reads_what_devices_will_tell(name: str, reads: str) -> None:
    built = strategy(name, report_length=20, report_stride=2, report_reads=reads, max_lag=3)
    history = cloud().train
    batch = next(iter(history.batches(32, 0, 0, 4)))
    (examples,) = built.past(cloud()).examples(history, [batch], np.random.default_rng(0))
    assert examples.history.shape == (32, 10)
    np.testing.assert_array_equal(examples.history, batch.history)
    past = [history.lagged(batch.rows, np.full(32, lag), 20, 2) for lag in range(4)]
    found = np.array([(examples.reported.numpy() == each).all(1) for each in past])
    assert found.any(0).all() and found.any(1).all()


@every_generating_strategy
@pytest.mark.parametrize("reads", ["items", "pairs"])
def test_many_devices_are_answered_as_each_of_them_alone(name: str, reads: str) -> None:
    built = strategy(name, report_length=20, report_reads=reads)
    built.deployment()
    items = stream().recent(EVERYONE, 3, 0, 20)

    def answered(rows: list[int]) -> dict[int, dict[str, np.ndarray]]:
        reports = MessageBatch(
            records.TRAIN_REPORT,
            np.array(rows, np.uint64),
            arrays={records.REPORT: {records.HISTORY: items[rows]}},
        )
        found: dict[int, dict[str, np.ndarray]] = {}
        for batch in built.answer(reports):
            record = next(iter({**batch.arrays, **batch.shared}))
            for row, node in enumerate(batch.node_ids):
                own = {key: np.array(v[row]) for key, v in batch.arrays.get(record, {}).items()}
                shared = {key: np.array(v) for key, v in batch.shared.get(record, {}).items()}
                found[int(node)] = {**shared, **own}
        return found

    together = answered(EVERYONE.tolist())
    for row in range(NUM_DEVICES):
        for key, value in answered([row])[row].items():
            np.testing.assert_allclose(value, together[row][key], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["apg", "duet"])
def test_an_item_beyond_the_window_changes_the_layers(name: str) -> None:
    built = strategy(name, report_length=20, released_code=True, epochs=0)  # decoders are random
    items = stream().recent(EVERYONE, 3, 0, 20)
    assert (items != 0).all()
    before = built.generate(items)
    items[:, :10] = items[:, :10] % 60 + 1
    after = built.generate(items)
    assert any((before[key] != after[key]).any() for key in before)


@pytest.mark.parametrize("reads", ["items", "pairs"])
def test_a_feature_of_a_long_report_gives_the_layers_of_the_report_itself(reads: str) -> None:
    settings: dict[str, Any] = {"report_length": 20, "report_stride": 2, "report_reads": reads}
    told = table("", built=strategy("persona", **settings))
    featured = table("", built=strategy("persona", report="feature", **settings))
    np.testing.assert_allclose(told.value_sum, featured.value_sum, rtol=1e-4, atol=1e-5)
    assert (bytes_up(told) - bytes_up(featured) == 4 * (20 - 8)).all()  # a feature of width 8


@every_generating_strategy
def test_a_longer_report_and_pairs_cost_work_in_the_cloud_alone(name: str) -> None:
    flops = {
        key: table("", built=strategy(name, **settings)).drop_duplicates("segment")
        for key, settings in (
            ("short", {}),
            ("long", {"report_length": 20}),
            ("pairs", {"report_reads": "pairs"}),
        )
    }
    width, state = 8, 8
    a_step = 2 * 3 * (state + width) * width  # of a GRU, a multiply-add as two
    cloud_flops = {key: rows.flops_cloud.to_numpy() for key, rows in flops.items()}
    np.testing.assert_allclose(cloud_flops["long"] - cloud_flops["short"], 10 * a_step)
    more = 10 * 2 * 3 * state * width
    np.testing.assert_allclose(cloud_flops["pairs"] - cloud_flops["short"], more)
    np.testing.assert_array_equal(flops["long"].flops_device, flops["short"].flops_device)


@pytest.mark.parametrize(
    ("key", "value", "neutral"),
    [("report_length", 4, "null"), ("report_stride", 2, "1"), ("report_reads", "pairs", "items")],
)
def test_where_devices_tell_no_items_another_report_is_refused_before_data_are_read(
    monkeypatch: pytest.MonkeyPatch, key: str, value: object, neutral: str
) -> None:
    monkeypatch.setattr("cdc_flower.tasks.video.task.VideoTask.build", None)
    config = config_of(
        "task=video_qa", "strategies=[static,duet]", f"strategy.duet.{key}={value}", small=()
    )
    rule = (
        f"^strategy.duet.{key} must be {neutral} with task=video_qa, whose devices tell frames "
        f"and no items, got {value}$"
    )
    with pytest.raises(UserError, match=rule):
        prepare(config)


def test_a_stream_without_a_longer_log_is_refused_where_one_is_asked_for() -> None:
    class Short:
        """A stream of a user's own."""

        history_length = 10

        def recent(self, device_ids: np.ndarray, segment: int, lag: int = 0) -> np.ndarray:
            return stream().recent(device_ids, segment, lag)

    short: Any = Short()
    check_logs({"duet": build_strategy("duet", {"report_length": 10})}, short)
    check_logs({"static": build_strategy("static", {})}, short)
    check_logs({"duet": build_strategy("duet", {"report_length": 20})}, stream())
    for settings in ({"report_length": 11}, {"report_stride": 2}):
        rule = (
            "^strategy.duet.report_length must be null and report_stride 1, for recent.. of Short"
        )
        with pytest.raises(UserError, match=rule):
            check_logs({"duet": build_strategy("duet", settings)}, short)
