"""Occlusion correlation: whether the map ranks the cells of a picture as covering them one by one does."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seewhy.evaluation.metric import Batch, Measured, Metric
from seewhy.evaluation.perturbed import PRECISION, SUBSTRATES, Substrate, changed_scores, substituted
from seewhy.evaluation.ranking import places
from seewhy.evaluation.similarity import spearman
from seewhy.explanation import Cost, upsample
from seewhy.network.precision import Precision
from seewhy.targets import BoundTarget

_ROUNDING = (
    1e-5  # of the probability: less is what float32 forwards make of it, and would rank cells at random
)


class OcclusionCorrelation(Metric):
    """Occlusion correlation: Spearman's, between a cell's mean evidence and what the class loses when it is covered.

    Equals share the mean of their ranks; losses that differ by less than 1e-5 of the probability are equal.
    """

    title: ClassVar[str] = "Occlusion correlation"
    paper: ClassVar[str] = "Zeiler and Fergus, ECCV 2014"
    needs_truth: ClassVar[bool] = False
    pictures: ClassVar[int] = 30
    of_pictures: ClassVar[bool] = True
    presets: ClassVar = {"evidence": {}, "signed": {"reads": "signed"}}

    name: Literal["occlusion-correlation"] = "occlusion-correlation"
    cell: int = Field(default=16, ge=1, description="Side of a cell in pixels; the last ones may be smaller.")
    reads: Literal["evidence", "signed"] = Field(
        default="evidence",
        description="The rectified map, or the signed one, which can rank what speaks against the class, too.",
    )
    baseline: Substrate = Field(default="zero", description=f"What covers a cell: {SUBSTRATES}.")
    precision: Precision = Field(default="float32", description=PRECISION)

    def plan(self, size: tuple[int, int], explaining: Cost) -> Cost:
        return Cost(forwards=1 + math.ceil(size[0] / self.cell) * math.ceil(size[1] / self.cell))

    def measure(self, batch: Batch) -> Measured:
        signed = self.reads == "signed"
        maps = upsample(batch.explanation.grid(), batch.explanation.size) if signed else batch.evidence
        means = self._means(maps).flatten(2)
        key = ("cells", self.cell, self.baseline, self.precision)
        lost = batch.once_of_pictures(key, lambda: self._lost(batch))
        steps = _ROUNDING * lost[..., -1:].clamp_min(torch.finfo(lost.dtype).tiny)
        drops = (lost[..., :-1] / steps).round()
        data = spearman(means.to(drops.dtype), drops)[..., None]
        flat = dict.fromkeys(places(drops.amax(2) == drops.amin(2)), "no cell's covering changes the score")
        same = dict.fromkeys(
            places(means.amax(2) == means.amin(2)), "the map has the same mean in every cell"
        )
        return Measured(data, flat | same)

    def _means(self, maps: Float[Tensor, "B T H W"]) -> Float[Tensor, "B T h w"]:
        """The mean of every cell, of those at the border over what lies inside the picture."""
        height, width = maps.shape[-2:]
        window = (min(self.cell, height), min(self.cell, width))
        means = F.avg_pool2d(maps, window, window, ceil_mode=True, count_include_pad=False)
        # The mean of equals may round differently in cells of another size.
        flat = maps.amax((-2, -1)) == maps.amin((-2, -1))
        return torch.where(flat[..., None, None], 0.0, means)

    def _lost(self, batch: Batch) -> Float[Tensor, "B T V"]:
        """What the probability loses with each cell, and behind it the probability itself."""
        pictures = batch.pixels
        background = substituted(batch.network, pictures, self.baseline)
        height, width = pictures.shape[-2:]
        rows, columns = (torch.arange(side, device=pictures.device) // self.cell for side in (height, width))
        cells = rows[:, None] * (-(-width // self.cell)) + columns
        count = int(cells.max()) + 1

        def changed(rows: Tensor, numbers: Tensor) -> Tensor:
            covered = (cells == numbers[:, None, None])[:, None]
            return torch.where(covered, background[rows], pictures[rows])

        # The last number covers no cell.
        found = changed_scores(batch, count + 1, changed, BoundTarget.as_probability, self.precision)
        found = found.transpose(1, 2)
        return torch.cat([found[..., -1:] - found[..., :-1], found[..., -1:]], dim=2)
