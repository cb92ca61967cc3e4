"""Histograms of oriented gradients, 31 numbers for each cell, of many crops at once."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

SIDE, CELL = 80, 8
"""Of a crop and of a cell, in pixels; the outer ring of cells is context and gives no features."""
_DIRECTIONS = 18  # over the full circle; half as many without a sign
_CUT = 0.2


def crops(
    picture: Float[Tensor, "3 H W"], boxes: Float[Tensor, "R 4"], side: int = SIDE, context: float = 0.125
) -> Float[Tensor, "R 3 side side"]:
    """Boxes of a picture, brought to squares; beyond the picture its border is repeated.

    Args:
        picture: levels in [0, 1].
        boxes: x0, y0, x1, y1 in pixels.
        side: of the squares in pixels.
        context: what is added on every side, as a share of the box's: one cell in eight.
    """
    height, width = picture.shape[-2:]
    boxes = boxes.to(picture)
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * (1 + 2 * context)
    # Averages of a few samples per pixel of the crop, so that large boxes are not full of gaps.
    fine = 2 * side
    steps = (torch.arange(fine, dtype=picture.dtype, device=picture.device) + 0.5) / fine * 2 - 1
    x = (centre[:, :1] + half[:, :1] * steps) / width * 2 - 1
    y = (centre[:, 1:] + half[:, 1:] * steps) / height * 2 - 1
    grid = torch.stack([x[:, None, :].expand(-1, fine, -1), y[:, :, None].expand(-1, -1, fine)], 3)
    many = picture.expand(len(boxes), -1, -1, -1)
    return F.avg_pool2d(F.grid_sample(many, grid, padding_mode="border", align_corners=False), 2)


def hog(pictures: Float[Tensor, "R C S S"]) -> Float[Tensor, "R 31 h w"]:
    """Histograms of oriented gradients (Felzenszwalb et al., TPAMI 2010), without the outer ring of cells.

    For every cell 18 signed and 9 unsigned directions, normalised by the four blocks of cells around it and cut at
    0.2, and 4 energies of texture.

    Args:
        pictures: squares whose side is a multiple of eight.
    """
    energy = _binned(pictures)
    unsigned = energy[:, : _DIRECTIONS // 2] + energy[:, _DIRECTIONS // 2 :]
    block = F.avg_pool2d(unsigned.square().sum(1, keepdim=True), 2, 1) * 4
    inner = energy[:, :, 1:-1, 1:-1]
    norms = [block[:, :, i : i + inner.shape[2], j : j + inner.shape[3]] for i in (0, 1) for j in (0, 1)]
    scales = [(each + 1e-4).rsqrt() for each in norms]
    signed = torch.stack([(inner * scale).clamp_max(_CUT) for scale in scales])
    plain = torch.stack([(unsigned[:, :, 1:-1, 1:-1] * scale).clamp_max(_CUT) for scale in scales])
    texture = signed.sum(2).movedim(0, 1) / math.sqrt(_DIRECTIONS)
    return torch.cat([signed.sum(0) / 2, plain.sum(0) / 2, texture], 1)


def _binned(pictures: Float[Tensor, "R C S S"]) -> Float[Tensor, "R 18 n n"]:
    """Magnitudes of gradients by direction and cell; each pixel counts for the four nearest cells."""
    padded = F.pad(pictures, (1, 1, 1, 1), mode="replicate")
    x = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    y = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    strongest = (x.square() + y.square()).argmax(1, keepdim=True)  # of the colours
    x, y = x.gather(1, strongest), y.gather(1, strongest)
    place = torch.atan2(y, x) / (2 * math.pi) * _DIRECTIONS
    number = place.round().long() % _DIRECTIONS
    votes = torch.zeros_like(x).repeat(1, _DIRECTIONS, 1, 1).scatter_(1, number, torch.hypot(x, y))
    near = 1 - (torch.arange(2 * CELL, dtype=votes.dtype, device=votes.device) - CELL + 0.5).abs() / CELL
    kernel = (near[:, None] * near)[None, None]
    flat = F.conv2d(votes.flatten(0, 1)[:, None], kernel, stride=CELL, padding=CELL // 2)
    return flat.view(len(pictures), _DIRECTIONS, *flat.shape[-2:])
