"""Seed stability: whether a method that draws at random gives the same map with other draws."""

from __future__ import annotations

import math
from itertools import combinations
from typing import ClassVar, Literal

import torch
from pydantic import Field

from seewhy.evaluation.again import again, explainer
from seewhy.evaluation.metric import Batch, Measured, Metric
from seewhy.evaluation.ranking import places
from seewhy.evaluation.similarity import spearman
from seewhy.explanation import Cost


class SeedStability(Metric):
    """Seed stability: the mean rank correlation of a picture's maps under different seeds, of all pairs of them.

    Maps are read signed, on the method's own grid. A method that does not draw is undefined.
    """

    title: ClassVar[str] = "Seed stability"
    paper: ClassVar[str] = "our own"
    needs_truth: ClassVar[bool] = False
    pictures: ClassVar[int] = 30

    name: Literal["seed-stability"] = "seed-stability"
    seeds: int = Field(default=3, ge=2, le=100, description="How many, each one explanation.")

    def plan(self, size: tuple[int, int], explaining: Cost) -> Cost:
        return explaining.times(self.seeds)

    def measure(self, batch: Batch) -> Measured:
        labels = batch.explanation.labels
        method = explainer(batch)
        if not method.randomized:
            data = batch.explanation.scores.new_full((len(labels), len(labels[0]), 1), math.nan)
            every = places(torch.isnan(data[..., 0]))
            return Measured(data, dict.fromkeys(every, f"{method.name} does not draw"))
        (site,) = batch.explanation.maps
        maps = [
            again(batch, batch.pixels, seed=self.seed + k).grid(site).flatten(2) for k in range(self.seeds)
        ]
        data = torch.stack([spearman(*pair) for pair in combinations(maps, 2)]).mean(0)[..., None]
        constant = dict.fromkeys(places(torch.isnan(data[..., 0])), "a map is constant, so it ranks nothing")
        return Measured(data, constant)
