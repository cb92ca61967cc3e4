"""Grad-CAM: feature maps weighted by the spatial mean of their gradient."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.explainers.activation import ActivationMethod
from seewhy.explainers.study import Feature


class GradCAM(ActivationMethod):
    """Grad-CAM (Selvaraju et al., ICCV 2017): sum_k a_k A_k with a_k the mean of dy/dA_k over positions.

    The paper takes the ReLU of it, which `evidence` does. `sign=-1` gives the counterfactual map of its
    section 3.2, and the target `Contrast(c, d)` the contrastive one.
    """

    title: ClassVar[str] = "Grad-CAM"
    paper: ClassVar[str] = "Selvaraju et al., ICCV 2017"

    name: Literal["grad-cam"] = "grad-cam"

    def formula(self, feature: Feature) -> Float[Tensor, "B T h w"]:
        assert feature.gradient is not None
        weights = self.sign * feature.gradient.mean((-2, -1))
        return torch.einsum("btk,bkhw->bthw", weights, feature.activation)
