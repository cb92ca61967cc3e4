"""Guided Grad-CAM: guided backprop where Grad-CAM sees evidence."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field

from seewhy.explainers.base import Computed, Workload
from seewhy.explainers.grad_cam import GradCAM
from seewhy.explainers.guided_backprop import GuidedBackprop
from seewhy.explainers.pixels import PixelMethod
from seewhy.explainers.study import Study
from seewhy.explanation import Cost, upsample
from seewhy.network.network import Network


class GuidedGradCAM(PixelMethod):
    """Guided Grad-CAM (Selvaraju et al., ICCV 2017): guided backprop times the upsampled positive Grad-CAM.

    The place comes from Grad-CAM, the detail from guided backprop, with its faults.
    """

    title: ClassVar[str] = "Guided Grad-CAM"
    paper: ClassVar[str] = "Selvaraju et al., ICCV 2017"
    needs: ClassVar[str] = "a layer with feature maps, and ReLUs"

    name: Literal["guided-grad-cam"] = "guided-grad-cam"
    layer: str | None = Field(
        default=None, description="Grad-CAM's layer, by dotted name; chosen by default."
    )

    def plan(self, work: Workload, network: Network) -> Cost:
        return Cost(forwards=2 * work.pictures, backwards=2 * work.scores)

    def request(self, study: Study) -> None:
        GradCAM(layer=self.layer).request(study)

    def compute(self, study: Study) -> Computed:
        coarse = GradCAM(layer=self.layer).compute(study)
        fine, warnings = GuidedBackprop().differentiate(study)
        calls = study.layers(self.layer).calls
        # Several inputs may meet before the layer; of one that it does not see it says nothing.
        where = {key: values for site, values in coarse.maps.items() for key in calls[site].inputs}
        where |= {site.input: values for site, values in coarse.maps.items()}
        maps = {
            site: each
            * upsample(where[site.input].clamp_min(0), (each.shape[-2], each.shape[-1]))[:, :, None]
            if site.input in where
            else torch.zeros_like(each)
            for site, each in fine.gradients.items()
        }
        unseen = ", ".join(str(site.input) for site in fine.gradients if site.input not in where)
        if unseen:
            warnings = (*warnings, f"the layer does not see input {unseen}: its map is zero")
        layers = ", ".join(str(site) for site in coarse.maps)
        return self.computed(study, maps, coarse.cost + fine.cost, warnings, f"{layers}: {coarse.reason}")
