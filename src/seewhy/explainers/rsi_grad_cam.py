"""RSI-Grad-CAM: gradients integrated over the way that the layer's activations take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seewhy.explainers.base import Computed, Workload
from seewhy.explainers.layer_path import LayerPath, Walked, Ways, gaps_of, walk
from seewhy.explainers.stieltjes import Stieltjes, Stretch
from seewhy.explainers.study import Study
from seewhy.explanation import Cost
from seewhy.network.layers import Choice, Site
from seewhy.network.network import Network


@dataclass(frozen=True)
class _Sums:
    """The sum that the map is made of, and the complete one, which says whether the steps suffice."""

    used: Stieltjes
    checked: Stieltjes


class RSIGradCAM(LayerPath):
    """RSI-Grad-CAM (Lucas et al., ISVC 2022): sum_k I_k, I the Riemann-Stieltjes integral of the gradient over A.

    I is per element of the layer and sums to y(x) - y(x'), and so does this map, while the picture goes straight from
    the baseline x' to x. The paper's map is sum_k w_k A_k(x) with w_k the spatial mean of I_k (preset `paper`), which
    does not. The released code integrates the positive part of the probability's gradient (`rsi-reference`).
    """

    title: ClassVar[str] = "RSI-Grad-CAM"
    paper: ClassVar[str] = "Lucas et al., ISVC 2022"
    presets: ClassVar = {
        "paper": {"map": "weighted"},
        "rsi-reference": {
            "map": "weighted",
            "rectify": True,
            "score": "probability",
            "channels": "mean",
            "baseline": "black",
        },
    }

    name: Literal["rsi-grad-cam"] = "rsi-grad-cam"
    map: Literal["integral", "weighted"] = Field(
        default="integral",
        description="What the channels add up: the integral itself, which is complete, or the picture's activations "
        "weighted by the integral's spatial mean.",
    )
    rectify: bool = Field(
        default=False,
        description="Integrate only what is positive in each gradient; nothing is complete then.",
    )
    score: Literal["target", "probability"] = Field(
        default="target",
        description="What is differentiated: the target, or the probability of its classes, if it is about classes.",
    )
    channels: Literal["sum", "mean"] = Field(
        default="sum", description="How channels join; the mean is the sum but for a factor."
    )

    def points(self, steps: int) -> int:
        return steps + 1

    def plan(self, work: Workload, network: Network) -> Cost:
        visited = self.ways(work) * sum(self.visits())
        return Cost(forwards=work.pictures + visited, backwards=visited * work.targets)

    def compute(self, study: Study) -> Computed:
        choice = study.layers(self.layer)

        def walked(ways: Ways, steps: int) -> Walked:
            points = torch.linspace(0, 1, self.points(steps), device=study.scores.device)
            return self.walked(study, choice, ways, points)

        return self.follow(study, choice, walked, study.clean)

    def walked(self, study: Study, choice: Choice, ways: Ways, points: Float[Tensor, " S"]) -> Walked:
        """Go some ways over points from 0 to 1."""

        def take(_site: Site, known: _Sums, _part: slice, stretch: Stretch) -> _Sums:
            checked = known.checked.after(stretch)
            return _Sums(known.used.after(stretch) if self.rectify else checked, checked)

        states = dict.fromkeys(choice.calls, _Sums(Stieltjes(rectified=self.rectify), Stieltjes()))
        probability = self.score == "probability"
        sums, scores, cost = walk(study, choice, ways, points, states, take, probability)
        gaps = gaps_of(choice, self.layer is None, {s: each.checked.sums for s, each in sums.items()}, scores)
        return Walked({site: self.joined(each.used) for site, each in sums.items()}, gaps, cost)

    def joined(self, integral: Stieltjes) -> Float[Tensor, "W T h w"]:
        """The map of an integral, whose last point is the picture."""
        assert integral.total is not None
        assert integral.last is not None
        total = integral.total
        if self.map == "integral":
            found = total.sum(2)
        else:
            end = integral.last.activation[:, 0].to(total.dtype)
            found = torch.einsum("wtk,wkij->wtij", total.mean((-2, -1)), end)
        return (found / total.shape[2] if self.channels == "mean" else found).float()
