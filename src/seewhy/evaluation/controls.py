"""Maps that know nothing of why a network decides, beside every table: what does not beat them says nothing."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seewhy.explainers.activation import ActivationMethod
from seewhy.explainers.base import Computed, Explainer, Workload
from seewhy.explainers.draws import Seed, generator, picture_keys, uniform
from seewhy.explainers.pixels import REASON
from seewhy.explainers.study import Feature, Study
from seewhy.explanation import Cost
from seewhy.network.layers import Site
from seewhy.network.network import Network

_SIGMA = 0.25  # of the centred Gaussian, in sides of the picture


class Control(Explainer):
    """Base of the maps that need no network; the same for all targets of a picture."""

    title: ClassVar[str] = "Control"
    needs: ClassVar[str] = "nothing"
    signed: ClassVar[bool] = False
    class_agnostic: ClassVar[bool] = True

    def plan(self, work: Workload, network: Network) -> Cost:
        return Cost(forwards=work.pictures)  # of the clean pass, for the score that stands beside the map

    @abstractmethod
    def drawn(self, pictures: Float[Tensor, "B C H W"], study: Study) -> Float[Tensor, "B h w"]:
        """One map per picture, of any size."""

    def compute(self, study: Study) -> Computed:
        targets = study.scores.shape[1]
        maps: dict[Site, Tensor] = {}
        for site in study.pixels:
            drawn = self.drawn(study.arguments[site.input], study)
            maps[site] = drawn.to(study.scores.device, torch.float32)[:, None].expand(-1, targets, -1, -1)
        return Computed(maps, ((),) * study.arguments.batch, REASON, study.clean)


class RandomMap(Control):
    """Uniform noise, drawn for each picture from its pixels; on the layer's grid as smooth as other methods' maps."""

    title: ClassVar[str] = "Random map"

    name: Literal["random-map"] = "random-map"
    level: Literal["layer", "pixels"] = Field(
        default="layer",
        description="Noise on the layer's grid, enlarged as other maps are, or at every pixel.",
    )
    seed: Seed = Field(default=0, description="Of the noise.")

    def request(self, study: Study) -> None:
        if self.level == "layer":
            study.request(study.layers(None), False, "float32")

    def drawn(self, pictures: Float[Tensor, "B C H W"], study: Study) -> Float[Tensor, "B h w"]:
        size = pictures.shape[-2:]
        if self.level == "layer":
            site = next(iter(study.layers(None).calls))
            size = study.feature(site, False, "float32").activation.shape[-2:]
        keys = picture_keys(pictures)
        return torch.stack([uniform(generator(key, self.seed, 0), *size) for key in keys])


class CentredGaussian(Control):
    """A Gaussian in the middle of the picture, sigma a quarter of its sides: where photographers put their objects."""

    title: ClassVar[str] = "Centred Gaussian"

    name: Literal["centred-gaussian"] = "centred-gaussian"

    def drawn(self, pictures: Float[Tensor, "B C H W"], study: Study) -> Float[Tensor, "B h w"]:
        y, x = _from_centre(pictures)
        height, width = pictures.shape[-2:]
        map_ = torch.exp(-((y / height) ** 2 + (x / width) ** 2) / (2 * _SIGMA**2))
        return map_.expand(len(pictures), -1, -1)


class CentrePixel(Control):
    """The picture's middle, as a map a cone: closeness to it."""

    title: ClassVar[str] = "Centre pixel"

    name: Literal["centre-pixel"] = "centre-pixel"

    def drawn(self, pictures: Float[Tensor, "B C H W"], study: Study) -> Float[Tensor, "B h w"]:
        y, x = _from_centre(pictures)
        away = (y**2 + x**2).sqrt()
        return (1 - away / away.amax().clamp_min(1)).expand(len(pictures), -1, -1)


class ConstantMap(Control):
    """Ones everywhere: its shares are those of area."""

    title: ClassVar[str] = "Constant map"

    name: Literal["constant"] = "constant"

    def drawn(self, pictures: Float[Tensor, "B C H W"], study: Study) -> Float[Tensor, "B h w"]:
        return torch.ones(len(pictures), *pictures.shape[-2:])


class MeanActivation(ActivationMethod):
    """Mean over the channels of a layer: what is strong there, whatever is asked; no weights, no gradient."""

    title: ClassVar[str] = "Mean activation"
    uses_gradient: ClassVar[bool] = False
    class_agnostic: ClassVar[bool] = True

    name: Literal["mean-activation"] = "mean-activation"

    def formula(self, feature: Feature) -> Float[Tensor, "B 1 h w"]:
        return self.sign * feature.activation.mean(1, keepdim=True)


def controls(seed: int = 0) -> tuple[Explainer, ...]:
    """Those that stand in a table beside the methods."""
    return (RandomMap(seed=seed), CentredGaussian(), CentrePixel(), MeanActivation())


def _from_centre(pictures: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "H 1"], Float[Tensor, " W"]]:
    """Pixels from the middle, down and across."""
    height, width = pictures.shape[-2:]
    y = torch.arange(height) + 0.5 - height / 2
    x = torch.arange(width) + 0.5 - width / 2
    return y[:, None], x
