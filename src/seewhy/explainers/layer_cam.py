"""LayerCAM: activations weighted by the positive part of their own gradient."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.explainers.activation import ActivationMethod
from seewhy.explainers.study import Feature


class LayerCAM(ActivationMethod):
    """LayerCAM (Jiang et al., IEEE TIP 2021): sum_k ReLU(dy/dA_k) * A_k.

    Made for early layers too: give several, and `Explanation.combined` joins them as the paper does.
    """

    title: ClassVar[str] = "LayerCAM"
    paper: ClassVar[str] = "Jiang et al., IEEE TIP 2021"

    name: Literal["layer-cam"] = "layer-cam"

    def formula(self, feature: Feature) -> Float[Tensor, "B T h w"]:
        assert feature.gradient is not None
        positive = (self.sign * feature.gradient).clamp_min(0)
        return torch.einsum("btkhw,bkhw->bthw", positive, feature.activation)
