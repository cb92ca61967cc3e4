"""Regions of masks: their connected parts, each with what perturbing it alone costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seewhy.errors import InputError
from seewhy.explainers.baseline import Baseline, baseline
from seewhy.explainers.masking import answers, fitting
from seewhy.explainers.study import Study
from seewhy.explanation import Explanation
from seewhy.network.network import Network
from seewhy.network.precision import chunked
from seewhy.render.runs import components, runs
from seewhy.targets import TargetLike, as_target
from seewhy.truth import Box, tight_box

THRESHOLD = 128 / 255
SMALLEST, MOST = 0.01, 3


@dataclass(frozen=True, eq=False)
class Region:
    """A connected part of a mask.

    Attributes:
        mask: its pixels (H, W), in the network's input.
        box: around it.
        area: share of the picture.
        score: 1 - p, the target's probability when it alone is perturbed; the loss of the score for targets that
            are no classes.
        drop: what of the score is lost, as a share of it.
    """

    mask: Bool[np.ndarray, "H W"]
    box: Box
    area: float
    score: float
    drop: float

    @property
    def per_area(self) -> float:
        """The drop for each share of the picture."""
        return self.drop / self.area

    def hull(self) -> list[tuple[int, int]]:
        """Corners (x, y) of the smallest convex polygon round its pixels."""
        return convex_hull(self.mask)


def connected(
    mask: Float[np.ndarray, "H W"], threshold: float = THRESHOLD, smallest: float = SMALLEST
) -> list[Bool[np.ndarray, "H W"]]:
    """The parts of a mask that are connected, corners included, the largest first.

    Args:
        mask: values in [0, 1].
        threshold: above which a pixel counts.
        smallest: share of the picture under which a part is left out.
    """
    found = runs(mask > threshold)
    numbers = components(found)
    parts = []
    for number in range(int(numbers.max(initial=-1)) + 1):
        part = np.zeros(mask.shape, bool)
        for run in np.flatnonzero(numbers == number):
            part[found.row[run], found.start[run] : found.end[run]] = True
        if part.sum() >= max(1.0, smallest * part.size):
            parts.append(part)
    return sorted(parts, key=lambda part: -int(part.sum()))


def mask_regions(
    network: Network | nn.Module,
    images: Any,
    explanation: Explanation,
    target: TargetLike = None,
    *,
    threshold: float = THRESHOLD,
    smallest: float = SMALLEST,
    most: int = MOST,
    background: Baseline = "blur",
) -> list[list[list[Region]]]:
    """Per picture and target the regions of its mask that cost most when each alone is perturbed.

    Godi et al., BMVC 2018, who keep the best three of those that cover 1 % of the picture.

    Args:
        network: that was explained.
        images: as for the explainer.
        explanation: of these pictures, with maps at the size of the input.
        target: as for the explainer.
        threshold: of the mask, above which a pixel counts.
        smallest: share of the picture under which a region is left out.
        most: regions kept of each mask.
        background: what a region is perturbed by.

    Raises:
        InputError: the explanation is of other pictures, or has maps on a layer's grid.
    """
    network = Network.of(network)
    evidence = explanation.evidence()
    if explanation.grid().shape[-2:] != explanation.size:
        raise InputError(
            f"{explanation.method} draws on a layer's grid; regions are cut from masks of pixels"
        )
    rows: list[int] = []
    columns: list[int] = []
    parts: list[Bool[np.ndarray, "H W"]] = []
    for row, own in enumerate(evidence.cpu().numpy()):
        for column, mask in enumerate(own):
            for part in connected(mask, threshold, smallest):
                rows.append(row)
                columns.append(column)
                parts.append(part)
    before, after = perturbed(network, images, target, rows, columns, parts, background)
    if len(evidence) != len(before):
        raise InputError(f"{len(evidence)} pictures were explained, and {len(before)} are given")
    found: list[list[list[Region]]] = [[[] for _ in own] for own in evidence]
    for row, column, part, score in zip(rows, columns, parts, after, strict=True):
        whole = float(before[row, column])
        drop = (whole - score) / whole if whole else 0.0
        region = Region(part, tight_box(part), float(part.mean()), 1 - score, drop)
        found[row][column].append(region)
    return [[sorted(each, key=lambda region: -region.drop)[:most] for each in own] for own in found]


def perturbed(
    network: Network,
    images: Any,
    target: TargetLike,
    rows: Sequence[int],
    columns: Sequence[int],
    parts: Sequence[np.ndarray],
    background: Baseline = "blur",
    keep: bool = False,
) -> tuple[Float[Tensor, "B T"], list[float]]:
    """Scores of pictures as they are, and of pictures of which a part is perturbed, or all but that part.

    Args:
        network: that is asked.
        images: one picture input (B, C, H, W).
        target: the question; its classes' probabilities are what is scored.
        rows: of each part, the picture.
        columns: of each part, the target.
        parts: masks (H, W) of bool or of shares in [0, 1].
        background: what stands where it is perturbed.
        keep: perturb everything but the part.
    """
    with network.prepared(images) as arguments:
        study = Study(network, arguments, as_target(target), network.digest)
        question = study.question.as_probability()
        with torch.no_grad():
            before = question(study.outputs)
        key = arguments.pictures[0]
        pictures: Tensor = arguments[key]
        other = baseline(network, pictures, background)
        found: list[float] = []

        def run(start: int, stop: int) -> list[float]:
            own = torch.tensor(rows[start:stop], device=pictures.device)
            share = torch.from_numpy(np.stack(parts[start:stop])).to(pictures)[:, None]
            share = 1 - share if keep else share
            shown = torch.lerp(pictures[own], other[own], share)
            scores = answers(study, question, {key: shown}, own, "float32")
            wanted = torch.tensor(columns[start:stop], device=scores.device)[:, None]
            values: list[float] = scores.gather(1, wanted)[:, 0].tolist()
            return values

        if len(parts):
            for part in chunked(run, len(parts), fitting(study)):
                found += part
    return before, found


def convex_hull(mask: Bool[np.ndarray, "H W"]) -> list[tuple[int, int]]:
    """Corners (x, y) of the smallest convex polygon round a mask's pixels (Andrew's monotone chain, 1979)."""
    y, x = np.nonzero(mask)
    corners = {(int(i + a), int(j + b)) for j, i in zip(y, x, strict=True) for a in (0, 1) for b in (0, 1)}
    points = sorted(corners)

    def half(ordered: list[tuple[int, int]]) -> list[tuple[int, int]]:
        chain: list[tuple[int, int]] = []
        for point in ordered:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        return chain[:-1]

    return half(points) + half(points[::-1])


def _turn(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> int:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
