"""ROAD: what a class loses as the pixels that rank highest, or lowest, are filled in from their surroundings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor

from seewhy.evaluation.imputation import imputed
from seewhy.evaluation.metric import Batch, Measured, Metric
from seewhy.evaluation.perturbed import PRECISION, changed_scores
from seewhy.evaluation.ranking import AT_RANDOM, constant, ranks
from seewhy.evaluation.table import Table, weighted_mean
from seewhy.explainers.draws import generator, normal
from seewhy.explanation import Cost
from seewhy.network.network import main_output
from seewhy.network.precision import Precision
from seewhy.targets import BoundTarget

_ORDERS = {"combined": ("morf", "lerf"), "morf": ("morf",), "lerf": ("lerf",)}


class ROAD(Metric):
    """ROAD (Rong et al., ICML 2022): score without the most (MoRF) and without the least relevant pixels (LeRF).

    What is missing is filled in by noisy linear imputation, which tells the network less of where it was than a colour
    does. Of every order the mean over the percentiles is taken, of what the score loses (MoRF) or gains (LeRF) to what
    it was: higher is better for each. `combined`, their mean, is (LeRF - MoRF) / 2; a random map has 0.
    """

    title: ClassVar[str] = "ROAD"
    paper: ClassVar[str] = "Rong et al., ICML 2022"
    needs_truth: ClassVar[bool] = False
    pictures: ClassVar[int] = 30
    presets: ClassVar = {
        "combined": {},
        "confidence": {"order": "morf"},
        "accuracy": {"order": "morf", "score": "accuracy"},
    }

    name: Literal["road"] = "road"
    order: Literal["combined", "morf", "lerf"] = Field(
        default="combined",
        description="Which pixels go first: the most relevant, the least relevant, or both.",
    )
    score: Literal["confidence", "accuracy"] = Field(
        default="confidence",
        description="The probability of the class that the map explains, or whether the network still puts it first.",
    )
    percentiles: tuple[float, ...] = Field(
        default=(10, 20, 30, 40, 50, 60, 70, 80, 90),
        description="Shares of the pixels taken away, in per cent.",
    )
    noise: float = Field(
        default=0.01,
        ge=0,
        description="Standard deviation added to what is filled in, in the network's input.",
    )
    precision: Precision = Field(default="float32", description=PRECISION)

    @field_validator("percentiles")
    @classmethod
    def _shares(cls, given: tuple[float, ...]) -> tuple[float, ...]:
        if not given or not all(0 < each < 100 for each in given):
            raise ValueError("percentiles lie between 0 and 100, both excluded: something must stay known")
        return given

    def plan(self, size: tuple[int, int], explaining: Cost) -> Cost:
        orders = 2 if self.order == "combined" else 1
        return Cost(forwards=1 + orders * len(self.percentiles))

    def measure(self, batch: Batch) -> Measured:
        maps = batch.evidence
        places = ranks(maps, batch.keys, self.seed)
        size = maps.shape[-2] * maps.shape[-1]
        takes = torch.tensor([int(size * each / 100) for each in self.percentiles], device=maps.device)
        orders, steps = _ORDERS[self.order], len(takes)
        pictures = batch.pixels
        each = 1 + len(orders) * steps  # the first one is the picture itself

        def changed(rows: Tensor, numbers: Tensor) -> Tensor:
            columns, steps_ = numbers // each, numbers % each
            which = (steps_ - 1) % steps
            place = places[rows, columns]
            many = takes[which][:, None, None]
            least = torch.tensor([order == "lerf" for order in orders], device=rows.device)
            lowest = least[((steps_ - 1) // steps).clamp_min(0)][:, None, None]
            missing = torch.where(lowest, place >= size - many, place < many) & (steps_ > 0)[:, None, None]
            filled = imputed(pictures[rows], missing)
            if self.noise:
                filled = filled + missing[:, None] * self.noise * self._drawn(batch, rows, which).to(filled)
            return filled

        targets = maps.shape[1]
        ask = BoundTarget.as_probability if self.score == "confidence" else _first
        found = changed_scores(batch, targets * each, changed, ask, self.precision)
        own = torch.arange(targets, device=found.device).repeat_interleave(each)
        found = found.gather(2, own.expand(len(found), -1)[..., None])[..., 0]
        return Measured(found.view(-1, targets, each), dict.fromkeys(constant(maps), AT_RANDOM))

    def per_row(self, data: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
        changes = {name: curve.mean(1) - data[:, 0] for name, curve in self._curves(data).items()}
        better = [-change if name == "morf" else change for name, change in changes.items()]
        return torch.stack(better).mean(0)

    def details(self, table: Table) -> dict[str, Tensor]:
        """`clean`: the mean score of the pictures; `morf` and `lerf`, means over them, at each share in `removed`."""
        once = torch.ones_like(table.exact[:, :1]).T
        found = {
            "clean": weighted_mean(table.exact[:, 0], once)[0],
            "removed": torch.tensor(self.percentiles, dtype=torch.float64) / 100,
        }
        for name, curve in self._curves(table.exact).items():
            found[name] = torch.cat([weighted_mean(column, once) for column in curve.unbind(1)])
        return found

    def _curves(self, data: Float[Tensor, "N V"]) -> dict[str, Float[Tensor, "N S"]]:
        orders = _ORDERS[self.order]
        return dict(zip(orders, data[:, 1:].chunk(len(orders), 1), strict=True))

    def _drawn(self, batch: Batch, rows: Tensor, which: Tensor) -> Float[Tensor, "M C H W"]:
        """Normal noise of a picture and a percentile, the same for both orders and for all methods."""
        shape = batch.pixels.shape[1:]
        pairs = zip(rows.tolist(), which.tolist(), strict=True)
        # Number 0 of a picture's draws orders its ties.
        return torch.stack([normal(generator(batch.keys[row], self.seed, 1 + n), *shape) for row, n in pairs])


def _first(question: BoundTarget) -> BoundTarget:
    """Whether no class scores higher, 1 or 0; of a single logit, whether its answer is the more probable one."""

    def ask(outputs: Any, rows: Tensor) -> Tensor:
        output = main_output(outputs)
        if output.ndim == 1 or output.shape[1] == 1:
            assert question.probability is not None
            return (question.probability(outputs, rows) > 0.5).float()
        return (question.ask(outputs, rows) >= output.float().amax(1, keepdim=True)).float()

    return replace(question, ask=ask)
