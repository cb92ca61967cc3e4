"""Deconvolution: gradients that are rectified where the activations were."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from seewhy.explainers.rectified import RectifiedGradient, passed_through, rectify_gradient
from seewhy.network.operations import Computation


class Deconvolution(RectifiedGradient):
    """Deconvolution (Zeiler and Fergus, ECCV 2014): at every ReLU g [g > 0], whatever the activation was.

    Like guided backprop, which Adebayo et al. (NeurIPS 2018) tested, it keeps much of its map when weights are
    randomised. Not for deciding what a network looks at.
    """

    title: ClassVar[str] = "Deconvolution"
    paper: ClassVar[str] = "Zeiler and Fergus, ECCV 2014"

    name: Literal["deconvolution"] = "deconvolution"

    def rectify(self, computation: Computation) -> Tensor:
        return rectify_gradient(passed_through(computation))
