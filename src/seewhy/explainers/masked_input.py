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
from seewhy.network.precision import Precision


class MaskedInput(Explainer):
    """A method with one value per pixel: values (B, T, H, W). While one input is masked the others stay whole."""

    needs: ClassVar[str] = "nothing but outputs"

    precision: Precision = Field(
        default="auto", description="Number format of the forwards. `auto`: bfloat16 where it is faster."
    )

    @abstractmethod
    def scored(self, study: Study, site: Site) -> tuple[Float[Tensor, "B T H W"], Cost]:
        """The map of one picture input, and the forwards that it took."""

    def compute(self, study: Study) -> Computed:
        cost = study.clean
        maps: dict[Site, Tensor] = {}
        for site in study.pixels:
            maps[site], spent = self.scored(study, site)
            cost += spent
        notes = [remarks(list(maps.values()), row) for row in range(study.arguments.batch)]
        return Computed(maps, tuple(notes), REASON, cost)
