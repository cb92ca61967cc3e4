"""Eigen-GradCAM: the first principal component of gradient times activation."""

from __future__ import annotations

from itertools import chain
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from seewhy.explainers.eigen_cam import EigenCAM
from seewhy.explainers.study import Feature


class EigenGradCAM(EigenCAM):
    """Eigen-GradCAM (pytorch-grad-cam, 2021): EigenCAM of the feature maps times the target's gradient.

    Unlike EigenCAM it asks for the target. `centre=True` (preset `reference`) subtracts each channel's mean first.
    """

    title: ClassVar[str] = "Eigen-GradCAM"
    paper: ClassVar[str] = "Gildenblat, pytorch-grad-cam, 2021"
    uses_gradient: ClassVar[bool] = True
    class_agnostic: ClassVar[bool] = False

    name: Literal["eigen-grad-cam"] = "eigen-grad-cam"  # type: ignore[assignment]

    def formula(self, feature: Feature) -> Float[Tensor, "B T h w"]:
        assert feature.gradient is not None
        found = super().formula(_weighted(feature))
        return found.view(*feature.gradient.shape[:2], *found.shape[-2:])

    def degenerate(
        self, feature: Feature, values: Float[Tensor, "B T h w"], found: list[list[str]]
    ) -> list[list[str]]:
        # One picture and target after the other, as their components were found; what is said of any is said.
        targets = values.shape[1]
        each = super().degenerate(
            _weighted(feature), values.flatten(0, 1)[:, None], [[] for _ in range(values[:, :, 0, 0].numel())]
        )
        return [
            list(dict.fromkeys(chain(own, *each[row * targets : (row + 1) * targets])))
            for row, own in enumerate(found)
        ]


def _weighted(feature: Feature) -> Feature:
    """Gradient times activation, every target a picture of its own."""
    assert feature.gradient is not None
    return Feature((feature.gradient * feature.activation[:, None]).flatten(0, 1), None)
