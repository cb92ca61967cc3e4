"""A method in a package of its own: where a layer is active, whatever the class."""

from __future__ import annotations

from typing import ClassVar, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seewhy.explainers.activation import ActivationMethod
from seewhy.explainers.study import Feature


class ActivationEnergy(ActivationMethod):
    """The mean over channels of the activations' magnitude to some power."""

    title: ClassVar[str] = "Activation energy"
    uses_gradient: ClassVar[bool] = False
    class_agnostic: ClassVar[bool] = True
    signed: ClassVar[bool] = False

    name: Literal["activation-energy"] = "activation-energy"
    power: float = Field(default=2.0, gt=0, le=8, description="Of the activations' magnitude.")

    def formula(self, feature: Feature) -> Float[Tensor, "B 1 h w"]:
        return feature.activation.abs().pow(self.power).mean(1, keepdim=True)
