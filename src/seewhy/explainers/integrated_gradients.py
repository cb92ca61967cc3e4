"""Integrated gradients: the gradient along the way from a baseline to the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seewhy.explainers.base import Computed, Workload
from seewhy.explainers.baseline import CHOICES, Baseline, baseline
from seewhy.explainers.pixels import PixelMethod
from seewhy.explainers.study import Saliency, Study
from seewhy.explanation import Cost
from seewhy.network.network import Network
from seewhy.network.precision import chunked

Quadrature = Literal["midpoint", "left", "right", "trapezoid", "gauss-legendre"]
_BATCH = 16  # pictures whose graph is held at once
_GAP = 0.05


class IntegratedGradients(PixelMethod):
    """Integrated gradients (Sundararajan et al., ICML 2017): (x - x') times the mean gradient from x' to x.

    The map sums to y(x) - y(x'), up to the error of the quadrature; a note says where that exceeds 5 %.
    """

    title: ClassVar[str] = "Integrated Gradients"
    paper: ClassVar[str] = "Sundararajan et al., ICML 2017"

    name: Literal["integrated-gradients"] = "integrated-gradients"
    steps: int = Field(
        default=32, ge=1, le=4096, description="Points on the way, each one forward and backward."
    )
    rule: Quadrature = Field(default="midpoint", description="Where the points lie and what they weigh.")
    baseline: Baseline = Field(default="zero", description=f"Where the way begins: {CHOICES}.")

    def plan(self, work: Workload, network: Network) -> Cost:
        points = len(quadrature(self.rule, self.steps)[0])
        return Cost(forwards=(points + 2) * work.pictures, backwards=points * work.scores)

    def compute(self, study: Study) -> Computed:
        arguments = study.arguments
        ends = {site: arguments[site.input] for site in study.pixels}
        begins = {site: baseline(study.network, each, self.baseline) for site, each in ends.items()}
        points, weights = (each.to(study.scores.device) for each in quadrature(self.rule, self.steps))
        totals = {
            site: study.scores.new_zeros((*study.scores.shape, *each.shape[1:]))
            for site, each in ends.items()
        }
        cost = Cost()

        def run(start: int, stop: int) -> tuple[Tensor, Tensor, Saliency]:
            flat = torch.arange(start, stop, device=points.device)
            rows, steps = flat // len(points), flat % len(points)
            along = points[steps][:, None, None, None]
            shown = {
                site.input: torch.lerp(begins[site][rows], end[rows], along.to(end.dtype))
                for site, end in ends.items()
            }
            return rows, steps, study.differentiated(arguments.showing(shown, rows), rows, {})

        for rows, steps, found in chunked(run, arguments.batch * len(points), _BATCH):
            for site, each in found.gradients.items():
                totals[site].index_add_(0, rows, each * weights[steps][:, None, None, None, None])
            cost += found.cost
        maps = {site: each * (ends[site] - begins[site]).float()[:, None] for site, each in totals.items()}
        with torch.no_grad():
            start = arguments.showing({site.input: each for site, each in begins.items()})
            before = study.question(start.call(study.network.module))
        study.cost += Cost(forwards=arguments.batch)
        computed = self.computed(study, maps, cost + study.clean + Cost(forwards=arguments.batch))
        total = sum(each.flatten(2).sum(2) for each in maps.values())
        return replace(computed, notes=_with_gaps(computed.notes, total, study.scores - before))


def quadrature(rule: Quadrature, steps: int) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Points in [0, 1] and their weights, which sum to 1; the trapezoid has one point more than steps."""
    if rule == "gauss-legendre":
        points, weights = np.polynomial.legendre.leggauss(steps)
        return torch.from_numpy((points + 1) / 2).float(), torch.from_numpy(weights / 2).float()
    if rule == "trapezoid":
        weight = torch.full((steps + 1,), 1 / steps)
        weight[[0, -1]] /= 2
        return torch.linspace(0, 1, steps + 1), weight
    shift = {"left": 0.0, "midpoint": 0.5, "right": 1.0}[rule]
    return (torch.arange(steps) + shift) / steps, torch.full((steps,), 1 / steps)


def _with_gaps(
    notes: Sequence[tuple[str, ...]], total: Float[Tensor, "B T"], change: Float[Tensor, "B T"]
) -> tuple[tuple[str, ...], ...]:
    """Add by how much a map's sum misses the change of the score, where it is more than it should."""
    gaps = ((total - change).abs() / change.abs().clamp_min(1e-6)).amax(1).tolist()
    return tuple(
        (*own, f"the map's sum misses the change of the score by {gap:.0%}; more steps would help")
        if gap > _GAP
        else own
        for own, gap in zip(notes, gaps, strict=True)
    )
