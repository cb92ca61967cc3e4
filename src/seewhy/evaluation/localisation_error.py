"""Localisation error: is the picture's label known, and does a box from its map fit?"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from seewhy.errors import InputError
from seewhy.evaluation import box_extractors
from seewhy.evaluation.max_box_acc import corners
from seewhy.evaluation.metric import Batch, Better, Measured, Metric
from seewhy.evaluation.regions import framed, objects, same_class
from seewhy.evaluation.table import Table, weighted_mean

Kind = Literal["gt-known", "top-1", "top-5"]
_COLUMNS: dict[Kind, int] = {"gt-known": 0, "top-1": 1, "top-5": 2}


class LocalisationError(Metric):
    """Localisation error at IoU >= 0.5 of the box from the map of the picture's label (ILSVRC; CAM, CVPR 2016).

    `gt-known` asks for the box alone, `top-1` also that the label is the network's first class, `top-5` that it is
    among the first five. One map serves all three: gt-known <= top-5 <= top-1. A map without a box is an error.
    Explain the pictures' labels, not the predictions. The best threshold of the pictures it is reported on flatters:
    `fixed` takes it from another split.
    """

    title: ClassVar[str] = "Localisation error"
    paper: ClassVar[str] = "Zhou et al., CVPR 2016"
    better: ClassVar[Better] = "lower"
    tuned: ClassVar[str] = "threshold"
    presets: ClassVar = {
        "cam": {"extractor": "cam", "error": "top-5", "boxes": "both"},
        "adl": {"extractor": "adl", "error": "top-1", "threshold": 0.2},
        "wsol": {"extractor": "wsol", "error": "gt-known"},
    }

    name: Literal["localisation-error"] = "localisation-error"
    error: Kind = Field(
        default="gt-known", description="Which error is the value; the details hold all three."
    )
    extractor: Literal["wsol", "adl", "cam"] = Field(
        default="wsol", description="Whose public code draws the box."
    )
    threshold: float | None = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="Share of the maximum, for `wsol` and `adl`; None, for `wsol`: the one of the least gt-known error "
        "on these pictures.",
    )
    boxes: Literal["first", "second", "both"] = Field(
        default="first",
        description="Which of `cam`'s boxes count. `both`: two for each class in order, five in all, the first alone "
        "for top-1.",
    )
    iou: float = Field(default=0.5, gt=0, le=1, description="Overlap that a box must reach.")

    @model_validator(mode="after")
    def _only_levels_are_chosen_from(self) -> LocalisationError:
        if self.threshold is None and self.extractor != "wsol":
            raise ValueError(f"the boxes of {self.extractor!r} know no other thresholds to choose from")
        return self

    def tune(self, table: Table) -> float:
        return (int(self._best(table.exact, torch.ones_like(table.exact[:, :1]).T)) + 0.5) / 255

    def measure(self, batch: Batch) -> Measured:
        labels = batch.explanation.labels
        data = torch.full((len(labels), len(labels[0]), 1 + self._boxes), math.nan)
        remarks: dict[tuple[int, int], str] = {}
        for part in framed(batch):
            for row, each, truth in zip(part.rows, part.maps.cpu().numpy(), part.truths, strict=True):
                order = [predicted.label for predicted in batch.explanation.predictions[row]]
                if not order:
                    raise InputError(
                        f"{self.name} needs class predictions; {batch.network.name} names no classes"
                    )
                if not truth.objects:
                    why = "the picture shows no object that is marked"
                    remarks |= dict.fromkeys(((row, column) for column in range(len(labels[row]))), why)
                    continue
                boxes = corners(objects(truth, truth.label, batch.network, "main"), truth.size)
                for column, label in enumerate(labels[row]):
                    if not same_class(truth.label, label, batch.network):
                        remarks[row, column] = (
                            f"the map explains {label!r}, but the picture's label is {truth.label!r}"
                        )
                    elif not len(boxes):
                        remarks[row, column] = f"no box of {label!r} lies in the picture"
                    else:
                        drawn = self._draw(each[column])
                        overlaps = box_extractors.overlap(drawn, boxes).max(1)
                        data[row, column, 0] = order.index(label) if label in order else math.inf
                        data[row, column, 1:] = 0
                        data[row, column, 1 : 1 + len(drawn)] = torch.from_numpy(overlaps)
                        if not (drawn >= 0).all(1).any():
                            remarks[row, column] = "the map has no box, which is an error"
        return Measured(data.to(batch.pixels.device), remarks)

    def per_row(self, data: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
        return self.errors(data)[:, _COLUMNS[self.error]]

    def aggregate(self, table: Table, weights: Float[Tensor, "R N"]) -> Float[Tensor, " R"]:
        """Without a fixed threshold, the best one is chosen anew for each row of weights."""
        data = table.exact
        if not self.flatters:
            return super().aggregate(table, weights)
        found, levels = weights.new_empty(len(weights)), self._best(data, weights)
        for level in set(levels.tolist()):
            same = levels == level
            found[same] = weighted_mean(self._errors_at(data, level)[:, _COLUMNS[self.error]], weights[same])
        return found

    def errors(self, data: Float[Tensor, "N V"]) -> Float[Tensor, "N 4"]:
        """Of each row the gt-known, the top-1 and the top-5 error, and the overlap."""
        if self.flatters:
            return self._errors_at(data, int(self._best(data, torch.ones_like(data[:, :1]).T)))
        return self._errors_at(data, int((self.threshold or 0) * 255) if self.extractor == "wsol" else 0)

    def details(self, table: Table) -> dict[str, Tensor]:
        """The three errors by name, the mean overlap as `iou`, and the `threshold` used."""
        once = torch.ones_like(table.exact[:, :1]).T
        means = [weighted_mean(column, once)[0] for column in self.errors(table.exact).unbind(1)]
        used = torch.tensor(self.tune(table) if self.threshold is None else self.threshold)
        return {**dict(zip([*_COLUMNS, "iou"], means, strict=True)), "threshold": used}

    @property
    def _boxes(self) -> int:
        """Of how many boxes the overlap is kept: one per level, or the first two."""
        return 255 if self.extractor == "wsol" else 2

    def _draw(self, values: Float[np.ndarray, "H W"]) -> Int[np.ndarray, "N 4"]:
        if self.extractor == "adl":
            return box_extractors.adl(values, self.threshold or 0)
        return box_extractors.wsol(values) if self.extractor == "wsol" else box_extractors.cam(values)[:2]

    def _best(self, data: Float[Tensor, "N V"], weights: Float[Tensor, "R N"]) -> Int[Tensor, " R"]:
        """The lowest level at which most boxes fit."""
        return (weights @ (data[:, 1:] >= self.iou).to(data)).argmax(1)

    def _errors_at(self, data: Float[Tensor, "N V"], level: int) -> Float[Tensor, "N 4"]:
        """`errors` of the boxes at a level."""
        rank, first = data[:, 0], data[:, 1 + level]
        second = torch.zeros_like(first) if self.extractor == "wsol" else data[:, 2]
        known = {"first": first, "second": second, "both": torch.maximum(first, second)}[self.boxes]
        both = self.boxes == "both"
        # Of two boxes per class in order, five in all, the fifth is the third class's first.
        top5 = torch.where(rank == 2, first, known) if both else known
        top1 = first if both else known
        missed = [
            known < self.iou,
            (rank > 0) | (top1 < self.iou),
            (rank >= (3 if both else 5)) | (top5 < self.iou),
        ]
        errors = torch.stack([*(each.to(data) for each in missed), known], dim=1)
        return torch.where(rank[:, None].isnan(), math.nan, errors)
