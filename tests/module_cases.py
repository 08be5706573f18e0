"""Small plain modules, for the tests of modules as device models."""

import torch
from torch import Tensor, nn


class Pool(nn.Module):
    """Nothing but rows and one adaptive layer: logits by hand."""

    adaptive = ("head",)

    def __init__(self, num_items: int, width: int = 4) -> None:
        super().__init__()
        self.items = nn.Embedding(num_items + 1, width, padding_idx=0)
        self.head = nn.Linear(width, width)

    def forward(self, history: Tensor, candidates: Tensor) -> Tensor:
        state = self.head(self.items(history).sum(1))
        return (self.items(candidates) @ state.unsqueeze(-1)).squeeze(-1)


class PlainGRU4Rec(nn.Module):
    """The network of the built-in GRU4Rec, as one writes it in PyTorch."""

    adaptive = ("head",)

    def __init__(self, num_items: int, width: int = 32) -> None:
        super().__init__()
        d = width
        self.embedding = nn.Embedding(num_items + 1, d)
        self.target = nn.Sequential(nn.Linear(d, d), nn.Tanh(), nn.Linear(d, d))
        self.sequence = nn.Linear(d, d)
        self.gru = nn.GRU(d, d, batch_first=True)
        self.head = nn.Sequential(nn.Linear(d, d), nn.Tanh(), nn.Linear(d, d))

    def forward(self, history: Tensor, candidates: Tensor) -> Tensor:
        states, _ = self.gru(torch.tanh(self.sequence(self.embedding(history))))
        last = ((history != 0).sum(-1) - 1).clamp(min=0)
        y = self.head(states[torch.arange(len(history)), last])
        return (self.target(self.embedding(candidates)) @ y.unsqueeze(-1)).squeeze(-1)


class Attending(nn.Module):
    """Attention, normalization, dropout, a buffer; an adaptive layer that sees each candidate."""

    adaptive = ("tower.0", "tower.2")

    def __init__(self, num_items: int, width: int = 8, dropout: float = 0.5) -> None:
        super().__init__()
        self.items = nn.Embedding(num_items + 1, width)
        self.attend = nn.MultiheadAttention(width, 2, dropout=dropout, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.tower = nn.Sequential(
            nn.Linear(2 * width, width), nn.ReLU(inplace=True), nn.Linear(width, 1)
        )
        self.register_buffer("scale", torch.full((), 0.5))

    def forward(self, history: Tensor, candidates: Tensor) -> Tensor:
        query = self.norm(self.items(candidates))
        keys = self.norm(self.items(history))
        seen, _ = self.attend(query, keys, keys, history == 0, need_weights=False)
        return self.tower(torch.cat([query, seen * self.scale], -1)).squeeze(-1)


class Outside(nn.Module):
    """An adaptive parameter that no submodule is called with."""

    adaptive = ("matrix",)

    def __init__(self, num_items: int, width: int = 4) -> None:
        super().__init__()
        self.items = nn.Embedding(num_items + 1, width)
        self.matrix = nn.Parameter(torch.randn(width, width))

    def forward(self, history: Tensor, candidates: Tensor) -> Tensor:
        state = self.items(history).mean(1) @ self.matrix
        return (self.items(candidates) * state.unsqueeze(1)).sum(-1)


class Tied(nn.Module):
    """Scores of all items by the embedding itself, in which devices differ."""

    adaptive = ("out",)

    def __init__(self, num_items: int, width: int = 4) -> None:
        super().__init__()
        self.items = nn.Embedding(num_items + 1, width)
        self.out = nn.Linear(width, num_items + 1, bias=False)
        self.out.weight = self.items.weight

    def forward(self, history: Tensor, candidates: Tensor) -> Tensor:
        return self.out(self.items(history).mean(1)).gather(1, candidates)


class Looking(nn.Module):
    """Looks at numbers of its adaptive layer, for which nothing but a loop is right."""

    adaptive = ("matrix",)

    def __init__(self, num_items: int, width: int = 4) -> None:
        super().__init__()
        self.items = nn.Embedding(num_items + 1, width)
        self.matrix = nn.Parameter(torch.randn(width, width))

    def forward(self, history: Tensor, candidates: Tensor) -> Tensor:
        scale = 2.0 if float(self.matrix.detach().sum()) > 0 else 1.0
        state = self.items(history).mean(1) @ self.matrix * scale
        return (self.items(candidates) @ state.unsqueeze(-1)).squeeze(-1)


class InPlace(nn.Module):
    """Changes in place what submodules gave it, rows of items too."""

    adaptive = ("head",)

    def __init__(self, num_items: int, width: int = 4) -> None:
        super().__init__()
        self.items = nn.Embedding(num_items + 1, width)
        self.map = nn.Linear(width, width)
        self.head = nn.Linear(width, width)

    def forward(self, history: Tensor, candidates: Tensor) -> Tensor:
        seen = self.map(self.items(history))
        seen.mul_(3)
        seen += 1
        offered = self.map(self.items(candidates))
        offered.mul_(2)
        return (torch.tanh(offered) * self.head(seen.sum(1)).unsqueeze(1)).sum(-1)


class OnItems(nn.Module):
    """An adaptive layer on rows of items themselves, called for candidates and history."""

    adaptive = ("head",)

    def __init__(self, num_items: int, width: int = 4) -> None:
        super().__init__()
        self.items = nn.Embedding(num_items + 1, width)
        self.head = nn.Linear(width, width)

    def forward(self, history: Tensor, candidates: Tensor) -> Tensor:
        state = torch.tanh(self.head(self.items(history))).mean(1)
        return (self.head(self.items(candidates)) * state.unsqueeze(1)).sum(-1)


MODULES = (Pool, PlainGRU4Rec, Attending, Outside, Tied, Looking, InPlace, OnItems)
