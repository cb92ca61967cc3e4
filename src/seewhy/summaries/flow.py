"""From matched boxes to a map of every pixel, and a picture warped by it onto another."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from seewhy.errors import MissingExtraError
from seewhy.saliency.lab import lab
from seewhy.summaries.descriptors import Picture, levels

_SMOOTH, _GUIDE, _STEP = 20.0, 30.0, 15.0  # lambda, and the widths of the static and the dynamic guidance
_ROUNDS = 2
Flow = Float[np.ndarray, "H W 2"]
"""Where each pixel of the first picture lies in the second: x, y."""


def dense_flow(
    picture: Picture,
    first: Float[np.ndarray, "N 4"],
    second: Float[np.ndarray, "N 4"],
    confidence: Float[np.ndarray, " N"],
) -> Flow:
    """A map of all pixels from matched boxes (Proposal Flow: Ham et al., CVPR 2016).

    Each pixel follows the most confident match whose box covers it, from box to box. Of several that end at one pixel
    of the second picture the most confident is kept; the rest, and pixels that no box covers, are filled in from their
    neighbours, less across edges of the picture and of the map itself.

    Args:
        picture: the first, whose edges guide what is filled in.
        first: boxes x0, y0, x1, y1 in it.
        second: the box that each matches.
        confidence: of each match.

    Returns:
        The map; where nothing is matched at all, every pixel stays where it is.
    """
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width]
    here = np.stack([x, y], 2) + 0.5
    flow: Flow = here.astype(np.float64)
    covered = np.zeros((height, width), bool)
    sure = np.zeros((height, width))
    for place in np.argsort(-confidence, kind="stable"):
        (x0, y0, x1, y1), (u0, v0, u1, v1) = first[place], second[place]
        inside = (
            (here[..., 0] > x0) & (here[..., 0] < x1) & (here[..., 1] > y0) & (here[..., 1] < y1) & ~covered
        )
        scale = np.array([(u1 - u0) / (x1 - x0), (v1 - v0) / (y1 - y0)])
        flow[inside] = (here[inside] - [x0, y0]) * scale + [u0, v0]
        sure[inside] = confidence[place]
        covered |= inside
    kept = covered & _first_come(flow, sure, covered)
    if not kept.any():
        return flow
    found: Flow = here + _filled(flow - here, kept, picture)
    return found


def warped(picture: Picture, flow: Flow) -> Picture:
    """The second picture as the first one's pixels see it."""
    height, width = picture.shape[:2]
    grid = torch.from_numpy(flow / [width, height] * 2 - 1)[None].float()
    found = torch.nn.functional.grid_sample(
        levels(picture)[None], grid, padding_mode="border", align_corners=False
    )
    return np.asarray((found[0].permute(1, 2, 0) * 255).round().byte().numpy())


def _first_come(flow: Flow, sure: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Whether a pixel is the most confident of those that end at its target."""
    target = np.floor(flow).astype(np.int64)
    target -= target.min((0, 1))
    key = np.where(covered, target[..., 1] * (int(target[..., 0].max()) + 1) + target[..., 0], -1).ravel()
    order = np.lexsort((np.arange(key.size), -sure.ravel(), key))
    first = np.ones(key.size, bool)
    first[1:] = key[order][1:] != key[order][:-1]
    kept = np.zeros(key.size, bool)
    kept[order[first]] = True
    return kept.reshape(covered.shape)


def _filled(moves: Flow, kept: np.ndarray, picture: Picture) -> Flow:
    """The static and dynamic filter (Ham, Cho and Ponce, TPAMI 2018): a weighted least squares fit, twice."""
    sparse, solve = _scipy()
    height, width = kept.shape
    number = np.arange(height * width).reshape(height, width)
    ones = np.concatenate([number[:, :-1].ravel(), number[:-1].ravel()])
    others = np.concatenate([number[:, 1:].ravel(), number[1:].ravel()])
    colours = lab(levels(picture)[None])[0].permute(1, 2, 0).reshape(-1, 3).numpy().astype(np.float64)
    static = np.exp(-((colours[ones] - colours[others]) ** 2).sum(1) / (2 * _GUIDE**2))
    weight = kept.ravel().astype(np.float64)
    wanted = np.where(kept[..., None], moves, 0.0).reshape(-1, 2)
    found = np.where(kept[..., None], moves, np.median(moves[kept], 0)).reshape(-1, 2)
    for _ in range(_ROUNDS):
        dynamic = np.exp(-((found[ones] - found[others]) ** 2).sum(1) / (2 * _STEP**2))
        edges = _SMOOTH * np.maximum(static * dynamic, 1e-9)
        graph = sparse.coo_matrix((edges, (ones, others)), shape=(weight.size, weight.size))
        graph = (graph + graph.T).tocsr()
        system = sparse.diags(np.asarray(graph.sum(1)).ravel() + weight) - graph
        found = np.stack([solve(system.tocsc(), weight * wanted[:, axis]) for axis in (0, 1)], 1)
    filled: Flow = found.reshape(moves.shape)
    return filled


def _scipy() -> tuple[Any, Any]:
    try:
        from scipy import sparse
        from scipy.sparse.linalg import spsolve
    except ImportError as error:
        raise MissingExtraError("scipy", "summaries") from error
    return sparse, spsolve
