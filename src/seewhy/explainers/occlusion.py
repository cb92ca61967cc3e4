"""Occlusion: what the score loses when a window of the picture is covered."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seewhy.explainers.base import Workload
from seewhy.explainers.baseline import CHOICES, Baseline
from seewhy.explainers.masked_input import MaskedInput
from seewhy.explainers.masking import Masking, Score, score_masked
from seewhy.explainers.study import Study
from seewhy.explanation import Cost
from seewhy.network.layers import Site
from seewhy.network.network import Network
from seewhy.network.precision import Precision, exact_type


class Occlusion(MaskedInput):
    """Occlusion (Zeiler and Fergus, ECCV 2014): per pixel the mean loss of the score over the windows that cover it.

    Windows lie every `stride` pixels, the last ones flush with the border, so that no margin is left out.
    """

    title: ClassVar[str] = "Occlusion"
    paper: ClassVar[str] = "Zeiler and Fergus, ECCV 2014"

    name: Literal["occlusion"] = "occlusion"
    window: int | None = Field(
        default=None,
        ge=1,
        description="Side of the window in pixels; a seventh of the shorter side by default.",
    )
    stride: int | None = Field(
        default=None,
        ge=1,
        description="Pixels from window to window, a quarter of the window by default; what lies between windows "
        "further apart is zero.",
    )
    join: Literal["mean", "sum"] = Field(
        default="mean",
        description="What a pixel gets of the windows that cover it; the sum is smaller at the border.",
    )
    score: Score = Field(
        default="target",
        description="What is scored: the target, or its classes' probability, or the logarithm of that.",
    )
    baseline: Baseline = Field(default="zero", description=f"What covers a window: {CHOICES}.")

    # A window's loss is a small difference of scores: in bfloat16 the ranks of maps agree by less than 0.99.
    precision: Precision = Field(
        default="float32", description="Number format of the forwards. `auto`: bfloat16 where it is faster."
    )

    def plan(self, work: Workload, network: Network) -> Cost:
        windows = sum(1 + len(self._corners(size)) for size in work.sizes)
        return Cost(forwards=work.pictures * (1 + windows))

    def scored(
        self, study: Study, site: Site
    ) -> tuple[Float[Tensor, "B T H W"], Float[Tensor, "B N T"], Cost]:
        pictures: Tensor = study.arguments[site.input]
        size = (pictures.shape[-2], pictures.shape[-1])
        corners = self._corners(size).to(pictures.device)
        tall, wide = (min(self._window(size), side) for side in size)
        y, x = (torch.arange(side, device=pictures.device) for side in size)
        batch, targets = study.scores.shape
        # The first mask covers nothing: what it scores is compared with, in the same number format.
        scores = study.scores.new_zeros((batch, 1 + len(corners), targets))

        def masks(rows: Tensor, numbers: Tensor) -> Tensor:
            top, left = corners[(numbers - 1).clamp_min(0)].unbind(1)
            inside = ((y >= top[:, None]) & (y < top[:, None] + tall))[:, :, None]
            inside = inside & ((x >= left[:, None]) & (x < left[:, None] + wide))[:, None]
            return (~(inside & (numbers > 0)[:, None, None])).to(pictures.dtype)

        def collect(rows: Tensor, numbers: Tensor, found: Tensor, _masks: Tensor) -> None:
            scores[rows, numbers] = found

        how = Masking(self.baseline, self.score, self.precision)
        cost = score_masked(study, site.input, scores.shape[1], masks, collect, how)
        lost = (scores[:, :1] - scores[:, 1:]).transpose(1, 2)
        found = _spread(lost, corners, (tall, wide), size)
        if self.join == "mean":
            found = found / _spread(torch.ones_like(lost[:1, :1]), corners, (tall, wide), size).clamp_min(1)
        return found.float(), scores, cost

    def _window(self, size: tuple[int, int]) -> int:
        return self.window or max(1, round(min(size) / 7))

    def _corners(self, size: tuple[int, int]) -> Tensor:
        """Top and left of every window (R, 2)."""
        window = self._window(size)
        stride = self.stride or max(1, window // 4)
        starts = []
        for side in size:
            last = max(side - window, 0)
            starts.append(torch.tensor([*range(0, last, stride), last]))
        return torch.cartesian_prod(*starts).view(-1, 2)


def _spread(
    values: Float[Tensor, "B T R"], corners: Tensor, window: tuple[int, int], size: tuple[int, int]
) -> Float[Tensor, "B T H W"]:
    """The sum at every pixel of the values of the windows that cover it: each window is four steps of a sum."""
    (height, width), (tall, wide) = size, window
    steps = values.new_zeros((*values.shape[:2], height + 1, width + 1), dtype=exact_type(values.device))
    top, left = corners.unbind(1)
    for y, x, sign in (
        (top, left, 1),
        (top + tall, left, -1),
        (top, left + wide, -1),
        (top + tall, left + wide, 1),
    ):
        flat = y * (width + 1) + x
        steps.flatten(2).index_add_(2, flat, sign * values.to(steps.dtype))
    return steps.cumsum(2).cumsum(3)[:, :, :height, :width]
