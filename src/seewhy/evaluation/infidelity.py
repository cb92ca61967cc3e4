"""Infidelity: whether the map foretells what the score loses when something is taken from the picture."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from seewhy.evaluation.metric import Batch, Better, Measured, Metric
from seewhy.evaluation.perturbed import PRECISION, SUBSTRATES, Substrate, changed_scores, substituted
from seewhy.evaluation.ranking import places
from seewhy.evaluation.table import Table, weighted_mean
from seewhy.explainers.draws import generator, normal, uniform
from seewhy.explanation import Cost, upsample
from seewhy.network.precision import Precision, exact_type

_DRAWN = 16  # perturbations of a picture held at once


class Infidelity(Metric):
    """Infidelity (Yeh et al., NeurIPS 2019): mean (<I, map> - (y(x) - y(x - I)))^2 over perturbations I, of logits.

    A map with one number per pixel, as a layer's, enlarged, gives that number to every channel: <I, map> is the sum
    over the pixels of the map times I summed over the channels. The maps of the CAM family have no scale of the input:
    `scaled` multiplies each by what fits best, and tells the share of the changes that even so is not foretold.
    """

    title: ClassVar[str] = "Infidelity"
    paper: ClassVar[str] = "Yeh et al., NeurIPS 2019"
    better: ClassVar[Better] = "lower"
    needs_truth: ClassVar[bool] = False
    pictures: ClassVar[int] = 30
    of_pictures: ClassVar[bool] = True
    presets: ClassVar = {
        "gaussian": {},
        "gaussian-scaled": {"scaled": True},
        "square": {"perturbation": "square"},
        "square-scaled": {"perturbation": "square", "scaled": True},
    }

    name: Literal["infidelity"] = "infidelity"
    perturbation: Literal["gaussian", "square"] = Field(
        default="gaussian",
        description="What is taken away: normal noise, or the difference to the baseline in a square at random.",
    )
    samples: int = Field(default=100, ge=2, le=100_000, description="Perturbations.")
    noise: float = Field(
        default=0.1, gt=0, description="Standard deviation of `gaussian`, in the network's input."
    )
    side: int | None = Field(
        default=None,
        ge=1,
        description="Of the square, in pixels; a seventh of the shorter side by default.",
    )
    baseline: Substrate = Field(default="zero", description=f"What fills the square: {SUBSTRATES}.")
    multiplied: bool = Field(
        default=False,
        description="The map is of gradient times input, or sums up to a score: it is summed over the square instead.",
    )
    scaled: bool = Field(
        default=False,
        description="Multiply each map by what fits best, and divide by the mean squared change: 0 foretells all "
        "changes, 1 none.",
    )
    precision: Precision = Field(default="float32", description=PRECISION)

    @model_validator(mode="after")
    def _only_squares_are_summed_over(self) -> Infidelity:
        if self.multiplied and self.perturbation != "square":
            raise ValueError("multiplied: only a square can be summed over; take perturbation='square'")
        return self

    def plan(self, size: tuple[int, int], explaining: Cost) -> Cost:
        return Cost(forwards=1 + self.samples)

    def measure(self, batch: Batch) -> Measured:
        changes, foretold = self._changes(batch)
        data = torch.stack(
            [
                (foretold - changes).square().mean(1),
                foretold.square().mean(1),
                (foretold * changes).mean(1),
                changes.square().mean(1),
            ],
            dim=2,
        )
        if not self.scaled:
            return Measured(data)
        deaf = data[..., 3] == 0
        remarks = dict.fromkeys(places(deaf), "no perturbation changes the score")
        return Measured(torch.where(deaf[..., None], math.nan, data), remarks)

    def per_row(self, data: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
        return 1 - _explained(data) if self.scaled else data[:, 0]

    def details(self, table: Table) -> dict[str, Tensor]:
        """Means over the rows: `explained`, the share of the squared changes that the map foretells once it is scaled;
        `change`, the mean squared change, which a map of zeros has for infidelity; of each row the `scale`.
        """
        data = table.exact
        once = torch.ones_like(data[:, :1]).T
        return {
            "explained": weighted_mean(_explained(data), once)[0],
            "change": weighted_mean(data[:, 3], once)[0],
            "scale": data[:, 2] / data[:, 1],
        }

    def _changes(self, batch: Batch) -> tuple[Float[Tensor, "B N T"], Float[Tensor, "B N T"]]:
        """What the logits lose by each perturbation, and what the maps foretell."""
        pictures, maps = batch.pixels, batch.explanation.at()
        exact = exact_type(maps.device)
        # A pixel method has a number for every channel.
        split = maps.ndim == 5
        maps = (maps if split else upsample(maps, batch.explanation.size)).flatten(2).to(exact)
        background = substituted(batch.network, pictures, self.baseline)

        def changed(rows: Tensor, numbers: Tensor) -> Tensor:
            return pictures[rows] - self._drawn(batch, background, rows, numbers)[0]

        def scored() -> Tensor:
            # The last one is the picture itself.
            return changed_scores(batch, self.samples + 1, changed, lambda logits: logits, self.precision)

        drawn = (self.perturbation, self.samples, self.noise, self.side, self.baseline, self.seed)
        found = batch.once_of_pictures(("changes", *drawn, self.precision), scored).to(exact)
        foretold = maps.new_zeros((len(maps), self.samples, maps.shape[1]))
        for row, own in enumerate(maps):
            for start in range(0, self.samples, _DRAWN):
                numbers = torch.arange(start, min(start + _DRAWN, self.samples), device=maps.device)
                rows = torch.full_like(numbers, row)
                weight = self._drawn(batch, background, rows, numbers)[1]
                if not split:
                    weight = weight[:, :1] if self.multiplied else weight.sum(1, keepdim=True)
                foretold[row, numbers] = weight.flatten(1).to(exact) @ own.T
        return found[:, -1:] - found[:, :-1], foretold

    def _drawn(
        self, batch: Batch, background: Tensor, rows: Tensor, numbers: Tensor
    ) -> tuple[Float[Tensor, "M C H W"], Float[Tensor, "M C H W"]]:
        """What is taken from each picture, and what the map is multiplied by."""
        pictures = batch.pixels
        pairs = list(zip(rows.tolist(), numbers.tolist(), strict=True))
        draws = [generator(batch.keys[row], self.seed, 1 + number) for row, number in pairs]
        taken = (numbers < self.samples)[:, None, None, None]
        if self.perturbation == "gaussian":
            noise = torch.stack([normal(each, *pictures.shape[1:]) for each in draws])
            noise = self.noise * noise.to(pictures) * taken
            return noise, noise
        height, width = pictures.shape[-2:]
        side = min(self.side or max(1, round(min(height, width) / 7)), height, width)
        free = torch.tensor([height - side + 1, width - side + 1])
        corners = (torch.stack([uniform(each, 2) for each in draws]) * free).long()
        down, right = (
            torch.arange(size, device=rows.device) - corner.to(rows.device)[:, None]
            for size, corner in zip((height, width), corners.unbind(1), strict=True)
        )
        inside = ((down >= 0) & (down < side))[:, None, :, None] & ((right >= 0) & (right < side))[
            :, None, None
        ]
        square = (inside & taken).to(pictures).expand(-1, pictures.shape[1], -1, -1)
        difference = (pictures[rows] - background[rows]) * square
        return difference, square if self.multiplied else difference


def _explained(data: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
    """1 - the mean squared error of the map scaled by what fits best, over that of zeros."""
    _, squares, products, changes = data.unbind(1)
    share = products.square() / (squares * changes)
    share = torch.where(squares == 0, 0.0, share)
    return torch.where((changes == 0) | torch.isnan(changes), math.nan, share)
