"""Grad-CAM++: gradients weighted by how much each position's activation matters to second order."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.explainers.activation import UNSTABLE, ActivationMethod
from seewhy.explainers.study import Feature

_SMALLEST_DENOMINATOR = 1e-3
_CLAMPED = f"{UNSTABLE}: activations are negative here; some weights were clamped"


class GradCAMPlusPlus(ActivationMethod):
    """Grad-CAM++ (Chattopadhyay et al., WACV 2018): sum_k w_k A_k with w_k = sum(alpha_k * ReLU(dy/dA_k)).

    With Y = exp(y) and a piecewise linear head the paper's alpha is g² / (2 g² + g³ S_k), S_k the sum of the
    activations of channel k. It is computed as 1 / (2 + g S_k), which is the same and has no squares of
    tiny gradients. The map depends on the scale of the score, so explain a logit, not a probability.
    """

    title: ClassVar[str] = "Grad-CAM++"
    paper: ClassVar[str] = "Chattopadhyay et al., WACV 2018"

    name: Literal["grad-cam++"] = "grad-cam++"

    def formula(self, feature: Feature) -> Float[Tensor, "B T h w"]:
        gradient, denominator = self._denominator(feature)
        weights = (gradient.clamp_min(0) / denominator.clamp_min(_SMALLEST_DENOMINATOR)).sum((-2, -1))
        return torch.einsum("btk,bkhw->bthw", weights, feature.activation)

    def remarks(self, feature: Feature, values: Float[Tensor, "B T h w"]) -> list[list[str]]:
        gradient, denominator = self._denominator(feature)
        clamped = ((gradient > 0) & (denominator < _SMALLEST_DENOMINATOR)).flatten(1).any(1).tolist()
        return [
            [*remarks, *([_CLAMPED] if unstable else [])]
            for remarks, unstable in zip(super().remarks(feature, values), clamped, strict=True)
        ]

    def _denominator(self, feature: Feature) -> tuple[Tensor, Tensor]:
        """The gradient of what is explained, and 2 + g S_k."""
        assert feature.gradient is not None
        gradient = self.sign * feature.gradient
        return gradient, 2 + gradient * feature.activation.sum((-2, -1), keepdim=True)[:, None]
