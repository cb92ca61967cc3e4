"""What methods share whose maps lie on the pixels: the channel axis, and the remarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from seewhy.explainers.base import Computed, Explainer, Workload
from seewhy.explainers.study import Study
from seewhy.explanation import Cost, Reduce, reduced
from seewhy.network.layers import Site
from seewhy.network.network import Network

REASON = "the pictures themselves"


class PixelMethod(Explainer):
    """A method with one value per pixel and colour channel: values (B, T, C, H, W)."""

    needs: ClassVar[str] = "a target that can be differentiated down to the pixels"

    reduce: Reduce = Field(
        default="sum",
        description="How evidence and pictures of the map join the colour channels: their sum, which has a sign, "
        "the sum of their magnitudes, or the largest magnitude. `values` keep them.",
    )

    def plan(self, work: Workload, network: Network) -> Cost:
        return Cost(forwards=work.pictures, backwards=work.scores)

    def computed(
        self,
        study: Study,
        maps: dict[Site, Tensor],
        cost: Cost,
        warnings: Sequence[str] = (),
        reason: str = REASON,
    ) -> Computed:
        """The result, with remarks on maps that say nothing, and warnings on all of them."""
        rows = range(study.arguments.batch)
        notes = tuple((*remarks(list(maps.values()), row, self.reduce), *warnings) for row in rows)
        return Computed(maps, notes, reason, cost)


def remarks(maps: list[Tensor], row: int, reduce: Reduce = "sum") -> tuple[str, ...]:
    """What to know before trusting one picture's maps."""
    if not any(bool(values[row].any()) for values in maps):
        return ("no evidence: the map is zero everywhere",)
    if all(bool((reduced(values[row : row + 1], reduce) <= 0).all()) for values in maps):
        return ("no positive evidence",)
    return ()
