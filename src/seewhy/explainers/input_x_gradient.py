"""Input times gradient: the linear part of the score, pixel by pixel."""

from __future__ import annotations

from typing import ClassVar, Literal

from seewhy.explainers.base import Computed
from seewhy.explainers.pixels import PixelMethod
from seewhy.explainers.study import Study


class InputXGradient(PixelMethod):
    """Input x gradient (Shrikumar et al., 2016): x times dy/dx, x being the network's input after preprocessing.

    In a network of ReLUs without biases the map sums to the score.
    """

    title: ClassVar[str] = "Input x Gradient"
    paper: ClassVar[str] = "Shrikumar et al., 2016"

    name: Literal["input-x-gradient"] = "input-x-gradient"

    def compute(self, study: Study) -> Computed:
        found = study.saliency
        maps = {
            site: study.arguments[site.input].float()[:, None] * each
            for site, each in found.gradients.items()
        }
        return self.computed(study, maps, found.cost)
