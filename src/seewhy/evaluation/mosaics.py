"""Mosaics of four pictures of different classes (grid pointing), drawn from those that a network is sure of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from random import Random
from typing import Any, ClassVar

import torch
from torch import Tensor

from seewhy.datasets import Item as Picture
from seewhy.datasets import Manifest
from seewhy.errors import InputError, SeewhyError, TargetError
from seewhy.evaluation.subjects import Loaded, class_of, read_pictures, reading_of
from seewhy.network.network import Network, main_output
from seewhy.store import Item
from seewhy.truth import Box, Object, Truth


@dataclass(frozen=True)
class Mosaic:
    """Four pictures of different classes, two by two.

    Attributes:
        parts: the four, left to right and top to bottom.
        classes: what the network is sure that each shows.
    """

    parts: tuple[Picture, Picture, Picture, Picture]
    classes: tuple[int, int, int, int]

    @property
    def id(self) -> str:
        return " + ".join(each.id for each in self.parts)


@dataclass(frozen=True, eq=False)
class Mosaics:
    """Mosaics (grid pointing): each of the four classes has its evidence in its own quarter, or elsewhere.

    Args:
        network: with preprocessing.
        mosaics: those to explain, each for its four classes.
        resize: enlarge nothing: bring the mosaic to the size of one picture, for networks of a fixed size.
    """

    network: Network
    mosaics: tuple[Mosaic, ...]
    resize: bool = False
    targets: ClassVar[int] = 4

    @property
    def area(self) -> int:
        return 1 if self.resize else 4

    @property
    def items(self) -> tuple[Item, ...]:
        return tuple(
            Item(each.id, sha256("".join(part.sha256 for part in each.parts).encode()).hexdigest())
            for each in self.mosaics
        )

    @property
    def described(self) -> dict[str, Any]:
        classes = {each.id: list(each.classes) for each in self.mosaics}
        return {"mosaics": classes, "resize": self.resize, **reading_of(self.network)}

    def read(self, ids: Sequence[str]) -> Loaded:
        by_id = {each.id: each for each in self.mosaics}
        good, inputs, truths = [], [], []
        failed: dict[str, str] = {}
        for each in (by_id[id] for id in ids):
            images, _, broken = read_pictures(self.network, each.parts)
            if broken:
                failed[each.id] = "; ".join(f"{name}: {reason}" for name, reason in broken.items())
                continue
            good.append(each)
            inputs.append(tiled(images.pixels, self.resize))
            truths.append(self._truth(each, (inputs[-1].shape[-2], inputs[-1].shape[-1])))
        pixels = torch.stack(inputs) if inputs else torch.zeros(0, 3, 1, 1)
        return Loaded(
            tuple(each.id for each in good),
            pixels.to(self.network.device),
            [list(each.classes) for each in good],
            tuple(truths),
            failed,
        )

    def _truth(self, mosaic: Mosaic, size: tuple[int, int]) -> Truth:
        height, width = size[0] // 2, size[1] // 2
        objects = tuple(
            Object(self.network.class_name(index), Box(x, y, x + width, y + height))
            for index, (y, x) in zip(
                mosaic.classes, ((0, 0), (0, width), (height, 0), (height, width)), strict=True
            )
        )
        return Truth(size, objects)


def draw_mosaics(
    network: Network,
    manifest: Manifest,
    pictures: Sequence[Picture],
    count: int,
    *,
    sure: float = 0.9,
    seed: int = 0,
    batch: int = 16,
) -> Mosaics:
    """Mosaics of pictures that the network is sure of, and right about where their label is known.

    Each draws four of them at random, all of different classes; a picture may be in several mosaics.

    Args:
        network: with preprocessing.
        manifest: the dataset of the pictures.
        pictures: to choose from.
        count: how many mosaics.
        sure: the least probability of the best class.
        seed: of the draws.
        batch: pictures per pass.

    Raises:
        InputError: the network is sure of fewer than four classes.
    """
    by_class: dict[int, list[Picture]] = {}
    for start in range(0, len(pictures), batch):
        images, good, _ = read_pictures(network, pictures[start : start + batch])
        if not good:
            continue
        with network.prepared(images) as arguments, torch.inference_mode():
            output = main_output(arguments.call(network.module)).float()
            best = network.probabilities(output).max(1)
        for each, probability, index in zip(good, best.values.tolist(), best.indices.tolist(), strict=True):
            if probability >= sure and _right(each, manifest, network, index):
                by_class.setdefault(index, []).append(each)
    if len(by_class) < 4:
        raise InputError(
            f"{network.name} is sure (p >= {sure}) of pictures of {len(by_class)} classes; mosaics take four"
        )
    chance = Random(seed)
    found: dict[str, Mosaic] = {}
    for _ in range(20 * count):
        if len(found) == count:
            break
        classes = chance.sample(sorted(by_class), 4)
        parts = [chance.choice(by_class[each]) for each in classes]
        mosaic = Mosaic(tuple(parts), tuple(classes))  # type: ignore[arg-type]
        found.setdefault(mosaic.id, mosaic)
    mosaics = Mosaics(network, tuple(found.values()))
    return mosaics if _takes(network, mosaics) else replace(mosaics, resize=True)


def tiled(pixels: Tensor, resize: bool) -> Tensor:
    """Four inputs (4, C, H, W) as one (C, 2H, 2W), or (C, H, W)."""
    rows = [torch.cat(list(pixels[start : start + 2]), dim=2) for start in (0, 2)]
    whole = torch.cat(rows, dim=1)
    if not resize:
        return whole
    size = (pixels.shape[-2] // 2 * 2, pixels.shape[-1] // 2 * 2)
    shrunk = torch.nn.functional.interpolate(whole[None], size, mode="bilinear", antialias=True)
    return shrunk[0]


def _right(picture: Picture, manifest: Manifest, network: Network, index: int) -> bool:
    try:
        return not picture.labels or class_of(picture, manifest, network) == index
    except TargetError:
        return True


def _takes(network: Network, mosaics: Mosaics) -> bool:
    """Whether a network takes pictures of twice the size."""
    try:
        loaded = mosaics.read([mosaics.mosaics[0].id])
        with network.prepared(loaded.images) as arguments, torch.inference_mode():
            arguments.call(network.module)
    except (RuntimeError, ValueError, AssertionError, SeewhyError):
        return False
    return True
