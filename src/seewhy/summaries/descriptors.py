"""What regions look like as vectors, and how alike they are against what pictures look like everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from seewhy.errors import InputError
from seewhy.explainers.study import Study
from seewhy.network.network import Network
from seewhy.saliency.lab import lab
from seewhy.summaries.hog import CELL, SIDE, crops, hog
from seewhy.summaries.proposals import Boxes
from seewhy.targets import as_target

Picture = UInt8[np.ndarray, "H W 3"]
_QUARTERS = 2  # along each side, that gradients and colours are pooled over
_LAB = 60.0  # makes colours vary about as much, in total, as gradients do
_SIDES = (0.12, 0.4)  # of background crops, as shares of a picture's shorter side
_ROI = 3  # pairs of samples along each side of a region on a feature map


class Descriptors(BaseModel):
    """What is compared of two regions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["pooled", "hog", "features"] = Field(
        default="pooled",
        description="Oriented gradients and colours over the quarters of a region, which a part that leans a little or "
        "is cut a little differently hardly changes; gradients in 8 x 8 cells, as in the paper (`hog`); or the feature "
        "maps of a network, which should be another than the one that is explained.",
    )
    layer: str | None = Field(default=None, description="Of `features`; the last feature map that counts.")
    crops: int = Field(
        default=40, ge=4, description="Per picture, at random places: what descriptors are whitened by."
    )
    dimensions: int = Field(
        default=24, ge=1, description="Directions kept of the whitened descriptors, at most."
    )
    shrinkage: float = Field(
        default=0.1, gt=0, le=1, description="Share of the mean variance that is added to each direction's."
    )
    seed: int = Field(default=0, description="Of the background crops.")


@dataclass(frozen=True, eq=False)
class Whitening:
    """Statistics of crops of the same pictures at random places (LDA: Hariharan, Malik and Ramanan, ECCV 2012).

    Attributes:
        mean: of their descriptors.
        transform: to directions of unit variance.
        null: cosines between such crops of different pictures, sorted: what chance gives.
    """

    mean: Float[Tensor, " D"]
    transform: Float[Tensor, "D k"]
    null: Float[Tensor, " n"]

    def __call__(self, raw: Float[Tensor, "R D"]) -> Float[Tensor, "R k"]:
        """Whitened descriptors of unit length, so that products of two are cosines."""
        return F.normalize((raw - self.mean) @ self.transform, dim=1)

    def bound(self, share: float) -> float:
        """The cosine that only this share of random pairs exceeds; 1 of one picture, which has no pair."""
        if not len(self.null):
            return 1.0
        return float(self.null[min(len(self.null) - 1, int((1 - share) * len(self.null)))])

    @classmethod
    def of(cls, raw: Float[Tensor, "N D"], owner: Tensor, dimensions: int, shrinkage: float) -> Whitening:
        """From descriptors of background crops and the picture that each is of."""
        mean = raw.mean(0)
        _, spread, directions = torch.linalg.svd(raw - mean, full_matrices=False)
        kept = min(dimensions, int((spread > 1e-6 * spread[0]).sum()), max(1, len(raw) // 3))
        variance = spread[:kept].square() / len(raw)
        scales = (variance + shrinkage * variance.mean()).rsqrt()
        transform = directions[:kept].T * scales
        vectors = F.normalize((raw - mean) @ transform, dim=1)
        apart = owner[:, None] < owner[None]
        return cls(mean, transform, (vectors @ vectors.T)[apart].sort().values)


def described(
    pictures: Sequence[Picture], boxes: Sequence[Boxes], settings: Descriptors, other: Network | None = None
) -> list[Float[Tensor, "_ D"]]:
    """The raw descriptors of every picture's boxes.

    Args:
        pictures: as the network sees them.
        boxes: per picture.
        settings: which descriptors.
        other: the network whose feature maps are read, with preprocessing.

    Raises:
        InputError: feature maps are asked for, and no network is given.
    """
    if settings.kind == "features":
        if other is None:
            raise InputError("descriptors of kind 'features' need a network whose feature maps are read")
        return [
            _features(other, picture, own, settings.layer)
            for picture, own in zip(pictures, boxes, strict=True)
        ]
    return [
        _gradients(picture, own, settings.kind == "pooled")
        for picture, own in zip(pictures, boxes, strict=True)
    ]


def background(pictures: Sequence[Picture], settings: Descriptors, other: Network | None = None) -> Whitening:
    """The whitening by crops of these pictures; a picture's crops are its own, whatever stands beside it."""
    boxes = [_anywhere(picture, settings) for picture in pictures]
    raw = described(pictures, boxes, settings, other)
    owner = torch.cat([torch.full((len(each),), place) for place, each in enumerate(raw)])
    return Whitening.of(torch.cat(raw).double(), owner, settings.dimensions, settings.shrinkage)


def _anywhere(picture: Picture, settings: Descriptors) -> Boxes:
    """Squares of random size at random places."""
    digest = hashlib.sha256(picture.tobytes() + settings.seed.to_bytes(8, "little", signed=True)).digest()
    draws = np.random.default_rng(int.from_bytes(digest[:8], "little")).random((settings.crops, 3))
    height, width = picture.shape[:2]
    side = (_SIDES[0] + (_SIDES[1] - _SIDES[0]) * draws[:, 0]) * min(height, width)
    x, y = draws[:, 1] * (width - side), draws[:, 2] * (height - side)
    return np.stack([x, y, x + side, y + side], 1).round().astype(np.int64)


def levels(picture: Picture) -> Float[Tensor, "3 H W"]:
    """A picture's levels in [0, 1]."""
    return torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255


def _gradients(picture: Picture, boxes: Boxes, pooled: bool) -> Float[Tensor, "R D"]:
    if not len(boxes):
        return torch.zeros(0, _QUARTERS**2 * (31 + 6) if pooled else 31 * 64)
    found = crops(levels(picture), torch.from_numpy(boxes).float())
    cells = hog(found)
    if not pooled:
        return cells.flatten(1)
    signed, unsigned, texture = cells[:, :18], cells[:, 18:27], cells[:, 27:]
    blurred = [(each + each.roll(1, 1) + each.roll(-1, 1)) / 3 for each in (signed, unsigned)]
    gradients = F.adaptive_avg_pool2d(torch.cat([*blurred, texture], 1), _QUARTERS)
    inside = CELL * found.shape[-1] // SIDE
    colours = lab(found[:, :, inside:-inside, inside:-inside]) / _LAB
    mean = F.adaptive_avg_pool2d(colours, _QUARTERS)
    spread = (F.adaptive_avg_pool2d(colours.square(), _QUARTERS) - mean.square()).clamp_min(0).sqrt()
    return torch.cat([gradients, mean, spread], 1).flatten(1)


def _features(network: Network, picture: Picture, boxes: Boxes, layer: str | None) -> Float[Tensor, "R D"]:
    """Feature maps of the whole picture, sampled on a grid within each box (RoIAlign, He et al., ICCV 2017)."""
    images = network.read([Image.fromarray(picture)])
    frame = images.frames[0]
    with network.prepared(images.to(network.device)) as arguments:
        study = Study(network, arguments, as_target(None), network.digest)
        choice = study.layers(layer)
        study.request(choice, False)
        maps = study.feature(next(iter(choice.calls)), False).activation.float().cpu()
    top, left, height, width = frame.crop
    corners = torch.from_numpy(boxes).float()
    x = (corners[:, 0::2] * frame.resized[1] / frame.original[1] - left) / width * 2 - 1
    y = (corners[:, 1::2] * frame.resized[0] / frame.original[0] - top) / height * 2 - 1
    steps = (torch.arange(2 * _ROI) + 0.5) / (2 * _ROI)
    across = torch.lerp(x[:, :1], x[:, 1:], steps)
    down = torch.lerp(y[:, :1], y[:, 1:], steps)
    grid = torch.stack(
        [across[:, None, :].expand(-1, 2 * _ROI, -1), down[:, :, None].expand(-1, -1, 2 * _ROI)], 3
    )
    sampled = F.grid_sample(
        maps.expand(len(boxes), -1, -1, -1), grid, padding_mode="border", align_corners=False
    )
    return F.adaptive_avg_pool2d(sampled, 1).flatten(1)
