"""How alike two maps are: rank correlation, structural similarity, and histograms of oriented gradients."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from seewhy.errors import InputError
from seewhy.network.precision import exact_type

WINDOW, SIGMA = 11, 1.5  # of SSIM's Gaussian (Wang et al., 2004)
_K1, _K2 = 0.01, 0.03  # its constants, for values in [0, 1]
ORIENTATIONS, CELL = 8, 16  # of HOG: bins over half a turn, pixels per side of a cell
_EPSILON = 1e-5  # of HOG's norm


def pearson(first: Float[Tensor, "*axes n"], second: Float[Tensor, "*axes n"]) -> Float[Tensor, "*axes"]:
    """Pearson correlation over the last axis; NaN where either side is constant or holds NaN."""
    first, second = (each.to(exact_type(each.device)) for each in (first, second))
    if not first.shape[-1]:
        return first.new_full(first.shape[:-1], math.nan)
    a, b = (each - each.mean(-1, keepdim=True) for each in (first, second))
    # Scaled first, so that tiny maps do not vanish in their squares.
    a, b = (each / each.abs().amax(-1, keepdim=True) for each in (a, b))
    found = (a * b).sum(-1) / (a.square().sum(-1) * b.square().sum(-1)).sqrt()
    # By the values: the mean of equal numbers need not be that number.
    constant = _constant(first) | _constant(second)
    return torch.where(constant, math.nan, found.clamp(-1, 1))


def spearman(first: Float[Tensor, "*axes n"], second: Float[Tensor, "*axes n"]) -> Float[Tensor, "*axes"]:
    """Spearman's rank correlation over the last axis, ties at their average rank.

    Args:
        first, second: (..., n).

    Returns:
        (...), in [-1, 1]; NaN where either side is constant or holds NaN.

    Example:
        >>> spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 8.0, 27.0]))
        tensor(1., dtype=torch.float64)
    """
    return pearson(average_ranks(first), average_ranks(second))


def average_ranks(values: Float[Tensor, "*axes n"]) -> Float[Tensor, "*axes n"]:
    """Ranks from 0 for the lowest; equal values share the mean of theirs, and NaN makes all of a row NaN."""
    count = values.shape[-1]
    exact = exact_type(values.device)
    if not count:
        return values.to(exact)
    ordered, order = values.sort(-1)
    changes = ordered[..., 1:] != ordered[..., :-1]
    end = torch.ones_like(ordered[..., :1], dtype=torch.bool)
    place = torch.arange(count, device=values.device).expand(values.shape)
    start = torch.where(torch.cat([end, changes], -1), place, 0).cummax(-1).values
    stop = torch.where(torch.cat([changes, end], -1), place, count).flip(-1).cummin(-1).values.flip(-1)
    shared = (start + stop).to(exact) / 2
    ranks = torch.empty_like(shared).scatter_(-1, order, shared)
    return torch.where(values.isnan().any(-1, keepdim=True), math.nan, ranks)


def ssim(first: Float[Tensor, "*axes H W"], second: Float[Tensor, "*axes H W"]) -> Float[Tensor, "*axes"]:
    """Mean structural similarity (Wang et al., IEEE TIP 2004) of maps in [0, 1].

    A Gaussian window of 11 x 11 pixels, sigma 1.5, wholly inside the map; variances are those of the window itself,
    not of a sample. In scikit-image that is `structural_similarity(a, b, data_range=1, gaussian_weights=True,
    sigma=1.5, use_sample_covariance=False)`.

    Args:
        first, second: (..., H, W) in [0, 1].

    Returns:
        (...), 1 for equal maps, two constant ones included.

    Raises:
        InputError: a side is shorter than the window.
    """
    height, width = first.shape[-2:]
    if min(height, width) < WINDOW:
        raise InputError(f"SSIM slides a window of {WINDOW} pixels over maps; these are {height} x {width}")
    # Variances are differences of nearly equal means: float32 keeps too few of their digits.
    a, b = (each.to(exact_type(each.device)).reshape(-1, 1, height, width) for each in (first, second))
    offsets = torch.arange(WINDOW, dtype=a.dtype, device=a.device) - WINDOW // 2
    kernel = torch.exp(-offsets.square() / (2 * SIGMA**2))
    kernel = kernel / kernel.sum()

    def mean(values: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(values, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))

    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    c1, c2 = _K1**2, _K2**2
    found = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    )
    return found.mean((-3, -2, -1)).reshape(first.shape[:-2])


def hog(maps: Float[Tensor, "*axes H W"]) -> Float[Tensor, "*axes n"]:
    """Histograms of oriented gradients (Dalal and Triggs, CVPR 2005), one vector per map.

    Central differences, 0 at the border; orientations without sign in 8 bins of 22.5 degrees, weighted by the
    gradient's length and not shared between bins; cells of 16 x 16 pixels (of the shorter side, for smaller maps), what
    is left over at the right and below ignored; each cell scaled to length 1. Blocks are single cells.

    Args:
        maps: (..., H, W).

    Returns:
        (..., rows * columns * 8).
    """
    height, width = maps.shape[-2:]
    cell = min(CELL, height, width)
    rows, columns = height // cell, width // cell
    values = maps.to(exact_type(maps.device)).reshape(-1, height, width)
    down, right = torch.zeros_like(values), torch.zeros_like(values)
    down[:, 1:-1] = values[:, 2:] - values[:, :-2]
    right[:, :, 1:-1] = values[:, :, 2:] - values[:, :, :-2]
    turn = torch.atan2(down, right).remainder(math.pi) * (ORIENTATIONS / math.pi)
    bins = turn.floor().long().remainder(ORIENTATIONS)
    strength = torch.zeros(len(values), ORIENTATIONS, height, width, dtype=values.dtype, device=values.device)
    strength.scatter_(1, bins[:, None], torch.hypot(down, right)[:, None])
    inside = strength[..., : rows * cell, : columns * cell].reshape(
        len(values), ORIENTATIONS, rows, cell, columns, cell
    )
    cells = inside.mean((3, 5))
    cells = cells / (cells.square().sum(1, keepdim=True) + _EPSILON**2).sqrt()
    return cells.permute(0, 2, 3, 1).reshape(*maps.shape[:-2], rows * columns * ORIENTATIONS)


def _constant(values: Float[Tensor, "*axes n"]) -> Tensor:
    return values.amax(-1) == values.amin(-1)
