import pickle
from typing import Any

import numpy as np
import pytest
import torch
from video_tiny import SIZES, video_model, video_stream

from cdc_flower.core.seeds import torch_generator
from cdc_flower.models.layers import Parameters
from cdc_flower.models.video.blocks import IDS_PER_BLOCK, blocks_of
from cdc_flower.models.video.encoder import EncoderShape, encode, init_encoder
from cdc_flower.models.video.ranking import VideoQA, distinct_in_rows
from cdc_flower.training.scoring import Scorer

every_task = pytest.mark.parametrize("captions", [False, True], ids=["answers", "search"])


def stacked(parameters: Parameters, count: int) -> Parameters:
    random = torch.Generator().manual_seed(1)
    return {
        name: value + 0.1 * torch.randn(count, *value.shape, generator=random)
        for name, value in parameters.items()
    }


def events(captions: bool, segment: int = 0) -> tuple[Any, torch.Tensor, torch.Tensor]:
    stream = video_stream(captions)
    data = stream.segment(np.arange(3), segment)
    shape = (3, 4)
    ids = (
        torch.from_numpy(part).long().reshape(*shape, -1)
        for part in (data.history, data.candidates)
    )
    return (video_model(stream), *ids)


@every_task
def test_stacked_parameters_score_as_each_model_by_itself(captions: bool) -> None:
    model, history, candidates = events(captions)
    own = stacked(model.init(torch_generator(0, "m")), 3)
    together = model.score(own, history, candidates)
    for device in range(3):
        alone = {name: value[device] for name, value in own.items()}
        single = model.score(alone, history[device], candidates[device])
        torch.testing.assert_close(together[device], single, rtol=1e-4, atol=1e-5)


@every_task
def test_what_is_kept_changes_nothing(captions: bool) -> None:
    model, history, candidates = events(captions)
    parameters = model.init(torch_generator(0, "m"))
    plain = model.score(parameters, history[0], candidates[0])
    for _ in range(2):
        kept = model.score(model.tabulate(parameters), history[0], candidates[0])
        torch.testing.assert_close(kept, plain, rtol=1e-5, atol=1e-5)
    other = {name: value * 1.1 for name, value in parameters.items()}
    expected = model.score(other, history[0], candidates[0])
    torch.testing.assert_close(
        model.score(model.tabulate(other), history[0], candidates[0]), expected
    )
    assert not pickle.loads(pickle.dumps(model))._kept


@every_task
def test_what_was_asked_before_or_beside_it_changes_no_bit_of_what_is_kept(captions: bool) -> None:
    """Products of other rows are rounded otherwise, and other strategies ask for other clips."""
    _, history, candidates = events(captions)
    parameters = video_model(video_stream(captions)).init(torch_generator(0, "m"))
    asked = [torch.arange(1), torch.arange(4), torch.tensor([3, 0]), torch.arange(4).flip(0)]

    def scored(order: list[torch.Tensor]) -> torch.Tensor:
        model = video_model(video_stream(captions))
        for device in (2, 0):
            for some in order:
                model.score(
                    model.tabulate(parameters), history[device, some], candidates[device, some]
                )
        return model.score(model.tabulate(parameters), history[0], candidates[0])

    first = scored(asked[:1])
    assert [bool((scored(asked[k:]) == first).all()) for k in range(1, 4)] == [True] * 3


def test_blocks_hold_all_that_is_wanted_whole_and_end_with_the_last_id() -> None:
    wanted = torch.tensor([[70, 1], [69, 2]])
    blocks = list(blocks_of(wanted, 71))
    assert [(int(each[0]), len(each)) for each in blocks] == [
        (0, IDS_PER_BLOCK),
        (2 * IDS_PER_BLOCK, 71 - 2 * IDS_PER_BLOCK),
    ]
    assert list(blocks_of(wanted[:0], 71)) == []


def test_parameters_that_are_trained_are_not_kept() -> None:
    model, history, candidates = events(False)
    parameters = {
        name: value.requires_grad_() for name, value in model.init(torch_generator(0, "m")).items()
    }
    assert model.tabulate(parameters) is parameters
    model.loss(model.score(parameters, history[0], candidates[0])).mean().backward()
    assert all(value.grad is not None for value in parameters.values())


def test_logits_of_answers_are_in_the_order_of_the_candidates() -> None:
    model, history, candidates = events(False)
    parameters = model.init(torch_generator(0, "m"))
    logits = model.score(parameters, history, candidates)
    turned = model.score(parameters, history, candidates.flip(-1))
    torch.testing.assert_close(turned, logits.flip(-1))


def test_padding_words_change_nothing() -> None:
    shape = EncoderShape((32, 32, 3), 3, 10, 6, width=8, heads=2, depth=2, stem=8)
    parameters = init_encoder(shape, torch_generator(0, "e"))
    frames = torch.randint(0, 255, (2, 3, 32, 32, 3), dtype=torch.uint8)
    words = torch.tensor([[3, 4, 0, 0, 0, 0], [5, 0, 0, 0, 0, 0]])
    before = encode(shape, parameters, frames, words)
    parameters["word"][0] = 7.0
    torch.testing.assert_close(encode(shape, parameters, frames, words), before)
    alone = encode(shape, parameters, frames[1:], words[1:])
    torch.testing.assert_close(alone, before[1:])


def test_the_last_block_for_the_pooled_token_alone_is_exact() -> None:
    shape = EncoderShape((32, 32, 3), 2, 10, 4, width=8, heads=2, depth=1, stem=8)
    parameters = init_encoder(shape, torch_generator(0, "e"))
    deep = EncoderShape((32, 32, 3), 2, 10, 4, width=8, heads=2, depth=2, stem=8)
    twice = {**init_encoder(deep, torch_generator(1, "e")), **parameters}
    for name in ("query", "keyvalue", "out", "wide", "narrow"):  # a second block that does nothing
        for kind in ("weight", "bias"):
            twice[f"block.1.{name}.{kind}"] = torch.zeros_like(twice[f"block.1.{name}.{kind}"])
    frames = torch.randint(0, 255, (2, 2, 32, 32, 3), dtype=torch.uint8)
    words = torch.tensor([[3, 4, 1, 0], [5, 1, 2, 2]])
    torch.testing.assert_close(
        encode(shape, parameters, frames, words), encode(deep, twice, frames, words)
    )


def test_a_feature_of_a_frame_is_of_that_frame_alone() -> None:
    stream = video_stream()
    model = video_model(stream)
    parameters = model.init(torch_generator(0, "m"))
    frames = torch.from_numpy(stream.table.clips.frames(np.arange(5)))
    features = model.frame_features(parameters, frames)
    assert features.shape == (5, 3, SIZES["width"])
    torch.testing.assert_close(
        model.frame_features(parameters, frames[2:3, 1:2])[0, 0], features[2, 1]
    )


def test_the_paper_s_shape_can_be_built() -> None:
    class Large:
        num_clips, num_queries, num_frames, frame_shape, num_words, num_tokens = (
            1,
            1,
            3,
            (224, 224, 3),
            30522,
            40,
        )

        def frames(self, ids: np.ndarray) -> np.ndarray:
            return np.zeros((len(ids), 3, 224, 224, 3), np.uint8)

        def clip_of(self, ids: np.ndarray) -> np.ndarray:
            return ids

        def tokens(self, ids: np.ndarray) -> np.ndarray:
            return np.ones((len(ids), 40), np.int32)

    model = VideoQA(Large(), 1001, 96, width=192, depth=2, heads=3, patch=16, stem=192)
    parameters = model.init(torch_generator(0, "m"))
    logits = model.score(parameters, torch.zeros(1, 1, dtype=torch.long), torch.arange(1001)[None])
    assert logits.shape == (1, 1001) and model.num_adaptive == 97_097


@pytest.mark.parametrize(
    ("sizes", "rule"),
    [
        ({"heads": 5}, "heads must divide the width 16, got 5"),
        ({"patch": 7}, r"patch must divide height and width \(32, 32\), got 7"),
        ({"depth": 0}, "depth must be >= 1, got 0"),
    ],
)
def test_a_wrong_size_is_refused(sizes: dict, rule: str) -> None:
    clips = video_stream().table.clips
    with pytest.raises(ValueError, match=rule):
        VideoQA(clips, 16, 24, **{**SIZES, **sizes})


def test_scoring_a_pool_is_scoring_each_set() -> None:
    stream = video_stream()
    model, data = video_model(stream), video_stream().segment(np.arange(4), 0)
    static = {name: value.numpy() for name, value in model.init(torch_generator(0, "m")).items()}
    rng = np.random.default_rng(0)
    pool = {
        name: rng.normal(size=(6, *shape)).astype(np.float32)
        for name, shape in model.adaptive.items()
    }
    sets = data.row + 1
    scores = Scorer(model, static, [pool]).score(sets, data.history, data.candidates)
    for event in range(len(sets)):
        own = {name: torch.from_numpy(value[sets[event]]) for name, value in pool.items()}
        parameters = {**{name: torch.from_numpy(value) for name, value in static.items()}, **own}
        ids = (
            torch.from_numpy(part[event : event + 1]).long()
            for part in (data.history, data.candidates)
        )
        np.testing.assert_allclose(
            scores[event], model.score(parameters, *ids)[0].numpy(), rtol=1e-4, atol=1e-5
        )


def test_each_clip_of_a_row_is_listed_once_and_found_again() -> None:
    ids = torch.tensor([[3, 1, 3, 2], [7, 7, 7, 7]])
    distinct, place = distinct_in_rows(ids)
    assert distinct.tolist() == [[1, 2, 3], [7, 7, 7]]
    assert torch.equal(distinct.gather(1, place), ids)


def test_a_device_reads_a_clip_once_however_many_captions_it_is_compared_with() -> None:
    model, history, candidates = events(True)
    own = stacked(model.init(torch_generator(0, "m")), 3)
    read = []

    def frames(ids: torch.Tensor) -> torch.Tensor:
        read.append(ids.shape)
        return type(model).frames(model, ids)

    model.frames = frames  # type: ignore[method-assign]
    model.score(own, history, candidates)
    assert read == [(3, len(set(candidates[0].flatten().tolist())))]
