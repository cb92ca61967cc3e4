"""Localisation error: is the picture's label known, and does a box from its map fit?"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
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
    Explain the pictures' labels, not the predictions.
    """

    title: ClassVar[str] = "Localisation error"
    paper: ClassVar[str] = "Zhou et al., CVPR 2016"
    better: ClassVar[Better] = "lower"
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
    threshold: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="Share of the maximum, for `wsol` and `adl`; take it from another split.",
    )
    boxes: Literal["first", "second", "both"] = Field(
        default="first",
        description="Which of `cam`'s boxes count. `both`: two for each class in order, five in all, the first alone "
        "for top-1.",
    )
    iou: float = Field(default=0.5, gt=0, le=1, description="Overlap that a box must reach.")

    def measure(self, batch: Batch) -> Measured:
        labels = batch.explanation.labels
        data = torch.full((len(labels), len(labels[0]), 4), math.nan)
        remarks: dict[tuple[int, int], str] = {}
        for rows, maps in framed(batch):
            for row, each in zip(rows, maps.cpu().numpy(), strict=True):
                truth = batch.truths[row]
                order = [predicted.label for predicted in batch.explanation.predictions[row]]
                if not order:
                    raise InputError(
                        f"{self.name} needs class predictions; {batch.network.name} names no classes"
                    )
                boxes = corners(objects(truth, truth.label, batch.network, "main"), each.shape[-2:])
                for column, label in enumerate(labels[row]):
                    if not same_class(truth.label, label, batch.network):
                        remarks[row, column] = (
                            f"the map explains {label!r}, but the picture's label is {truth.label!r}"
                        )
                    elif not len(boxes):
                        remarks[row, column] = f"no box of {label!r} lies in the picture"
                    else:
                        drawn = self._draw(each[column])
                        rank = order.index(label) if label in order else len(order)
                        data[row, column] = torch.tensor(self._errors(drawn, boxes, rank))
                        if not len(drawn):
                            remarks[row, column] = "the map has no box, which is an error"
        return Measured(data.to(batch.pixels.device), remarks)

    def per_row(self, data: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
        return data[:, _COLUMNS[self.error]]

    def details(self, table: Table) -> dict[str, Tensor]:
        """The three errors by name, and the mean overlap as `iou`."""
        once = torch.ones_like(table.exact[:, :1]).T
        means = [weighted_mean(column, once)[0] for column in table.exact.unbind(1)]
        return dict(zip([*_COLUMNS, "iou"], means, strict=True))

    def _draw(self, values: Float[np.ndarray, "H W"]) -> Int[np.ndarray, "N 4"]:
        if self.extractor == "cam":
            return box_extractors.cam(values)
        if self.extractor == "adl":
            return box_extractors.adl(values, self.threshold)
        return box_extractors.wsol_at(values, self.threshold)

    def _errors(
        self, drawn: Int[np.ndarray, "N 4"], truth: Int[np.ndarray, "M 4"], rank: int
    ) -> tuple[float, float, float, float]:
        """The three errors and the best overlap, for a label at some rank of the network's classes."""
        overlaps = box_extractors.overlap(drawn, truth).max(1) if len(drawn) else np.zeros(0)
        first, second = (float(overlaps[place]) if place < len(overlaps) else 0.0 for place in (0, 1))
        known = {"first": first, "second": second, "both": max(first, second)}[self.boxes]
        # Of two boxes per class in order, the fifth is the third class's first.
        top5 = first if self.boxes == "both" and rank == 2 else known
        listed = rank < (3 if self.boxes == "both" else 5)
        top1 = first if self.boxes == "both" else known
        return (
            float(known < self.iou),
            float(rank > 0 or top1 < self.iou),
            float(not listed or top5 < self.iou),
            known,
        )
