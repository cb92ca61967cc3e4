"""HiResCAM: activations times gradients, position by position."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.explainers.activation import ActivationMethod
from seewhy.explainers.study import Feature


class HiResCAM(ActivationMethod):
    """HiResCAM (Draelos and Carin, 2020): sum_k dy/dA_k * A_k, without averaging the gradient.

    Where the head is affine in the activations, the map sums to the score minus its bias.
    """

    title: ClassVar[str] = "HiResCAM"
    paper: ClassVar[str] = "Draelos and Carin, 2020"

    name: Literal["hires-cam"] = "hires-cam"

    def formula(self, feature: Feature) -> Float[Tensor, "B T h w"]:
        assert feature.gradient is not None
        return self.sign * torch.einsum("btkhw,bkhw->bthw", feature.gradient, feature.activation)
