"""Small networks with known traps, and pictures for them, that methods are checked on."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from seewhy.network.network import Network
from seewhy.network.preprocess import Preprocess


def toys() -> list[tuple[Network, Any]]:
    """Small networks that methods are checked on by default, each with its own traps, and inputs for them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        plain = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(12, 5),
        )  # fmt: skip
        preprocess = Preprocess(resize=(24, 24), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
        pictures = blobs(8, 3, 24, 24)
        return [
            (Network(plain, name="plain", preprocess=preprocess), pictures[:4]),
            (Network(_Residual(), name="residual with a dict output"), pictures[:4]),
            (Network(_Flattened(), name="flattened with dropout"), pictures[:4]),
            (Network(_Pair(), name="two pictures through one trunk"), (pictures[:4], pictures[4:])),
        ]


def spots() -> tuple[Network, Float[Tensor, "3 3 24 40"]]:
    """A network that adds up what is bright, and black pictures with a bright square each: left, right, below left."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(2)
        head = nn.Linear(4, 2, bias=False)
        bright = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head,
        )  # fmt: skip
        for parameter in bright.parameters():
            parameter.abs_()
        head.weight[1] *= -1
    pictures = torch.zeros(3, 3, 24, 40)
    for picture, (row, column) in zip(pictures, ((3, 4), (3, 30), (15, 4)), strict=True):
        picture[:, row : row + 6, column : column + 6] = 1
    preprocess = Preprocess(resize=(24, 40), mean=(0.0,) * 3, std=(1.0,) * 3)
    return Network(bright, name="adds up what is bright", preprocess=preprocess), pictures


class _Residual(nn.Module):
    """Shared and functional activations, a skip connection, an output that is not a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 8, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.act(self.first(images))
        maps = maps + self.act(self.second(maps))
        maps = torch.relu(self.third(maps) + maps)
        maps = self.act(maps * 1.0)
        return {"features": maps, "logits": self.head(maps.mean((2, 3)))}


class _Flattened(nn.Module):
    """A head that is not pooled, in training mode unless told otherwise, with a buffer that counts calls."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 5, stride=3), nn.SiLU(), nn.Conv2d(6, 6, 3), nn.SiLU())
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.5), nn.LazyLinear(10), nn.ReLU(), nn.Linear(10, 3)
        )
        self.register_buffer("calls", torch.zeros(()))
        self(torch.zeros(1, 3, 24, 24))

    def forward(self, images: Tensor) -> Tensor:
        self.calls: Tensor
        self.calls += 1
        output: Tensor = self.head(self.features(images))
        return output


class _Pair(nn.Module):
    """Two picture inputs, whose features meet in the head; the layers before it run twice per call."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        pooled = [self.trunk(each).mean((2, 3)) for each in (left, right)]
        output: Tensor = self.head(torch.cat(pooled, 1))
        return output


def blobs(count: int, channels: int, height: int, width: int) -> Float[Tensor, "B C H W"]:
    """Soft shapes: white noise averages out in deep layers, where only the border would be left to see."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(count, channels, 6, 6, generator=generator)
    fine = torch.randn(count, channels, height, width, generator=generator)
    return 2 * F.interpolate(coarse, (height, width), mode="bicubic") + 0.2 * fine
