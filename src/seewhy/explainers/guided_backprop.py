"""Guided backprop: gradients that stay positive through every ReLU."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from seewhy.explainers.rectified import RectifiedGradient, rectify_gradient
from seewhy.network.operations import Computation


class GuidedBackprop(RectifiedGradient):
    """Guided backprop (Springenberg et al., ICLR workshop 2015): at every ReLU g [x > 0] [g > 0].

    Fine and sharp, and mostly edges: it hardly depends on the class or the weights, and fails randomisation tests
    (Adebayo et al., NeurIPS 2018). Not for deciding what a network looks at.
    """

    title: ClassVar[str] = "Guided Backprop"
    paper: ClassVar[str] = "Springenberg et al., ICLR workshop 2015"

    name: Literal["guided-backprop"] = "guided-backprop"

    def rectify(self, computation: Computation) -> Tensor:
        return rectify_gradient(computation.run())  # and then the ReLU's own gradient, g [x > 0]
