"""Insertion and deletion: how a class's score changes as pixels come and go in the order of the map."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seewhy.evaluation.metric import Batch, Better, Measured, Metric
from seewhy.evaluation.perturbed import PRECISION, SUBSTRATES, Score, Substrate, scores, untouched
from seewhy.evaluation.ranking import AT_RANDOM, constant, ranks
from seewhy.evaluation.table import Table, weighted_mean
from seewhy.explanation import Cost
from seewhy.network.precision import Precision

_LEAST_SPAN = 0.05  # between the ends of a curve: below it, a normalised area is noise


class _Curve(Metric):
    """Base of the metrics that read curves (N, steps + 1); step 0 and the last step included."""

    needs_truth: ClassVar[bool] = False

    rows: int = Field(
        default=8,
        ge=1,
        description="Pixels per step, in rows of the picture: 8 are 1,792 pixels at 224 x 224.",
    )
    score: Score = Field(default="probability", description="Of the class that the map explains.")
    precision: Precision = Field(default="float32", description=PRECISION)

    @abstractmethod
    def curves(self, batch: Batch) -> Float[Tensor, "B T V"]:
        """The curves, one behind the other."""

    def measure(self, batch: Batch) -> Measured:
        remarks = dict.fromkeys(constant(batch.evidence), AT_RANDOM)
        return Measured(self.curves(batch), remarks)

    def plan(self, size: tuple[int, int], explaining: Cost) -> Cost:
        return Cost(forwards=self._steps(size[0]) + 1)

    def _steps(self, height: int) -> int:
        return -(-height // self.rows)

    def per_row(self, data: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
        return area(data)

    def details(self, table: Table) -> dict[str, Tensor]:
        """`curves` (N, steps + 1), their mean `curve`, and `normalised`: (area - end) / (start - end) of each row."""
        return _described(table.exact)

    def _curve(self, batch: Batch, substrate: Substrate, insert: bool) -> Float[Tensor, "B T S"]:
        key = ("curve", substrate, insert, self.rows, self.score, self.precision, self.seed)
        return batch.once(key, lambda: self._scored(batch, substrate, insert))

    def _scored(self, batch: Batch, substrate: Substrate, insert: bool) -> Float[Tensor, "B T S"]:
        maps = batch.evidence
        order = ranks(maps, batch.keys, self.seed)
        height, width = maps.shape[-2:]
        step = self.rows * width
        count = self._steps(height)

        def keep(rows: Tensor, columns: Tensor, steps: Tensor) -> Tensor:
            if insert:
                return order[rows, columns] < (steps * step)[:, None, None]
            return order[rows, columns] >= ((steps + 1) * step)[:, None, None]

        whole = untouched(batch, self.score, self.precision)[..., None]
        changed = scores(batch, count, keep, substrate, self.score, self.precision)
        return torch.cat([changed, whole] if insert else [whole, changed], dim=2)


class Insertion(_Curve):
    """Insertion (Petsiuk et al., RISE, BMVC 2018): area under the score as the highest pixels enter a blurred picture.

    Presets `rise` and `group-cam` (Zhang et al., 2021) differ in the blur; numbers under different ones do not compare.
    """

    title: ClassVar[str] = "Insertion"
    paper: ClassVar[str] = "Petsiuk et al., BMVC 2018"
    presets: ClassVar = {"rise": {}, "group-cam": {"substrate": "blur-51"}}

    name: Literal["insertion"] = "insertion"
    substrate: Substrate = Field(default="blur-11", description=f"What the picture enters: {SUBSTRATES}.")

    def curves(self, batch: Batch) -> Float[Tensor, "B T V"]:
        return self._curve(batch, self.substrate, insert=True)


class Deletion(_Curve):
    """Deletion (Petsiuk et al., RISE, BMVC 2018): area under the score as the highest pixels are taken away.

    Presets `rise` and `group-cam` are the same here: zeros in the network's input, 8 rows a step, probability.
    """

    title: ClassVar[str] = "Deletion"
    paper: ClassVar[str] = "Petsiuk et al., BMVC 2018"
    better: ClassVar[Better] = "lower"
    presets: ClassVar = {"rise": {}, "group-cam": {}}

    name: Literal["deletion"] = "deletion"
    substrate: Substrate = Field(default="zero", description=f"What is left behind: {SUBSTRATES}.")

    def curves(self, batch: Batch) -> Float[Tensor, "B T V"]:
        return self._curve(batch, self.substrate, insert=False)


class InsertionDeletion(_Curve):
    """Insertion minus deletion, the "over-all" score of Group-CAM (Zhang et al., 2021).

    Deletion favours scattered maps and insertion smooth ones: the details hold both.
    """

    title: ClassVar[str] = "Insertion - deletion"
    paper: ClassVar[str] = "Zhang et al., 2021"
    holds: ClassVar[tuple[str, ...]] = ("insertion", "deletion")
    presets: ClassVar = {"rise": {}, "group-cam": {"insertion_substrate": "blur-51"}}

    name: Literal["insertion-deletion"] = "insertion-deletion"
    insertion_substrate: Substrate = Field(
        default="blur-11", description=f"What the picture enters: {SUBSTRATES}."
    )
    deletion_substrate: Substrate = Field(default="zero", description=f"What is left behind: {SUBSTRATES}.")

    def curves(self, batch: Batch) -> Float[Tensor, "B T V"]:
        both = [
            self._curve(batch, self.insertion_substrate, insert=True),
            self._curve(batch, self.deletion_substrate, insert=False),
        ]
        return torch.cat(both, dim=2)

    def plan(self, size: tuple[int, int], explaining: Cost) -> Cost:
        return Cost(forwards=2 * self._steps(size[0]) + 1)

    def per_row(self, data: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
        inserted, deleted = _halves(data)
        return area(inserted) - area(deleted)

    def details(self, table: Table) -> dict[str, Tensor]:
        """`insertion` and `deletion`, and what each has by itself: `insertion_curve` and so on."""
        found = {}
        for name, data in zip(("insertion", "deletion"), _halves(table.exact), strict=True):
            once = torch.ones_like(data[:, :1]).T
            found[name] = weighted_mean(area(data), once)[0]
            found |= {f"{name}_{key}": values for key, values in _described(data).items()}
        return found


def area(curves: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
    """Trapezoid rule over steps of equal length that sum to 1."""
    return (curves.sum(1) - (curves[:, 0] + curves[:, -1]) / 2) / (curves.shape[1] - 1)


def _halves(data: Float[Tensor, "N V"]) -> tuple[Float[Tensor, "N S"], Float[Tensor, "N S"]]:
    middle = data.shape[1] // 2
    return data[:, :middle], data[:, middle:]


def _described(curves: Float[Tensor, "N V"]) -> dict[str, Tensor]:
    once = torch.ones_like(curves[:, :1]).T
    mean = torch.cat([weighted_mean(column, once) for column in curves.unbind(1)])
    start, end = curves[:, 0], curves[:, -1]
    span = torch.where((start - end).abs() < _LEAST_SPAN, math.nan, start - end)
    return {"curves": curves, "curve": mean, "normalised": (area(curves) - end) / span}
