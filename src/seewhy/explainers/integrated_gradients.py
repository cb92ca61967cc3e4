"""Integrated gradients: the gradient along the way from a baseline to the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from seewhy.explainers.base import Computed, Workload
from seewhy.explainers.baseline import CHOICES, Baseline, baseline
from seewhy.explainers.pixels import PixelMethod
from seewhy.explainers.study import Saliency, Study
from seewhy.explanation import Cost
from seewhy.network.layers import Site
from seewhy.network.network import Network
from seewhy.network.precision import chunked

Quadrature = Literal["midpoint", "left", "right", "trapezoid", "gauss-legendre"]
_BATCH = 16  # pictures whose graph is held at once
_GAP = 0.05
# Steps that are chosen one after the other, and when they suffice.
_ROUNDS, _CLOSE = (32, 64, 128, 256, 512), 0.01


class IntegratedGradients(PixelMethod):
    """Integrated gradients (Sundararajan et al., ICML 2017): (x - x') times the mean gradient from x' to x.

    The map sums to y(x) - y(x'), up to the error of the quadrature, which a note tells.
    """

    title: ClassVar[str] = "Integrated Gradients"
    paper: ClassVar[str] = "Sundararajan et al., ICML 2017"

    name: Literal["integrated-gradients"] = "integrated-gradients"
    steps: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] = Field(
        default=32,
        description=f"Points on the way, each one forward and backward. `auto`: {_ROUNDS[0]}, and then twice as many "
        f"until the sum misses the change of the score by at most {_CLOSE:.0%}, or there are {_ROUNDS[-1]}.",
    )
    rule: Quadrature = Field(default="midpoint", description="Where the points lie and what they weigh.")
    baseline: Baseline = Field(default="zero", description=f"Where the way begins: {CHOICES}.")

    def plan(self, work: Workload, network: Network) -> Cost:
        points = sum(len(quadrature(self.rule, steps)[0]) for steps in self._rounds)
        return Cost(forwards=(points + 2) * work.pictures, backwards=points * work.scores)

    @property
    def _rounds(self) -> tuple[int, ...]:
        """How many steps there are, at first and then."""
        return _ROUNDS if self.steps == "auto" else (self.steps,)

    def compute(self, study: Study) -> Computed:
        arguments = study.arguments
        ways = {
            site: (baseline(study.network, arguments[site.input], self.baseline), arguments[site.input])
            for site in study.pixels
        }
        with torch.no_grad():
            start = arguments.showing({site.input: begin for site, (begin, _) in ways.items()})
            change = study.scores - study.question(start.call(study.network.module))
        study.cost += Cost(forwards=arguments.batch)
        cost = study.clean + Cost(forwards=arguments.batch)
        gaps = torch.full_like(change, torch.inf)
        maps = {
            site: change.new_zeros((*change.shape, *end.shape[1:]), dtype=torch.float32)
            for site, (_, end) in ways.items()
        }
        for steps in self._rounds:
            # Where the steps sufficed the map stays, so that it does not depend on what else is asked about.
            coarse = gaps > _CLOSE
            left = coarse.any(1).nonzero()[:, 0]
            if not len(left):
                break
            found, spent = self._integrals(study, ways, left, steps)
            cost += spent
            for site, each in found.items():
                maps[site] = torch.where(coarse[:, :, None, None, None], each, maps[site])
            total = sum(each.flatten(2).sum(2) for each in maps.values())
            gaps = (total - change).abs() / change.abs().clamp_min(1e-6)
        computed = self.computed(study, maps, cost)
        return replace(computed, notes=_with_gaps(computed.notes, gaps))

    def _integrals(
        self, study: Study, ways: Mapping[Site, tuple[Tensor, Tensor]], left: Int[Tensor, " L"], steps: int
    ) -> tuple[dict[Site, Float[Tensor, "B T C H W"]], Cost]:
        """The way times the mean gradient on it, of some pictures; zero for the others. And what it took."""
        points, weights = (each.to(study.scores.device) for each in quadrature(self.rule, steps))
        totals = {
            site: study.scores.new_zeros((*study.scores.shape, *end.shape[1:]), dtype=torch.float32)
            for site, (_, end) in ways.items()
        }

        def run(start: int, stop: int) -> tuple[Tensor, Tensor, Saliency]:
            flat = torch.arange(start, stop, device=points.device)
            rows, places = left[flat // len(points)], flat % len(points)
            along = points[places][:, None, None, None]
            shown = {
                site.input: torch.lerp(begin[rows], end[rows], along.to(end.dtype))
                for site, (begin, end) in ways.items()
            }
            return rows, places, study.differentiated(study.arguments.showing(shown, rows), rows, {})

        cost = Cost()
        for rows, places, found in chunked(run, len(left) * len(points), _BATCH):
            for site, each in found.gradients.items():
                totals[site].index_add_(0, rows, each * weights[places][:, None, None, None, None])
            cost += found.cost
        return {
            site: each * (ways[site][1] - ways[site][0]).float()[:, None] for site, each in totals.items()
        }, cost


def quadrature(rule: Quadrature, steps: int) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Points in [0, 1] and their weights, which sum to 1; the trapezoid has one point more than steps."""
    if rule == "gauss-legendre":
        points, weights = np.polynomial.legendre.leggauss(steps)
        return torch.from_numpy((points + 1) / 2).float(), torch.from_numpy(weights / 2).float()
    if rule == "trapezoid":
        weight = torch.full((steps + 1,), 1 / steps, dtype=torch.float32)
        weight[[0, -1]] /= 2
        return torch.linspace(0, 1, steps + 1, dtype=torch.float32), weight
    shift = {"left": 0.0, "midpoint": 0.5, "right": 1.0}[rule]
    places = torch.arange(steps, dtype=torch.float32)
    return (places + shift) / steps, torch.full_like(places, 1 / steps)


def _with_gaps(notes: Sequence[tuple[str, ...]], gaps: Float[Tensor, "B T"]) -> tuple[tuple[str, ...], ...]:
    """Add by how much a map's sum misses the change of the score."""
    found = []
    for own, gap in zip(notes, gaps.amax(1).tolist(), strict=True):
        advice = "; more steps would help" if gap > _GAP else ""
        found.append((*own, f"the map's sum misses the change of the score by {gap:.1%}{advice}"))
    return tuple(found)
