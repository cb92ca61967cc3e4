"""Noisy linear imputation: what is missing of a picture, from its surroundings (Rong et al., ICML 2022)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

_RESIDUAL = 1e-6  # relative, of every channel: 1e-5 leaves errors of 2e-3 in the middle of large holes
_EVERY = 10  # iterations between two looks at what has converged


def imputed(
    pictures: Float[Tensor, "M C H W"], missing: Bool[Tensor, "M H W"], residual: float = _RESIDUAL
) -> Float[Tensor, "M C H W"]:
    """Pictures whose missing pixels are the weighted mean of their up to eight neighbours.

    Direct neighbours weigh 1/6, diagonal ones 1/12; those outside the picture are left out. The equations of all
    pictures and channels are solved together by conjugate gradients, preconditioned by the diagonal: the matrix is
    symmetric, and positive definite as soon as one pixel is known.

    Args:
        pictures: (M, C, H, W).
        missing: which pixels.
        residual: at which the solution of a channel is good, relative to the right side.

    Returns:
        The pictures, float32; NaN where nothing is known.
    """
    pictures = pictures.float()
    holes = missing[:, None].to(pictures)
    weights = _around(torch.ones_like(holes[:1]))
    known = pictures * (1 - holes)
    # The mean of what is known would need no step where a picture is constant.
    count = (1 - holes).sum((-2, -1), keepdim=True)
    start = holes * known.sum((-2, -1), keepdim=True) / count.clamp_min(1)
    solved = _solved(
        start.flatten(0, 1), (holes * _around(known)).flatten(0, 1), holes, weights[0, 0], residual
    )
    return torch.where(count > 0, known + solved.view_as(known), math.nan)


def _solved(
    start: Float[Tensor, "N H W"],
    right: Float[Tensor, "N H W"],
    holes: Float[Tensor, "M 1 H W"],
    weights: Float[Tensor, "H W"],
    residual: float,
) -> Float[Tensor, "N H W"]:
    """Conjugate gradients for N systems at once; those that have converged are put aside."""
    holes = holes.expand(-1, len(right) // len(holes), -1, -1).flatten(0, 1)
    found = torch.zeros_like(right)
    goal = residual * _length(right)
    active = torch.arange(len(right), device=right.device)

    def times(values: Tensor, holes: Tensor) -> Tensor:
        return (weights * values - _around(values)).mul_(holes)

    value, rest = start, right - times(start, holes)
    scaled = rest / weights
    along, energy = scaled, (rest * scaled).sum((-2, -1), keepdim=True)
    most = (
        20 * (right.shape[-2] + right.shape[-1]) + 100
    )  # far more than the distance that values must travel
    for step in range(most):
        if step % _EVERY == 0:
            going = (_length(rest) > goal[active]).flatten()
            found[active[~going]] = value[~going]
            if not bool(going.any()):
                return found
            if not bool(going.all()):
                active, holes, value, rest, along, energy = (
                    each[going] for each in (active, holes, value, rest, along, energy)
                )
        product = times(along, holes)
        # Where a system has converged to its last digit, both are zero.
        stride = energy / (along * product).sum((-2, -1), keepdim=True).clamp_min(_TINY)
        value.addcmul_(stride, along)
        rest.addcmul_(stride, product, value=-1)
        scaled = rest / weights
        before, energy = energy, (rest * scaled).sum((-2, -1), keepdim=True)
        along = torch.addcmul(scaled, energy / before.clamp_min(_TINY), along)
    found[active] = value
    return found


_TINY = torch.finfo(torch.float32).tiny


def _length(values: Float[Tensor, "N H W"]) -> Float[Tensor, "N 1 1"]:
    return values.square().sum((-2, -1), keepdim=True).sqrt()


def _around(values: Tensor) -> Tensor:
    """The weighted sum of every pixel's neighbours: (1, 2, 1) along both axes is 12 times that and 4 of itself."""
    padded = F.pad(values, (1, 1, 1, 1))
    upright = (padded[..., :-2, :] + padded[..., 2:, :]).add_(padded[..., 1:-1, :], alpha=2)
    both = (upright[..., :-2] + upright[..., 2:]).add_(upright[..., 1:-1], alpha=2)
    return both.mul_(1 / 12).sub_(values, alpha=1 / 3)
