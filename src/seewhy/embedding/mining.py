"""Which triplets an anchor gets: drawn at random, the hardest, or semi-hard ones, by label or by value."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor


class Mining(BaseModel):
    """How triplets are chosen.

    What is random is drawn from the seed alone, the same for all anchors: maps depend neither on the batch nor on its
    order, and two anchors of one class get the same triplets.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    miner: Literal["random", "hard", "semi-hard"] = Field(
        default="random",
        description="`random` positives and negatives; `hard`: the pairs of a far positive and a near negative that "
        "break the margin most; `semi-hard` (Schroff et al., CVPR 2015): to random positives the nearest negative "
        "that is farther, or else the farthest.",
    )
    triplets: int = Field(default=32, ge=1, description="Triplets per anchor (T).")
    margin: float = Field(default=0.2, description="Of the triplet loss, in squared distance.")
    tolerance: float | None = Field(
        default=None,
        gt=0,
        description="None: labels are classes. Else they are values: those within it belong together, those "
        "farther apart than twice of it do not.",
    )
    seed: int = Field(default=0, description="Of what is drawn.")

    def partners(
        self, labels: Tensor, others: Tensor, itself: Bool[Tensor, "B N"]
    ) -> tuple[Bool[Tensor, "B N"], Bool[Tensor, "B N"]]:
        """Which of N entries are positives of each of B anchors, and which are negatives."""
        if self.tolerance is None:
            same = labels[:, None] == others
            return same & ~itself, ~same & ~itself
        apart = (labels[:, None] - others).abs()
        return (apart < self.tolerance) & ~itself, (apart > 2 * self.tolerance) & ~itself

    def mine(
        self, distances: Float[Tensor, "B N"], positives: Bool[Tensor, "B N"], negatives: Bool[Tensor, "B N"]
    ) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """Triplets of each anchor; every anchor must have a positive and a negative.

        Args:
            distances: of the anchors to all entries.
            positives: from `partners`.
            negatives: from `partners`.

        Returns:
            The places of the positives and of the negatives, and which of these triplets there are.
        """
        if self.miner == "hard":
            return self._hardest(distances, positives, negatives)
        draws = torch.rand((2, self.triplets), generator=torch.Generator().manual_seed(self.seed))
        first, second = draws.to(distances.device, torch.float64)
        near = _drawn(positives, first)
        far = _drawn(negatives, second) if self.miner == "random" else _semi_hard(distances, near, negatives)
        return near, far, torch.ones_like(near, dtype=torch.bool)

    def _hardest(
        self, distances: Float[Tensor, "B N"], positives: Bool[Tensor, "B N"], negatives: Bool[Tensor, "B N"]
    ) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
        most = min(self.triplets, distances.shape[1])
        squares = distances.square()
        # The T hardest pairs are among the T farthest positives and the T nearest negatives.
        far = squares.masked_fill(~positives, -torch.inf).topk(most, 1)
        near = (-squares).masked_fill(~negatives, -torch.inf).topk(most, 1)
        broken = (far.values[:, :, None] + near.values[:, None, :]).flatten(1)
        found = broken.topk(min(self.triplets, broken.shape[1]), 1)
        chosen = found.indices
        return (
            far.indices.gather(1, chosen // most),
            near.indices.gather(1, chosen % most),
            found.values.isfinite(),
        )


def _drawn(allowed: Bool[Tensor, "B N"], draws: Float[Tensor, " T"]) -> Int[Tensor, "B T"]:
    """The entries that uniform draws fall on, with replacement."""
    counts = allowed.cumsum(1)
    ranks = (draws * counts[:, -1:]).long()
    return torch.searchsorted(counts, ranks + 1)


def _semi_hard(
    distances: Float[Tensor, "B N"], near: Int[Tensor, "B T"], negatives: Bool[Tensor, "B N"]
) -> Int[Tensor, "B T"]:
    """To each positive the nearest negative that is farther away; where none is, the farthest."""
    ordered = distances.masked_fill(~negatives, torch.inf).sort(1)
    farther = torch.searchsorted(ordered.values, distances.gather(1, near), right=True)
    last = negatives.sum(1, keepdim=True) - 1
    return ordered.indices.gather(1, farther.minimum(last))
