"""Small embedding networks, a dataset of coloured squares for them, and banks of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import seewhy
from seewhy.datasets import Manifest, read
from seewhy.embedding.building import build_bank
from seewhy.embedding.recipe import Recipe

SIZE, CHANNELS, WIDTH = 16, 6, 5
LABELS = ("ant", "bee", "crab")


class Embedder(nn.Module):
    """Two convolutions, pooling and a linear map; at unit length where asked."""

    def __init__(
        self, bias: bool = True, normalized: bool = False, nonlinear: bool = False, seed: int = 0
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, CHANNELS, 3), nn.ReLU()
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        middle = [nn.Linear(CHANNELS, 7), nn.Tanh()] if nonlinear else []
        self.head = nn.Sequential(*middle, nn.Linear(7 if nonlinear else CHANNELS, WIDTH, bias=bias))
        self.normalized = normalized
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for each in self.parameters():
                each.copy_(torch.randn(each.shape, generator=generator) * 0.5)

    def forward(self, x: Tensor) -> Tensor:
        embedding = self.head(self.pool(self.features(x)).flatten(1))
        return nn.functional.normalize(embedding, dim=1) if self.normalized else embedding


def network(**options: object) -> seewhy.Network:
    preprocess = seewhy.Preprocess(resize=(SIZE, SIZE), mean=(0.5,) * 3, std=(0.25,) * 3)
    return seewhy.Network(Embedder(**options).eval(), preprocess=preprocess)


def other_network() -> seewhy.Network:
    return network(seed=9)


def pictures(count: int = 5, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def gallery(count: int = 24, seed: int = 2) -> seewhy.Gallery:
    embeddings = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))
    return seewhy.Gallery(embeddings, torch.arange(count) % len(LABELS), LABELS)


def write_squares(root: Path, per_class: int = 6, first: int = 0) -> Path:
    """A folder for each class, with squares of its colour on noise."""
    colours = ((250, 20, 20), (20, 250, 20), (20, 20, 250))
    for label, colour in zip(LABELS, colours, strict=True):
        (root / label).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + per_class):
            chance = np.random.default_rng([LABELS.index(label), number])
            pixels = chance.integers(60, 160, (20, 20, 3)).astype(np.uint8)
            x, y = chance.integers(0, 10, 2).tolist()
            pixels[y : y + 10, x : x + 10] = colour
            Image.fromarray(pixels).save(root / label / f"{number:03}.png")
    return root


def squares(root: Path, per_class: int = 6) -> Manifest:
    return read(write_squares(root, per_class), kind="folder")


EXACT = Recipe(weights="float32", top_k=None, select="signed", batch_size=12)
"""What loses nothing: all channels, in float32."""


def bank(
    root: Path, recipe: Recipe = EXACT, embedder: seewhy.Network | None = None, per_class: int = 6
) -> Path:
    """A bank of the squares."""
    build_bank(embedder or network(), squares(root / "pictures", per_class), root / "bank", recipe)
    return root / "bank"
