"""Salient Relevance: what stands out in a map of relevance."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal

from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from seewhy.explainers.base import Computed, Explainer, Workload
from seewhy.explainers.lrp import LRP
from seewhy.explainers.salient import Combine, salient
from seewhy.explainers.study import Study
from seewhy.explanation import Cost
from seewhy.network.layers import Site
from seewhy.network.network import Network
from seewhy.saliency import ContextAwareSaliency, Saliency


class SalientRelevance(Explainer):
    """Salient Relevance (Li et al., "Beyond Saliency", 2017): context-aware saliency of the map of LRP.

    Saliency measures what is distinctive in the map, not what is relevant: it is blind to the sign and to the inside of
    even areas. `combine="multiply"` weighs the smoothed relevance by it. Read it beside the map of `lrp`.
    """

    title: ClassVar[str] = "Salient Relevance"
    paper: ClassVar[str] = "Li et al., 2017"
    needs: ClassVar[str] = "operations that have a rule"
    signed: ClassVar[bool] = False
    presets: ClassVar = {
        "reference": {
            "relevance": LRP(composite="reference-sr"),
            "saliency": ContextAwareSaliency.from_preset("reference"),
            "combine": "saliency",
        },
        "relevance": {"combine": "saliency"},
        "blurred": {"combine": "blurred"},
    }

    name: Literal["salient-relevance"] = "salient-relevance"
    relevance: LRP = Field(default=LRP(), description="The first step; its layer is the pixels.")
    saliency: ContextAwareSaliency = Field(
        default=ContextAwareSaliency.from_preset("relevance", query_stride=2),
        description="The second step: in mode `relevance` on the signed map, or `quantised`, as public code has it.",
    )
    combine: Combine = Field(
        default="multiply",
        description="`saliency`, the paper's; `multiply`: the smoothed magnitude of the relevance times "
        "(1 + saliency) / 2; or `blurred`: that magnitude alone, the baseline of the other two.",
    )
    sigma: float = Field(
        default=3.0, gt=0, description="Of the Gaussian that smooths the magnitude, in pixels."
    )

    @property
    def besides(self) -> str:
        """The search for patches that stand out; the blurred magnitude has none."""
        return "" if self.combine == "blurred" else "seconds of saliency search a map"

    def plan(self, work: Workload, network: Network) -> Cost:
        return self.relevance.plan(work, network)

    @model_validator(mode="after")
    def _two_steps(self) -> SalientRelevance:
        if self.relevance.layer is not None:
            raise ValueError("the relevance is that of the pixels; leave its layer out")
        if self.saliency.mode == "picture":
            raise ValueError("the saliency of maps has mode relevance or quantised")
        return self

    def compute(self, study: Study) -> Computed:
        found = self.relevance.compute(study)
        notes = [list(each) for each in found.notes]
        maps = {}
        for site, values in found.maps.items():
            of_site = partial(self._saliency, study, site)
            salience = salient(values.flatten(0, 1), of_site, self.combine, self.sigma)
            maps[site] = salience.values.view(*values.shape[:2], *values.shape[3:])
            for place, more in enumerate(salience.notes):
                notes[place // values.shape[1]].extend(more)
        return Computed(maps, tuple(tuple(dict.fromkeys(each)) for each in notes), found.reason, found.cost)

    def _saliency(self, study: Study, site: Site, relevance: Float[Tensor, "B C H W"]) -> Saliency:
        """Of the relevance, which another method may have asked for already."""
        return study.shared((self.relevance, self.saliency, site), lambda: self.saliency(relevance))
