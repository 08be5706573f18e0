"""Ranks answers to questions about clips, and clips for captions, on the device.

``u = GELU(LN(W h)) ∈ R⁹⁶`` is static and ``u K + b`` is adaptive: 97 A numbers, 388,388 bytes for A
= 1001. A query is a number of :class:`~cdc_flower.models.video.clips.Clips`; what the static layers
make of it is kept as long as they stay the same.
"""

import hashlib
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.models.base import DeviceModel, init_layers
from cdc_flower.models.layers import Parameters, layer_norm, linear
from cdc_flower.models.losses import softmax_cross_entropy
from cdc_flower.models.video.blocks import blocks_of
from cdc_flower.models.video.clips import Clips
from cdc_flower.models.video.encoder import EncoderShape, encode, frame_features, gelu, init_encoder
from cdc_flower.wire import records

#: Clips that are encoded at a time.
CLIPS_PER_CHUNK = 128
#: Static models whose encodings are kept.
KEPT_MODELS = 2


class VideoModel(DeviceModel):
    """Shares among both tasks the encoder, the static projection, and the kept encodings."""

    states_are_of_items = False  # a query is one item, and its clip has a state for each frame

    def __init__(self, clips: Clips, num_outputs: int, projection: int = 96, **sizes: int) -> None:
        if projection < 1:
            raise ValueError(f"projection must be >= 1, got {projection}")
        self.clips = clips
        self.projection = projection
        self.encoder = EncoderShape(
            frame_shape=clips.frame_shape,
            num_frames=clips.num_frames,
            num_words=clips.num_words,
            num_tokens=clips.num_tokens,
            **sizes,
        )
        super().__init__(clips.num_queries, self.encoder.width, clips.num_frames)
        self.head_sizes = ((projection, num_outputs),)
        self._kept: OrderedDict[str, dict[str, Tensor]] = OrderedDict()

    def __getstate__(self) -> dict[str, object]:
        """Leaves out what is kept, as that can be made again."""
        return {**self.__dict__, "_kept": OrderedDict()}

    def forget(self) -> None:
        """Lets go of what is kept, as where other clips have taken the place of these."""
        self._kept = OrderedDict()

    def init_static(self, generator: torch.Generator) -> Parameters:
        parameters = init_encoder(self.encoder, generator)
        parameters |= init_layers(generator, {"project": (self.encoder.width, self.projection)})
        parameters["project.norm.weight"] = torch.ones(self.projection)
        parameters["project.norm.bias"] = torch.zeros(self.projection)
        return parameters

    def loss(self, logits: Tensor) -> Tensor:
        return softmax_cross_entropy(logits)

    def pays_to_tabulate(self, num_lookups: int) -> bool:
        return True

    def tabulate(self, parameters: Parameters) -> Parameters:
        static = {name: value for name, value in parameters.items() if name not in self.adaptive}
        if torch.is_grad_enabled() and any(value.requires_grad for value in static.values()):
            return parameters
        # By value: each deployment brings the same numbers in arrays of its own.
        digest = hashlib.sha256()
        for name, value in static.items():
            digest.update(name.encode() + value.detach().numpy().tobytes())
        kept = self._kept.setdefault(digest.hexdigest(), {})
        self._kept.move_to_end(digest.hexdigest())
        while len(self._kept) > KEPT_MODELS:
            self._kept.popitem(last=False)
        if not kept:
            # Tables outlive this call, and training may read them: they are no inference tensors.
            with torch.inference_mode(False):
                frames = {"frames": (self.clips.num_clips, self.history_length * self.width)}
                for name, (rows, width) in {**frames, **self._tables()}.items():
                    kept[f"table.{name}"] = torch.zeros(rows, width)
                    kept[f"table.{name}.known"] = torch.zeros(rows, dtype=torch.bool)
        return {**parameters, **kept}

    def tabulate_sequences(self, parameters: Parameters) -> Parameters:
        return self.tabulate(parameters)

    def sequence_flops(self) -> float:
        return self.history_length * self.frame_flops()

    def sequence(self, parameters: Parameters, history: Tensor) -> tuple[Tensor, Tensor]:
        """Turns queries ``[B, 1]`` into the features ``[B, n, d]`` of their clips' frames.

        All of them count.
        """
        states = self.item_states(parameters, history)
        return states, torch.full((len(states),), states.shape[1])

    def reported(
        self, parameters: Parameters, report: Mapping[str, NDArray]
    ) -> tuple[Tensor, Tensor]:
        """Does as :meth:`sequence`, from reported frames ``[n, m, *frame_shape]``."""
        frames = torch.from_numpy(np.array(report[records.FRAMES])).split(CLIPS_PER_CHUNK)
        states = torch.cat([self.frame_features(parameters, part) for part in frames])
        return states, torch.full((len(states),), states.shape[1])

    @abstractmethod
    def _tables(self) -> dict[str, tuple[int, int]]:
        """Lists rows and width of what is kept, by name."""

    def _looked_up(
        self, parameters: Parameters, name: str, ids: Tensor, make: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Turns ids ``[...]`` into ``[..., width]``, made in chunks of distinct ids.

        If there is a table they are made in blocks, and kept.
        """
        table = parameters.get(f"table.{name}")
        known = parameters.get(f"table.{name}.known")
        if table is None or known is None:
            distinct, back = torch.unique(ids, return_inverse=True)
            return torch.cat([make(some) for some in distinct.split(CLIPS_PER_CHUNK)])[back]
        for block in blocks_of(ids[~known[ids]], len(table)):
            table[block] = make(block)
            known[block] = True
        return table[ids]

    def frames(self, clip_ids: Tensor) -> Tensor:
        """Gives the frames ``[..., n, *frame_shape]`` of clips ``[...]``."""
        flat = self.clips.frames(clip_ids.numpy().reshape(-1))
        return torch.from_numpy(flat).reshape(*clip_ids.shape, *flat.shape[1:])

    def words(self, query_ids: Tensor) -> Tensor:
        """Gives the words ``[..., W]`` of queries ``[...]``."""
        flat = self.clips.tokens(query_ids.numpy().reshape(-1))
        return torch.from_numpy(flat).long().reshape(*query_ids.shape, flat.shape[1])

    def project(self, parameters: Parameters, h: Tensor) -> Tensor:
        """Computes the static projection u = GELU(LN(W h)), ``[..., d] -> [..., U]``."""
        u = linear(h, parameters["project.weight"], parameters["project.bias"])
        return gelu(
            layer_norm(u, parameters["project.norm.weight"], parameters["project.norm.bias"])
        )

    def frame_features(self, parameters: Parameters, frames: Tensor) -> Tensor:
        """Encodes each frame by itself with the static layers, as ``[..., n, d]``."""
        return frame_features(self.encoder, parameters, frames)

    def frame_flops(self) -> float:
        """Counts the floating-point operations of :meth:`frame_features` for one frame."""
        shape = self.encoder
        return 2.0 * shape.num_patches * shape.stem * (shape.patch_size + shape.width)

    def item_states(self, parameters: Parameters, history: Tensor) -> Tensor:
        """Turns queries ``[..., 1]`` into the features ``[..., n, d]`` of their clips' frames."""
        clip_ids = torch.from_numpy(self.clips.clip_of(history[..., 0].numpy().reshape(-1)))

        def make(some: Tensor) -> Tensor:
            return self.frame_features(parameters, self.frames(some)).flatten(1)

        states = self._looked_up(parameters, "frames", clip_ids, make)
        return states.reshape(*history.shape[:-1], self.history_length, self.width)


class VideoQA(VideoModel):
    """Ranks ``A`` answers to a question about a clip: logits = u K + b, K ∈ R^{96×A}.

    Args:
        clips: As in :class:`VideoModel`.
        num_answers: ``A``.
        projection: As in :class:`VideoModel`.
        sizes: As in :class:`VideoModel`.
    """

    def __init__(self, clips: Clips, num_answers: int, projection: int = 96, **sizes: int) -> None:
        if num_answers < 2:
            raise ValueError(f"num_answers must be >= 2, got {num_answers}")
        super().__init__(clips, num_answers, projection, **sizes)

    def _tables(self) -> dict[str, tuple[int, int]]:
        return {"queries": (self.clips.num_queries, self.projection)}

    def encode(
        self, parameters: Parameters, history: Tensor, candidates: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Encodes clips with their questions; candidates are the answers.

        Args:
            parameters: Shared or stacked.
            history: ``[..., 1]`` ids of queries.
            candidates: ``[..., C]`` ids of answers.
        """

        def make(query_ids: Tensor) -> Tensor:
            return self._read(parameters, query_ids)

        if parameters["project.weight"].dim() == 2:
            return self._looked_up(parameters, "queries", history, make), candidates
        return self._read(parameters, history[..., 0]).unsqueeze(-2), candidates

    def _read(self, parameters: Parameters, query_ids: Tensor) -> Tensor:
        clip_ids = torch.from_numpy(self.clips.clip_of(query_ids.numpy().reshape(-1))).reshape(
            query_ids.shape
        )
        h = encode(self.encoder, parameters, self.frames(clip_ids), self.words(query_ids))
        return self.project(parameters, h)

    def to_upload(
        self, history: NDArray[np.int32], candidates: NDArray[np.int32]
    ) -> dict[str, NDArray]:
        """Makes the clip's frames, the words of the question and the true answer."""
        queries = history[:, 0].astype(np.int64)
        return {
            records.FRAMES: self.clips.frames(self.clips.clip_of(queries)),
            records.WORDS: self.clips.tokens(queries),
            records.CANDIDATES: candidates[:, 0],
        }

    def uploaded(
        self, parameters: Parameters, upload: Mapping[str, NDArray]
    ) -> tuple[Tensor, Tensor | None]:
        frames, words = (torch.from_numpy(upload[name]) for name in (records.FRAMES, records.WORDS))
        lead = frames.shape[:2]
        answers = torch.arange(self.head_sizes[0][1])
        pairs = zip(
            frames.flatten(0, 1).split(CLIPS_PER_CHUNK),
            words.flatten(0, 1).split(CLIPS_PER_CHUNK),
            strict=True,
        )
        h = torch.cat([encode(self.encoder, parameters, some, said.long()) for some, said in pairs])
        true = torch.from_numpy(upload[records.CANDIDATES].astype(np.int64)).unsqueeze(-1)
        others = answers[:-1] + (answers[:-1] >= true)  # in their order, stepping over the true one
        return self.project(parameters, h).reshape(*lead, 1, -1), torch.cat([true, others], -1)

    def match(self, y: Tensor, targets: Tensor | None) -> Tensor:
        """Picks the logits of the candidate answers, in their order."""
        assert targets is not None
        return y.squeeze(-2).gather(-1, targets.long())

    def flops(self, num_candidates: int) -> float:
        return (
            self.encoder.flops()
            + 2.0 * self.width * self.projection
            + self.head_flops(num_candidates)
        )

    def head_flops(self, num_candidates: int) -> float:
        return 2.0 * self.head_sizes[0][0] * self.head_sizes[0][1]


class VideoRetrieval(VideoModel):
    """Ranks clips for a caption by the cosine of two projections.

    They are the clip's adaptive projection u K + b and the static one of the words.

    Args:
        clips: As in :class:`VideoModel`.
        match_width: Of the space in which clips and words meet.
        projection: As in :class:`VideoModel`.
        scale: Of the logits; 1 / temperature.
        sizes: As in :class:`VideoModel`.
    """

    head_sees_candidates = True

    def __init__(
        self,
        clips: Clips,
        match_width: int = 32,
        projection: int = 96,
        scale: float = 10.0,
        **sizes: int,
    ) -> None:
        self.scale = scale
        super().__init__(clips, match_width, projection, **sizes)

    def init_static(self, generator: torch.Generator) -> Parameters:
        words = init_layers(generator, {"caption": (self.encoder.width, self.head_sizes[0][1])})
        return super().init_static(generator) | words

    def _tables(self) -> dict[str, tuple[int, int]]:
        return {
            "clips": (self.clips.num_clips, self.projection),
            "words": (self.clips.num_queries, self.head_sizes[0][1]),
        }

    def encode(
        self, parameters: Parameters, history: Tensor, candidates: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Encodes captions, and the clips that they may describe.

        Args:
            parameters: Shared or stacked.
            history: ``[..., 1]`` ids of queries.
            candidates: ``[..., C]`` ids of clips.
        """

        def see(clip_ids: Tensor) -> Tensor:
            return self.project(
                parameters, encode(self.encoder, parameters, self.frames(clip_ids), None)
            )

        def read(query_ids: Tensor) -> Tensor:
            h = encode(self.encoder, parameters, None, self.words(query_ids))
            return linear(h, parameters["caption.weight"], parameters["caption.bias"])

        if parameters["project.weight"].dim() == 2:
            clips = self._looked_up(parameters, "clips", candidates, see)
            return clips, self._looked_up(parameters, "words", history, read)
        distinct, place = distinct_in_rows(candidates.flatten(1))
        each = torch.arange(len(place)).unsqueeze(-1)
        return see(distinct)[each, place].reshape(*candidates.shape, -1), read(history)

    def to_upload(
        self, history: NDArray[np.int32], candidates: NDArray[np.int32]
    ) -> dict[str, NDArray]:
        """Makes the clip's frames and the words of its caption.

        The other clips are those of the same upload.
        """
        words = self.clips.tokens(history[:, 0].astype(np.int64))
        return {
            records.FRAMES: self.clips.frames(candidates[:, 0].astype(np.int64)),
            records.WORDS: words,
        }

    def uploaded(
        self, parameters: Parameters, upload: Mapping[str, NDArray]
    ) -> tuple[Tensor, Tensor | None]:
        frames, words = (torch.from_numpy(upload[name]) for name in (records.FRAMES, records.WORDS))
        num_examples = frames.shape[1]
        seen = torch.cat(
            [
                encode(self.encoder, parameters, some, None)
                for some in frames.flatten(0, 1).split(CLIPS_PER_CHUNK)
            ]
        )
        u = self.project(parameters, seen).reshape(len(frames), num_examples, -1)
        # Candidates of example i are the clips i, i + 1, ... of its upload: the true one is first.
        turn = (torch.arange(num_examples)[:, None] + torch.arange(num_examples)) % max(
            1, num_examples
        )
        said = linear(
            encode(self.encoder, parameters, None, words.long()),
            parameters["caption.weight"],
            parameters["caption.bias"],
        )
        return u[:, turn], said.unsqueeze(-2)

    def match(self, y: Tensor, targets: Tensor | None) -> Tensor:
        """Computes logits ``[..., C]`` of ``[..., C, D]`` and ``[..., 1, D]``."""
        assert targets is not None
        seen, said = (torch.nn.functional.normalize(value, dim=-1) for value in (y, targets))
        return self.scale * (seen * said).sum(-1)

    def flops(self, num_candidates: int) -> float:
        d = self.width
        clips = self.encoder.flops() + 2.0 * self.width * self.projection
        return (
            num_candidates * clips
            + 2.0 * self.encoder.num_tokens * 8 * d * d
            + self.head_flops(num_candidates)
        )

    def head_flops(self, num_candidates: int) -> float:
        return 2.0 * num_candidates * (self.head_sizes[0][0] + 1) * self.head_sizes[0][1]


def distinct_in_rows(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Finds the distinct ids of each row, and where in them each id is.

    Rows that hold fewer than others repeat their last one.

    Args:
        ids: ``[m, k]``.

    Returns:
        Distinct ids ``[m, K]``, ascending, and places ``[m, k]``.
    """
    ordered = ids.sort(-1).values
    number = torch.nn.functional.pad((ordered.diff(dim=-1) != 0).long().cumsum(-1), (1, 0))
    width = int(number.max()) + 1 if number.numel() else 0
    distinct = ordered[:, -1:].repeat(1, width).scatter(-1, number, ordered)
    return distinct, torch.searchsorted(distinct, ids.contiguous())
