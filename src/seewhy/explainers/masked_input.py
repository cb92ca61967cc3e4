"""What methods share that score the picture with parts of it covered: a map per picture input."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seewhy.explainers.base import Computed, Explainer
from seewhy.explainers.pixels import REASON, remarks
from seewhy.explainers.study import Study
from seewhy.explanation import Cost
from seewhy.network.layers import Site
from seewhy.network.precision import Precision, resolved

HARDLY = "the masks hardly change the score"
# Changes of the score, relative to it, below which the rounding of the forwards shows in the map.
_EXACT, _ROUGH = 1e-3, 3e-2  # in float32, in bfloat16 and float16


class MaskedInput(Explainer):
    """A method with one value per pixel: values (B, T, H, W). While one input is masked the others stay whole."""

    needs: ClassVar[str] = "nothing but outputs"
    subtracts_scores: ClassVar[bool] = True

    precision: Precision = Field(
        default="auto", description="Number format of the forwards. `auto`: bfloat16 where it is faster."
    )

    @abstractmethod
    def scored(
        self, study: Study, site: Site
    ) -> tuple[Float[Tensor, "B T H W"], Float[Tensor, "B N T"], Cost]:
        """The map of one picture input, the scores under every mask, and the forwards that it took."""

    def compute(self, study: Study) -> Computed:
        cost = study.clean
        maps: dict[Site, Tensor] = {}
        notes: list[tuple[str, ...]] = [()] * study.arguments.batch
        for site in study.pixels:
            maps[site], scores, spent = self.scored(study, site)
            more = rounding(study, scores, self.precision)
            notes = [(*own, *each) for own, each in zip(notes, more, strict=True)]
            cost += spent
        found = [(*remarks(list(maps.values()), row), *dict.fromkeys(own)) for row, own in enumerate(notes)]
        return Computed(maps, tuple(found), REASON, cost)


def rounding(study: Study, scores: Float[Tensor, "B N T"], precision: Precision) -> list[tuple[str, ...]]:
    """Per picture, a note where its scores under N masks differ, but by so little that their rounding matters."""
    lower = study.network.dtype in (torch.bfloat16, torch.float16)
    used = str(study.network.dtype)[6:] if lower else resolved(precision, scores.device)
    spread = scores.amax(1) - scores.amin(1)
    share = _EXACT if used == "float32" else _ROUGH
    little = ((spread > 0) & (spread < share * scores.abs().amax(1))).any(1).tolist()
    note = f"{HARDLY}: what shows is partly its rounding in {used}"
    return [(note,) if each else () for each in little]
