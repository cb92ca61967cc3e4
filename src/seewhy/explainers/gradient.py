"""The plain gradient at the pixels."""

from __future__ import annotations

from typing import ClassVar, Literal

from seewhy.explainers.base import Computed
from seewhy.explainers.pixels import PixelMethod
from seewhy.explainers.study import Study


class Gradient(PixelMethod):
    """The gradient of the target at the pixels (Simonyan et al., ICLR workshop 2014).

    What the score would change by with every pixel, not what it is made of. The paper shows the largest
    magnitude over the channels: `reduce="abs-max"`, its preset `paper`.
    """

    title: ClassVar[str] = "Gradient"
    paper: ClassVar[str] = "Simonyan et al., ICLR workshop 2014"
    presets: ClassVar = {"paper": {"reduce": "abs-max"}}

    name: Literal["gradient"] = "gradient"

    def compute(self, study: Study) -> Computed:
        found = study.saliency
        return self.computed(study, dict(found.gradients), found.cost)
