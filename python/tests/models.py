"""Models for tests that the engine does not know."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """A block of a transformer: attention and a GELU network, each behind a layer norm and around a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """Two blocks over sequences of tokens; the last place gives the outputs."""

    def __init__(self, width: int = 8, vocabulary: int = 7, length: int = 6, outputs: int = 7) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.1 * torch.randn(length, width))
        self.blocks = nn.Sequential(Block(width, 2), Block(width, 2))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.embedding(tokens) + self.position))[:, -1])


class Gated(nn.Module):
    """A module of one's own: two inputs by keyword, a parameter that is no weight, and a frozen one."""

    def __init__(self, features: int = 4, outputs: int = 2) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(features, 6), nn.Linear(features, 6, bias=False)
        self.scale = nn.Parameter(torch.tensor(0.7))
        self.frozen = nn.Parameter(torch.randn(6), requires_grad=False)
        self.head = nn.Linear(6, outputs)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.head(torch.sigmoid(self.left(a)) * torch.tanh(self.right(b)) * self.scale + self.frozen)


def tokens(count: int, length: int = 6, vocabulary: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Sequences, and for each the token that appears most often (the least of them)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, vocabulary, (count, length), generator=generator)
    return x, F.one_hot(x, vocabulary).sum(1).argmax(1)


class Radial(nn.Module):
    """A module of one's own: Gaussian bumps with centres and widths that are learned."""

    def __init__(self, features: int, bumps: int) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(bumps, features))
        self.widths = nn.Parameter(torch.zeros(bumps))

    def forward(self, x: Tensor) -> Tensor:
        distances = (x.unsqueeze(1) - self.centres).square().mean(2)
        return torch.exp(-distances * self.widths.exp())


class RadialNet(nn.Module):
    """The module of one's own within a network."""

    def __init__(self, features: int = 4, bumps: int = 8, hidden: int = 6, outputs: int = 3) -> None:
        super().__init__()
        self.bumps, self.mix, self.head = Radial(features, bumps), nn.Linear(bumps, hidden), nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.silu(self.mix(self.bumps(x))))
