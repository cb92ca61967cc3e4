"""EigenCAM: the first principal component of the feature maps, whatever the target."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seewhy.explainers.activation import ActivationMethod
from seewhy.explainers.study import Feature

_DEGENERATE = 0.99
_ROUNDING = 1e-5  # float32 activations that cancel, as those of a layer norm do, cancel to about this


class EigenCAM(ActivationMethod):
    """EigenCAM (Muhammad and Yeasin, IJCNN 2020): activations projected on their first right singular vector.

    It shows what is strong in the layer and ignores the target: all T maps are the same. The sign, which a
    singular vector leaves open, is chosen so that the map agrees with the sum of the channels.
    """

    title: ClassVar[str] = "EigenCAM"
    paper: ClassVar[str] = "Muhammad and Yeasin, IJCNN 2020"
    uses_gradient: ClassVar[bool] = False
    class_agnostic: ClassVar[bool] = True
    presets: ClassVar = {"paper": {"centre": False}, "reference": {"centre": True}}

    name: Literal["eigen-cam"] = "eigen-cam"
    centre: bool = Field(
        default=False,
        description="Subtract each channel's mean over positions first, as pytorch-grad-cam does; the map then "
        "always changes sign and its positive part covers about half the picture.",
    )

    def formula(self, feature: Feature) -> Float[Tensor, "B 1 h w"]:
        maps = feature.activation - self._mean(feature)
        positions = maps.flatten(2).transpose(1, 2)
        first, _ = _leading_component(positions)
        agreement = (first * positions.sum(2)).sum(1)
        size = (first.abs() * positions.abs().sum(2)).sum(1)
        largest = first.gather(1, first.abs().argmax(1, keepdim=True))[:, 0]
        decisive = torch.where(agreement.abs() > _ROUNDING * size, agreement, largest)
        signed = first * torch.where(decisive < 0, -1.0, 1.0)[:, None] * self.sign
        return signed.view(len(signed), 1, *feature.activation.shape[-2:]).float()

    def remarks(self, feature: Feature, values: Float[Tensor, "B T h w"]) -> list[list[str]]:
        return self.degenerate(feature, values, super().remarks(feature, values))

    def degenerate(
        self, feature: Feature, values: Float[Tensor, "B T h w"], found: list[list[str]]
    ) -> list[list[str]]:
        """Add where no component is the strongest."""
        maps = feature.activation - self._mean(feature)
        top = values[:, 0].square().sum((-2, -1))
        if (maps.square().sum((1, 2, 3)) - top <= _DEGENERATE * top).all():
            return found  # all that is left is less than the first component, so the second is too
        _, ratio = _leading_component(maps.flatten(2).transpose(1, 2))
        return [
            [
                *remarks,
                *(["no single strongest component: two are equally strong"] if r > _DEGENERATE else []),
            ]
            for remarks, r in zip(found, ratio.tolist(), strict=True)
        ]

    def _mean(self, feature: Feature) -> Tensor | float:
        return feature.activation.mean((-2, -1), keepdim=True) if self.centre else 0.0


def _leading_component(positions: Float[Tensor, "B N K"]) -> tuple[Float[Tensor, "B N"], Float[Tensor, " B"]]:
    """Projection of N positions on the first right singular vector, and the second eigenvalue over the first.

    From the smaller Gram matrix, in float64: for 7 x 7 x 2048 that is a 49 x 49 problem.
    """
    device = positions.device
    exact = positions.double() if device.type != "mps" else positions.cpu().double()
    count, channels = exact.shape[1:]
    gram = exact @ exact.mT if count <= channels else exact.mT @ exact
    values, vectors = torch.linalg.eigh(gram)
    top = values[:, -1].clamp_min(0)
    second = values[:, -2].clamp_min(0) if values.shape[1] > 1 else torch.zeros_like(top)
    first = vectors[:, :, -1]
    first = first * top.sqrt()[:, None] if count <= channels else (exact @ first[:, :, None])[:, :, 0]
    ratio = second / torch.where(top > 0, top, 1.0)
    return first.to(device, torch.float64 if device.type != "mps" else torch.float32), ratio
