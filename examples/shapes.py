"""A network of one's own, trained in half a minute on drawn shapes, to have something true to explain.

    python examples/shapes.py out/shapes

writes pictures with two shapes each and the trained weights.
"""

from __future__ import annotations

import math
import random
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFilter
from safetensors.torch import save_file
from torch import Tensor, nn

from seewhy import Network, Preprocess

CLASSES = ("disc", "square", "triangle", "star")
SIZE = 64
CORNERS = {"disc": 40, "square": 4, "triangle": 3, "star": 10}


def network() -> Network:
    """What `seewhy explain --model py:examples.shapes:network` calls: the module and what it expects."""
    preprocess = Preprocess(resize=(SIZE, SIZE), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return Network(build(), preprocess=preprocess, classes=CLASSES, name="shapes", head="sigmoid")


def build() -> nn.Sequential:
    """Five convolutions, global average pooling, one linear layer with one independent score per shape."""
    widths = (3, 12, 24, 32, 48, 48)
    layers: list[nn.Module] = []
    for place, (before, after) in enumerate(pairwise(widths)):
        stride = 2 if place in (1, 3) else 1
        layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], len(CLASSES)))


def draw(shapes: list[str], chance: random.Random) -> Image.Image:
    """A textured background with some shapes side by side, in random place, size, turn and colour."""
    noise = np.random.default_rng(chance.getrandbits(32)).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    picture = Image.blend(picture, Image.new("RGB", picture.size, "gray"), 0.6)
    pen = ImageDraw.Draw(picture)
    for place, shape in enumerate(shapes):
        radius = chance.uniform(8, 12)
        room = SIZE / len(shapes)
        x = room * place + chance.uniform(radius, max(radius, room - radius))
        y, turn = chance.uniform(radius, SIZE - radius), chance.uniform(0, 2 * math.pi)
        count = CORNERS[shape]
        points = []
        for corner in range(count):
            reach = radius * (0.45 if shape == "star" and corner % 2 else 1)
            angle = turn + 2 * math.pi * corner / count
            points.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
        pen.polygon(points, fill=tuple(chance.randrange(256) for _ in range(3)), outline="black")
    return picture.filter(ImageFilter.GaussianBlur(0.6))


def batch(count: int, chance: random.Random) -> tuple[Tensor, Tensor]:
    """Pictures with one or two different shapes (B, 3, H, W) and which shapes they show (B, 4)."""
    shown = [chance.sample(CLASSES, chance.choice((1, 2))) for _ in range(count)]
    pixels = np.stack([np.asarray(draw(shapes, chance)) for shapes in shown])
    labels = torch.tensor([[float(each in shapes) for each in CLASSES] for shapes in shown])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1, labels


def train(pictures: int = 4096, epochs: int = 9, size: int = 64) -> nn.Module:
    """The network, trained to say which shapes a picture shows."""
    torch.set_num_threads(1)  # so small a network keeps a second thread waiting
    torch.manual_seed(0)
    pixels, labels = batch(pictures, random.Random(0))
    module = build().train()
    steps = epochs * (pictures // size)
    optimizer = torch.optim.AdamW(module.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 8e-3, total_steps=steps)
    for step in range(steps):
        if step % (pictures // size) == 0:
            order = torch.randperm(pictures)
        rows = order[(step * size) % pictures :][:size]
        flipped = [each for each in (2, 3) if torch.rand(()) < 0.5]
        loss = F.binary_cross_entropy_with_logits(module(pixels[rows].flip(flipped)), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return module.eval()


def main(folder: Path) -> None:
    """Train, say how good the network is on new pictures, and write what `seewhy explain` needs."""
    folder.mkdir(parents=True, exist_ok=True)
    module = train()
    chance = random.Random(1)
    pixels, labels = batch(500, chance)
    with torch.no_grad():
        right = ((module(pixels) > 0) == (labels > 0)).all(1).float().mean()
    print(f"both shapes right on {right:.1%} of 500 new pictures")

    save_file(module.state_dict(), folder / "shapes.safetensors")
    for shapes in (["disc", "star"], ["square", "triangle"], ["star", "square"]):
        draw(shapes, chance).save(folder / f"{'-and-'.join(shapes)}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/shapes"))
