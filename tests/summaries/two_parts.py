"""Pictures of a class with two parts, each with a texture of its own, of which one may be absent; and a network."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import nn

from seewhy import Network, Preprocess

SIZE, FINE = 64, 2


def picture(seed, parts):
    """A picture with some of the parts 0 and 1 on clutter, and the mask of each."""
    draw = np.random.default_rng(seed)
    image = Image.new("RGB", (SIZE * FINE,) * 2, tuple(int(c) for c in draw.integers(60, 200, 3)))
    pen = ImageDraw.Draw(image)
    for _ in range(14):
        x, y = draw.uniform(0, SIZE * FINE, 2)
        points = [(x + a, y + b) for a, b in draw.normal(0, 9 * FINE, (int(draw.integers(3, 6)), 2))]
        pen.polygon(points, fill=tuple(int(c) for c in draw.integers(30, 225, 3)))
    masks = {}
    places = [(float(draw.uniform(14, 24)), float(draw.uniform(14, 50))) for _ in range(2)]
    places[1] = (places[1][0] + 26, places[1][1])
    if draw.random() < 0.5:
        places.reverse()
    for part in parts:
        tile, shape = _part(part, int(draw.integers(17, 21)) * FINE, float(draw.uniform(-20, 20)))
        x, y = (int(c * FINE - tile.width / 2) for c in places[part])
        image.paste(tile, (x, y), shape)
        mask = Image.new("L", image.size, 0)
        mask.paste(shape, (x, y))
        masks[part] = np.asarray(mask.reduce(FINE)) > 127
    pixels = np.asarray(image.reduce(FINE), np.float32) + draw.normal(0, 4, (SIZE, SIZE, 3))
    return pixels.round().clip(0, 255).astype(np.uint8), masks


def _part(part, side, turn):
    """A disc with a red and white chequer, or a square with blue and yellow stripes."""
    tile, shape = Image.new("RGB", (side, side)), Image.new("L", (side, side), 0)
    y, x = np.mgrid[:side, :side]
    cell = side / 4
    if part == 0:
        on = ((x // cell + y // cell) % 2 == 0)[..., None]
        tile = Image.fromarray(np.where(on, (215, 30, 40), (245, 240, 235)).astype(np.uint8))
        ImageDraw.Draw(shape).ellipse((0, 0, side - 1, side - 1), fill=255)
    else:
        on = (x // (cell / 1.5) % 2 == 0)[..., None]
        tile = Image.fromarray(np.where(on, (25, 60, 190), (240, 215, 40)).astype(np.uint8))
        inset = math.ceil(side * 0.08)
        ImageDraw.Draw(shape).rectangle((inset, inset, side - inset, side - inset), fill=255)
    return tile.rotate(turn, Image.Resampling.BILINEAR), shape.rotate(turn)


def of_class(count, seed=0):
    """Pictures of the class, a third with the one part, a third with the other, a third with both."""
    return [picture(1_000_000 + 1000 * seed + n, ((0,), (1,), (0, 1))[n % 3]) for n in range(count)]


def inputs(pictures):
    pixels = torch.from_numpy(np.stack([pixels for pixels, _ in pictures]))
    return ((pixels.float() / 255 - 0.5) / 0.25).permute(0, 3, 1, 2).contiguous()


def trained(steps=150, batch=48):
    """A network that tells pictures with either part from clutter."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 16, 4, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 4, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 48, 3, 1, 1), nn.BatchNorm2d(48), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 2),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(module.parameters(), 4e-3)
    pool = [picture(n, ((), (0,), (), (1,), (), (0, 1))[n % 6]) for n in range(600)]
    pixels, labels = inputs(pool), torch.tensor([int(bool(masks)) for _, masks in pool])
    for _ in range(steps):
        rows = torch.randint(len(pool), (batch,))
        optimizer.zero_grad()
        F.cross_entropy(module(pixels[rows]), labels[rows]).backward()
        optimizer.step()
    module.eval()
    preprocess = Preprocess(resize=(SIZE, SIZE), mean=(0.5,) * 3, std=(0.25,) * 3)
    return Network(module, preprocess=preprocess, classes=("clutter", "thing"), name="either part")
