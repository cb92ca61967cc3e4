"""Local Offset Matching: a match counts where the regions around it were moved alike."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.summaries.hough import hough_confidence

_STEPS = 20  # of re-weighted least squares
_DISTANCE, _SCALE = 0.05, 0.3  # what a pixel and a factor of area away from the neighbours cost
_TINY = 1e-6

Order = Literal["simultaneous", "reference"]


def offset_confidence(
    similarity: Float[Tensor, "P n m"],
    first: Float[Tensor, "P n 4"],
    second: Float[Tensor, "P m 4"],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    order: Order = "simultaneous",
) -> Float[Tensor, "P n m"]:
    """Confidences of matches between P pairs of pictures (LOM of Proposal Flow: Ham et al., CVPR 2016).

    It begins with Probabilistic Hough Matching. Each region then asks its neighbours, all that it overlaps, where their
    best matches lie, takes the robust middle of these offsets, and discounts its own matches by how far they are off.

    Args:
        similarity: of appearance, not negative.
        first: regions x0, y0, x1, y1 of the first pictures; rows of equal corners stand for no region.
        second: of the second ones.
        sizes: height and width of all first and of all second pictures.
        order: `simultaneous`, or region after region with what those before have become, as the public code does; its
            results depend on the order of the regions.
    """
    confidence = hough_confidence(similarity, first, second, sizes)
    real = (first[..., 2] > first[..., 0]).to(similarity.dtype)
    near = (_overlap(first) > 0).to(similarity.dtype) * real[:, :, None] * real[:, None]
    offset, scale = _offsets(first, second)
    if order == "simultaneous":
        rows = torch.arange(first.shape[1], device=first.device)
        return _updated(confidence, similarity, near, offset, scale, rows)
    for row in range(first.shape[1]):
        own = torch.tensor([row], device=first.device)
        confidence[:, own] = _updated(confidence, similarity, near, offset, scale, own)
    return confidence


def _updated(
    confidence: Float[Tensor, "P n m"],
    similarity: Float[Tensor, "P n m"],
    near: Float[Tensor, "P n n"],
    offset: Float[Tensor, "P n m 2"],
    scale: Float[Tensor, "P n m"],
    rows: Tensor,
) -> Float[Tensor, "P r m"]:
    """The confidences of some regions of the first pictures, from what all have now."""
    top, best = confidence.max(2)
    chosen = torch.cat(
        [
            offset.gather(2, best[:, :, None, None].expand(-1, -1, 1, 2))[:, :, 0],
            scale.gather(2, best[:, :, None]),
        ],
        2,
    )
    around = near[:, rows]
    middle = _robust_middle(chosen, around)
    away = torch.linalg.vector_norm(offset[:, rows] - middle[:, :, None, :2], dim=3)
    grown = (scale[:, rows] - middle[:, :, None, 2]).abs()
    support = (around @ top[:, :, None])[..., 0] / top.sum(1, keepdim=True).clamp_min(_TINY)
    return similarity[:, rows] * torch.exp(-_DISTANCE * away - _SCALE * grown) * support[:, :, None]


def _robust_middle(values: Float[Tensor, "P n 3"], weights: Float[Tensor, "P r n"]) -> Float[Tensor, "P r 3"]:
    """The middle of the neighbours' offsets: twenty steps from (1, 1, 1) towards each coordinate's median."""
    middle = values.new_ones((*weights.shape[:2], 3))
    for _ in range(_STEPS):
        share = weights[..., None] / ((values[:, None] - middle[:, :, None]).abs() + _TINY)
        middle = (share * values[:, None]).sum(2) / share.sum(2).clamp_min(_TINY)
    return middle


def _offsets(
    first: Float[Tensor, "P n 4"], second: Float[Tensor, "P m 4"]
) -> tuple[Float[Tensor, "P n m 2"], Float[Tensor, "P n m"]]:
    """By how many pixels centres are apart, and by what factor areas."""
    centres = [(each[..., :2] + each[..., 2:]) / 2 for each in (first, second)]
    areas = [(each[..., 2:] - each[..., :2]).prod(2).clamp_min(_TINY) for each in (first, second)]
    return centres[0][:, :, None] - centres[1][:, None], areas[0][:, :, None] / areas[1][:, None]


def _overlap(boxes: Float[Tensor, "P n 4"]) -> Float[Tensor, "P n n"]:
    """The areas that boxes of one picture share."""
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    return (high - low).clamp_min(0).prod(3)
