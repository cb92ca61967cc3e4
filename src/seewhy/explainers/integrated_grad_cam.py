"""Integrated Grad-CAM: Grad-CAM at every step of the way from a baseline to the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seewhy.explainers.base import Computed, Workload
from seewhy.explainers.integrated_gradients import Quadrature, quadrature
from seewhy.explainers.layer_path import LayerPath, Walked, Ways, gaps_of, walk
from seewhy.explainers.stieltjes import Stieltjes, Stretch
from seewhy.explainers.study import Study
from seewhy.explanation import Cost
from seewhy.network.layers import Choice, Site
from seewhy.network.network import Network
from seewhy.network.precision import exact_type


@dataclass(frozen=True)
class _Sum:
    """The map so far (W, T, h, w), and a complete sum over the same points, which says whether they suffice."""

    map: Tensor | None
    checked: Stieltjes


class IntegratedGradCAM(LayerPath):
    """Integrated Grad-CAM (Sattarzadeh et al., ICASSP 2021): the mean over the way of ReLU(sum_k a_k (A_k - A'_k)).

    At each step a_k is the spatial mean of the gradient there, A' is the layer's activation for the baseline. The
    paper's sum is not divided by the steps (preset `paper`); the released notebook does not subtract A' (`reference`);
    without the ReLU inside, evidence against is kept (`signed`). None of them sums to the change of the score.
    """

    title: ClassVar[str] = "Integrated Grad-CAM"
    paper: ClassVar[str] = "Sattarzadeh et al., ICASSP 2021"
    presets: ClassVar = {
        "paper": {"rule": "right", "baseline": "black", "scale": "sum"},
        "reference": {"rule": "left", "subtract": False, "scale": "sum"},
        "signed": {"rectify": False, "steps": 8, "tolerance": 0.01},
    }

    name: Literal["integrated-grad-cam"] = "integrated-grad-cam"
    rule: Quadrature = Field(default="midpoint", description="Where the steps lie and what they weigh.")
    subtract: bool = Field(
        default=True, description="Subtract the layer's activation for the baseline from that at each step."
    )
    rectify: bool = Field(
        default=True, description="Keep what is positive at every step, before it is summed."
    )
    scale: Literal["mean", "sum"] = Field(
        default="mean",
        description="The mean over the way, or the sum over its steps; the same but for a factor.",
    )

    def points(self, steps: int) -> int:
        return steps + (self.rule == "trapezoid")

    def plan(self, work: Workload, network: Network) -> Cost:
        ways, visits = self.ways(work), list(self.visits())
        read = sum(visits) + len(visits) * self.subtract
        return Cost(forwards=work.pictures + ways * read, backwards=ways * sum(visits) * work.targets)

    def compute(self, study: Study) -> Computed:
        choice = study.layers(self.layer)
        return self.follow(
            study, choice, lambda ways, steps: self._walked(study, choice, ways, steps), study.clean
        )

    def _walked(self, study: Study, choice: Choice, ways: Ways, steps: int) -> Walked:
        points, weights = (each.to(study.scores.device) for each in quadrature(self.rule, steps))
        if self.scale == "sum":
            weights = weights / weights.amax()
        weights = weights.to(exact_type(weights.device))
        start, spent = {}, Cost()
        if self.subtract:
            empty = study.read(*ways.at(points.new_zeros(1)), choice, gradient=False)
            start = {site: each.activation[:, None] for site, each in empty.features.items()}
            spent = empty.cost

        def take(site: Site, known: _Sum, part: slice, stretch: Stretch) -> _Sum:
            found = self.step(stretch, start.get(site))
            found = torch.einsum("s,wstij->wtij", weights[part], found.to(weights.dtype))
            return _Sum(found if known.map is None else known.map + found, known.checked.after(stretch))

        states = dict.fromkeys(choice.calls, _Sum(None, Stieltjes()))
        sums, scores, cost = walk(study, choice, ways, points, states, take)
        gaps = gaps_of(choice, self.layer is None, {s: each.checked.sums for s, each in sums.items()}, scores)
        maps = {site: each.map.float() for site, each in sums.items() if each.map is not None}
        return Walked(maps, gaps, cost + spent)

    def step(self, stretch: Stretch, start: Float[Tensor, "W 1 K h w"] | None) -> Float[Tensor, "W s T h w"]:
        """What is summed over the way, at each of s points of it.

        Args:
            stretch: the layer there.
            start: the activation for the baseline; None leaves it in.
        """
        activation = stretch.activation if start is None else stretch.activation - start
        found = torch.einsum("wstk,wskij->wstij", stretch.gradient.mean((-2, -1)), activation)
        return found.clamp_min(0) if self.rectify else found
