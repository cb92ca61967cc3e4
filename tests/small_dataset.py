"""Twelve pictures of coloured squares, and a network that knows the four colours: small, and not trivial."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

import seewhy

CLASSES = ["ant", "bee", "crab", "dog"]


class Quarters(nn.Module):
    """A network that is sure of the class whose colour a picture has; a pooled linear head over two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(4))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, 4)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for each in self.parameters():
                each.copy_(torch.randn(each.shape, generator=generator) * 0.3)
            kernel = torch.zeros(8, 3, 3, 3)
            colours = torch.tensor([[2.0, -1, -1], [-1, 2, -1], [-1, -1, 2], [1, 1, -2]])
            kernel[:4, :, 1, 1] = colours
            self.features[0].weight.copy_(kernel)
            self.features[0].bias.zero_()
            self.head.weight.copy_(torch.cat([20 * torch.eye(4), torch.zeros(4, 4)], 1))
            self.head.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.features(x)).flatten(1))


def network() -> seewhy.Network:
    preprocess = seewhy.Preprocess(resize=(32, 32), mean=(0.0,) * 3, std=(1.0,) * 3)
    return seewhy.Network(Quarters().eval(), preprocess=preprocess, classes=CLASSES)


def write_dataset(root: Path) -> Path:
    """A square each on grey noise, their labels and boxes; the last square is the largest."""
    (root / "images").mkdir(parents=True)
    chance = np.random.default_rng(0)
    colours = [(250, 20, 20), (20, 250, 20), (20, 20, 250), (250, 250, 20)]
    labels, boxes = [["image", "class"]], [["image", "x0", "y0", "x1", "y1"]]
    for number in range(12):
        pixels = chance.integers(100, 120, (40, 40, 3)).astype(np.uint8)
        x, y, side = *chance.integers(2, 12, 2).tolist(), 10 + number
        pixels[y : y + side, x : x + side] = colours[number % 4]
        name = f"p{number:02}.png"
        Image.fromarray(pixels).save(root / "images" / name)
        labels.append([name, CLASSES[number % 4]])
        boxes.append([name, x, y, x + side, y + side])
    for file, lines in (("labels.csv", labels), ("boxes.csv", boxes)):
        with (root / file).open("w", newline="") as opened:
            csv.writer(opened).writerows(lines)
    return root
