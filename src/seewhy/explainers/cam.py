"""CAM: the class's own weights on the feature maps, where the head is a pooled linear layer."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.errors import NotApplicableError
from seewhy.explainers.activation import ActivationMethod
from seewhy.explainers.linearity import head_shape
from seewhy.explainers.study import Feature, Study
from seewhy.network.layers import Site


class CAM(ActivationMethod):
    """CAM (Zhou et al., CVPR 2016): sum_k W_ck A_k, so that the map's mean is the score minus its bias.

    The head must be global average pooling and one linear map. That is not read off layer names but measured:
    the score must be affine in the activations and the same when positions are exchanged. Its weights are then the
    gradient, times the number of positions.
    """

    title: ClassVar[str] = "CAM"
    paper: ClassVar[str] = "Zhou et al., CVPR 2016"
    needs: ClassVar[str] = "global average pooling and one linear layer after the layer"

    name: Literal["cam"] = "cam"

    def formula(self, feature: Feature) -> Float[Tensor, "B T h w"]:
        assert feature.gradient is not None
        weights = self.sign * feature.gradient.sum((-2, -1))
        return torch.einsum("btk,bkhw->bthw", weights, feature.activation)

    def check(self, study: Study, site: Site) -> None:
        shape, network = head_shape(study, site), study.network
        reason = shape.not_affine or shape.not_pooled
        if reason:
            raise NotApplicableError(
                f"CAM is not defined for {network.name} at {site}: {reason}. It needs global average pooling "
                "and one linear layer after the layer; grad-cam and hires-cam do not"
            )
