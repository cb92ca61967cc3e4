"""What methods share that score the picture with parts of it covered: a map per picture input."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

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
_ROUNDING = {"float32": 1e-3, "bfloat16": 3e-2}


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
            notes = [(*own, *more) for own, more in zip(notes, rounding(scores, self.precision), strict=True)]
            cost += spent
        found = [(*remarks(list(maps.values()), row), *dict.fromkeys(own)) for row, own in enumerate(notes)]
        return Computed(maps, tuple(found), REASON, cost)


def rounding(scores: Float[Tensor, "B N T"], precision: Precision) -> list[tuple[str, ...]]:
    """Per picture, a note where its scores under N masks differ by so little that their rounding matters."""
    if scores.shape[1] == 1:
        return [()] * len(scores)
    used = resolved(precision, scores.device)
    spread = scores.amax(1) - scores.amin(1)
    little = (spread < _ROUNDING[used] * scores.abs().amax(1)).any(1).tolist()
    return [(f"{HARDLY}: what shows is partly its rounding in {used}",) if each else () for each in little]
