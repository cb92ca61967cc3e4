"""RISE: random masks, weighted by the score of what they leave."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seewhy.explainers.base import Workload
from seewhy.explainers.baseline import CHOICES, Baseline
from seewhy.explainers.draws import Seed, generator, picture_keys, uniform
from seewhy.explainers.masked_input import MaskedInput
from seewhy.explainers.masking import Masking, Score, score_masked
from seewhy.explainers.study import Study
from seewhy.explanation import Cost
from seewhy.network.layers import Site
from seewhy.network.network import Network
from seewhy.network.precision import exact_type


class RISE(MaskedInput):
    """RISE (Petsiuk et al., BMVC 2018): sum_i p(x * M_i) M_i / (q N) over N random soft masks M_i.

    Masks are small random grids, upsampled and shifted, drawn for every picture from its own pixels and the seed.
    The probability that the picture has on average under masks adds a constant to the whole map: it is taken off
    (`centre`), so that what is left speaks for or against; the paper leaves it (preset `paper`).
    """

    title: ClassVar[str] = "RISE"
    paper: ClassVar[str] = "Petsiuk et al., BMVC 2018"
    presets: ClassVar = {"paper": {"centre": False}}

    name: Literal["rise"] = "rise"
    masks: int = Field(default=4000, ge=2, le=100_000, description="How many masks, each one forward.")
    cells: int = Field(default=7, ge=1, le=64, description="Cells along each side of the random grid.")
    keep: float = Field(default=0.5, gt=0, lt=1, description="Probability that a cell is kept.")
    centre: bool = Field(default=True, description="Subtract the mean score first.")
    norm: Literal["expected", "empirical"] = Field(
        default="expected",
        description="Divide by the masks' expected sum q N, or by their sum at every pixel.",
    )
    score: Score = Field(
        default="probability",
        description="What is scored: the probability of the classes asked about, its logarithm, or the target itself, "
        "as are targets that are no classes.",
    )
    baseline: Baseline = Field(default="zero", description=f"What stands where a mask is 0: {CHOICES}.")
    seed: Seed = Field(default=0, description="Of the masks.")

    def plan(self, work: Workload, network: Network) -> Cost:
        return Cost(forwards=work.pictures * (1 + self.masks * work.inputs))

    def scored(
        self, study: Study, site: Site
    ) -> tuple[Float[Tensor, "B T H W"], Float[Tensor, "B N T"], Cost]:
        pictures: Tensor = study.arguments[site.input]
        size = (pictures.shape[-2], pictures.shape[-1])
        keys = picture_keys(pictures)
        batch, targets = study.scores.shape
        # What centring leaves is a small difference of large sums.
        exact = exact_type(pictures.device)
        scores = study.scores.new_zeros((batch, self.masks, targets), dtype=exact)
        weighted = study.scores.new_zeros((batch, targets, *size), dtype=exact)
        covered = study.scores.new_zeros((batch, *size), dtype=exact)

        def masks(rows: Tensor, numbers: Tensor) -> Tensor:
            chosen = [keys[row] for row in rows.tolist()]
            return random_masks(chosen, numbers.tolist(), self.seed, self.cells, self.keep, size).to(
                pictures.device
            )

        def collect(rows: Tensor, numbers: Tensor, found: Tensor, shown: Tensor) -> None:
            scores[rows, numbers] = found.to(exact)
            for row in sorted(set(rows.tolist())):
                own = rows == row
                weighted[row] += torch.einsum("mt,mhw->thw", found[own].to(exact), shown[own].to(exact))
                covered[row] += shown[own].to(exact).sum(0)

        how = Masking(self.baseline, self.score, self.precision)
        cost = score_masked(study, site.input, self.masks, masks, collect, how)
        mean = scores.mean(1)[:, :, None, None] * covered[:, None]
        values = weighted - mean if self.centre else weighted
        share = covered.clamp_min(1e-12)[:, None] if self.norm == "empirical" else self.keep * self.masks
        if self.centre:
            # Where no mask changes the score, what is left of the sums is rounding.
            values = torch.where((scores == scores[:, :1]).all(1)[:, :, None, None], 0.0, values)
        return (values / share).float(), scores, cost


def random_masks(
    keys: list[bytes], numbers: list[int], seed: int, cells: int, keep: float, size: tuple[int, int]
) -> Float[Tensor, "M H W"]:
    """Masks by picture and number: a random grid of 0 and 1, upsampled to one cell more than the picture, and cropped.

    Args:
        keys: of the pictures, one per mask (`picture_keys`).
        numbers: of the masks.
        seed: of the draws.
        cells: along each side of the grid.
        keep: probability of a 1.
        size: of the picture (H, W).
    """
    rows, columns = (_shifts(cells, side) for side in size)
    grids, down, right = [], [], []
    for key, number in zip(keys, numbers, strict=True):
        draws = uniform(generator(key, seed, number), cells * cells + 2)
        grids.append((draws[:-2] < keep).to(torch.float32).view(cells, cells))
        down.append(int(draws[-2] * len(rows)))
        right.append(int(draws[-1] * len(columns)))
    return rows[down] @ torch.stack(grids) @ columns[right].mT


def _shifts(cells: int, side: int) -> Float[Tensor, "c side cells"]:
    """Per shift the matrix that upsamples a side of the grid bilinearly and crops it to the picture's."""
    cell = -(-side // cells)
    weights = torch.nn.functional.interpolate(
        torch.eye(cells, dtype=torch.float32)[None], (cells + 1) * cell, mode="linear", align_corners=False
    )[0]
    return weights.unfold(1, side, 1)[:, :cell].permute(1, 2, 0).contiguous()
