"""MaxBoxAcc: how often a box from the map fits the object, at the best threshold shared by all pictures."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from seewhy.evaluation.box_extractors import overlap, wsol, wsol_best
from seewhy.evaluation.metric import Batch, Measured, Metric
from seewhy.evaluation.regions import Match, framed, objects
from seewhy.evaluation.table import Table
from seewhy.truth import Object


class MaxBoxAcc(Metric):
    """MaxBoxAcc (Choe et al., CVPR 2020): max over thresholds of the share of pictures whose box has IoU >= delta.

    Boxes are those of the public evaluation: the map as 8 bits, the largest contour above each level, an overlap that
    counts both corners. A map without a box is an error. The best threshold of the pictures it is reported on flatters:
    `fixed` takes it from another split.
    """

    title: ClassVar[str] = "MaxBoxAcc"
    paper: ClassVar[str] = "Choe et al., CVPR 2020"
    tuned: ClassVar[str] = "thresholds"

    name: Literal["max-box-acc", "max-box-acc-v2"] = "max-box-acc"
    match: Match = Field(
        default="explained",
        description="Which objects count: those of the class that a map explains, or those of the picture's label.",
    )
    boxes: Literal["largest", "all"] = Field(
        default="largest", description="The box of the largest contour, or the best of all components' boxes."
    )
    deltas: tuple[float, ...] = Field(
        default=(0.5,), min_length=1, description="Overlaps asked for; the value is the mean over them."
    )
    thresholds: tuple[float, ...] | None = Field(
        default=None,
        description="One in [0, 1) per delta, found on another split; None: the best on these pictures.",
    )

    @model_validator(mode="after")
    def _one_threshold_per_delta(self) -> MaxBoxAcc:
        fixed = self.thresholds
        if fixed is not None and (len(fixed) != len(self.deltas) or not all(0 <= each < 1 for each in fixed)):
            raise ValueError(f"{len(self.deltas)} thresholds in [0, 1) are needed, not {fixed}")
        return self

    def tune(self, table: Table) -> tuple[float, ...]:
        return tuple(self.details(table)["thresholds"].tolist())

    def measure(self, batch: Batch) -> Measured:
        labels = batch.explanation.labels
        data = torch.full((len(labels), len(labels[0]), 255), math.nan)
        remarks: dict[tuple[int, int], str] = {}
        for part in framed(batch):
            for row, each, truth in zip(part.rows, part.maps.cpu().numpy(), part.truths, strict=True):
                for column, label in enumerate(labels[row]):
                    found = objects(truth, label, batch.network, self.match)
                    boxes = corners(found, truth.size)
                    if not len(boxes):
                        why = (
                            f"nothing of {label!r} is visible" if found else f"the picture shows no {label!r}"
                        )
                        remarks[row, column] = why
                        continue
                    data[row, column] = torch.from_numpy(self._overlaps(each[column], boxes)).to(data)
                    if each[column].min() == each[column].max():
                        remarks[row, column] = "the map is constant: it has no box, which is an error"
        return Measured(data.to(batch.pixels.device), remarks)

    def _overlaps(
        self, values: Float[np.ndarray, "H W"], truth: Int[np.ndarray, "M 4"]
    ) -> Float[np.ndarray, "255"]:
        if self.boxes == "all":
            return wsol_best(values, truth)
        best: Float[np.ndarray, "255"] = overlap(wsol(values), truth).max(1)
        return best

    def per_row(self, data: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
        """Share of the deltas that each row reaches, at the thresholds used."""
        levels = self._levels(data)
        reached = torch.stack(
            [data[:, level] >= delta for delta, level in zip(self.deltas, levels, strict=True)]
        )
        return torch.where(torch.isfinite(data[:, 0]), reached.to(data).mean(0), math.nan)

    def aggregate(self, table: Table, weights: Float[Tensor, "R N"]) -> Float[Tensor, " R"]:
        """Without fixed thresholds, the best ones are chosen anew for each row of weights."""
        curves = self._curves(table.exact, weights)
        if self.thresholds is None:
            return curves.amax(2).mean(1)
        return torch.stack([curves[:, k, level] for k, level in enumerate(self._levels(table.exact))]).mean(0)

    def details(self, table: Table) -> dict[str, Tensor]:
        """`curves`: accuracy by delta and level (D, 255). `thresholds`: those used (D,), each amid its level."""
        data = table.exact
        curves = self._curves(data, torch.ones_like(data[:, :1]).T)[0]
        levels = torch.tensor(self._levels(data), device=data.device)
        return {"curves": curves, "thresholds": (levels.to(data) + 0.5) / 255}

    def _curves(
        self, data: Float[Tensor, "N 255"], weights: Float[Tensor, "R N"]
    ) -> Float[Tensor, "R D 255"]:
        """Accuracy under each row of weights, by delta and level."""
        counted = weights @ torch.isfinite(data[:, :1]).to(data)
        return torch.stack([weights @ (data >= delta).to(data) / counted for delta in self.deltas], dim=1)

    def _levels(self, data: Float[Tensor, "N 255"]) -> list[int]:
        """The 8-bit level of each delta: as fixed, or the lowest of the best."""
        if self.thresholds is not None:
            return [int(each * 255) for each in self.thresholds]
        curves = self._curves(data, torch.ones_like(data[:, :1]).T)[0]
        return [int((curve == curve.max()).int().argmax()) for curve in curves.cpu()]


class MaxBoxAccV2(MaxBoxAcc):
    """MaxBoxAccV2 (Choe et al., TPAMI 2022): mean over IoU 0.3, 0.5, 0.7 of MaxBoxAcc with the best of all boxes."""

    title: ClassVar[str] = "MaxBoxAccV2"
    paper: ClassVar[str] = "Choe et al., TPAMI 2022"

    name: Literal["max-box-acc", "max-box-acc-v2"] = "max-box-acc-v2"
    boxes: Literal["largest", "all"] = Field(default="all", description="As in `max-box-acc`.")
    deltas: tuple[float, ...] = Field(
        default=(0.3, 0.5, 0.7), min_length=1, description="As in `max-box-acc`."
    )


def corners(found: list[Object], size: tuple[int, ...]) -> Int[np.ndarray, "M 4"]:
    """Boxes of objects within the picture, both corners inside; those wholly outside are left out."""
    height, width = size
    boxes = [
        (max(each.box.x0, 0), max(each.box.y0, 0), min(each.box.x1, width) - 1, min(each.box.y1, height) - 1)
        for each in found
    ]
    return np.array([box for box in boxes if box[0] <= box[2] and box[1] <= box[3]], np.int64).reshape(-1, 4)
