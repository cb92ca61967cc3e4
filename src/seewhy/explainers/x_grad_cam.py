"""XGrad-CAM: channel weights that conserve the score where the head is affine."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.explainers.activation import UNSTABLE, ActivationMethod
from seewhy.explainers.study import Feature

_NO_ACTIVATION = 1e-12
_CANCELLING = 100.0


class XGradCAM(ActivationMethod):
    """XGrad-CAM (Fu et al., BMVC 2020): sum_k w_k A_k with w_k = sum(dy/dA_k * A_k) / sum(A_k).

    A channel whose activations sum to nothing (below 1e-12 of the largest sum) gets weight 0.
    """

    title: ClassVar[str] = "XGrad-CAM"
    paper: ClassVar[str] = "Fu et al., BMVC 2020"

    name: Literal["x-grad-cam"] = "x-grad-cam"

    def formula(self, feature: Feature) -> Float[Tensor, "B T h w"]:
        assert feature.gradient is not None
        sums = feature.activation.sum((-2, -1))
        silent = sums.abs() <= _NO_ACTIVATION * sums.abs().amax(1, keepdim=True)
        products = torch.einsum("btkhw,bkhw->btk", feature.gradient, feature.activation)
        weights = products / torch.where(silent, 1.0, sums)[:, None] * ~silent[:, None]
        return torch.einsum("btk,bkhw->bthw", self.sign * weights, feature.activation)

    def remarks(self, feature: Feature, values: Float[Tensor, "B T h w"]) -> list[list[str]]:
        sums = feature.activation.sum((-2, -1)).abs()
        sizes = feature.activation.abs().sum((-2, -1))
        cancelling = ((sums > 0) & (sizes > _CANCELLING * sums)).any(1).tolist()
        note = f"{UNSTABLE}: a channel's activations add up to less than a hundredth of their size"
        return [
            [*remarks, *([note] if unstable else [])]
            for remarks, unstable in zip(super().remarks(feature, values), cancelling, strict=True)
        ]
