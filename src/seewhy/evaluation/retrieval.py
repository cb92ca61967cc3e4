"""Retrieval: how well embeddings find the same again. Recall@k and mean average precision."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from seewhy.errors import InputError
from seewhy.network.precision import exact_type

Labels = Sequence[Hashable] | Tensor
_AT_ONCE = 1 << 22  # similarities held at a time
_EQUAL = 1e-9  # similarities this near are ties: sums of the same numbers in another order are nearer


@dataclass(frozen=True, eq=False)
class Ranking:
    """Where the right matches of every query stand.

    Attributes:
        first: the rank of its first right match, 1 for the best; 0 where the gallery holds none.
        average_precision: mean over its right matches of the share of right ones up to there; NaN where there is none.
    """

    first: Int[Tensor, " Q"]
    average_precision: Float[Tensor, " Q"]

    @property
    def answerable(self) -> int:
        """How many queries have a right match in the gallery: what the figures below are of."""
        return int((self.first > 0).sum())

    def recall(self, k: int) -> float:
        """Recall@k (Jégou et al., 2011): the share of queries with a right match among the k nearest; NaN of none."""
        if k < 1:
            raise InputError(f"recall@{k}: k is at least 1")
        known = self.first[self.first > 0]
        return float((known <= k).double().mean())

    @property
    def mean_average_precision(self) -> float:
        """The mean of the average precisions; NaN of none."""
        return float(self.average_precision.nanmean())


def ranking(
    embeddings: Float[Tensor, "Q D"],
    labels: Labels,
    gallery: Float[Tensor, "N _"] | None = None,
    gallery_labels: Labels | None = None,
    *,
    normalize: bool = True,
    chunk: int | None = None,
) -> Ranking:
    """Rank a gallery for every query, by similarity.

    Equal similarities count at their worst, the wrong ones first: a network that says the same of every picture finds
    nothing, whatever the order of the gallery. Only a chunk of queries is compared at a time.

    Args:
        embeddings: of the queries.
        labels: who each shows; any values that can be compared.
        gallery: what is searched; the queries themselves by default, each without itself.
        gallery_labels: who each of the gallery shows.
        normalize: cosine (True) or plain inner product.
        chunk: queries compared at a time; as many as 4 million similarities allow by default.

    Raises:
        InputError: labels do not fit embeddings, a gallery without labels, NaN or infinity.

    Example:
        >>> found = ranking(torch.tensor([[1.0, 0], [1, 0.1], [0, 1]]), ["ann", "ann", "bob"])
        >>> found.recall(1), found.answerable
        (1.0, 2)
    """
    alone = gallery is None
    if (gallery is None) != (gallery_labels is None):
        raise InputError("a gallery needs its labels, and labels their gallery")
    mine, theirs = _numbered(labels, gallery_labels)
    searched = embeddings if gallery is None else gallery
    _check(embeddings, mine, "queries")
    _check(searched, theirs, "a gallery")
    if searched.shape[1] != embeddings.shape[1]:
        raise InputError(f"queries of {embeddings.shape[1]} numbers, a gallery of {searched.shape[1]}")
    # In float64 ties are those of the embeddings, not of how a product is summed.
    exact = exact_type(embeddings.device)
    queries, others = embeddings.to(exact), searched.to(exact)
    if normalize:
        queries, others = F.normalize(queries, dim=1), F.normalize(others, dim=1)
    mine, theirs = mine.to(queries.device), theirs.to(queries.device)
    step = chunk or max(_AT_ONCE // max(len(others), 1), 1)
    parts = []
    for start in range(0, len(queries), step):
        similar = queries[start : start + step] @ others.T
        right = mine[start : start + step, None] == theirs[None]
        wrong = ~right
        if alone:
            itself = torch.arange(len(similar), device=right.device)
            right[itself, start + itself] = False
        parts.append(_ranked(similar, right, wrong))
    if not parts:
        return Ranking(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.float64))
    return Ranking(torch.cat([first for first, _ in parts]), torch.cat([precision for _, precision in parts]))


def _check(rows: Tensor, who: Tensor, what: str) -> None:
    """Refuse embeddings that have no labels or are no numbers."""
    if rows.ndim != 2 or len(rows) != len(who):
        raise InputError(
            f"{what} of shape {tuple(rows.shape)} with {len(who)} labels; (N, D) and N are needed"
        )
    if not bool(rows.isfinite().all()):
        raise InputError(f"the embeddings of {what} hold NaN or infinity")


def _ranked(similar: Tensor, right: Tensor, wrong: Tensor) -> tuple[Tensor, Tensor]:
    """Rank of the first right match, and average precision, of some queries (q, N).

    The r-th best right match stands behind r - 1 right ones and all wrong ones that are at least as similar. So only
    the right ones are sorted, and every wrong one is counted among the thresholds that they are.
    """
    most = int(right.sum(1).max())
    if most == 0:
        return right.sum(1), torch.full((len(right),), torch.nan, dtype=similar.dtype, device=similar.device)
    best = similar.masked_fill(~right, -torch.inf).topk(most).values
    known = best.isfinite()
    thresholds = best.flip(1) - _EQUAL  # rising, as searchsorted wants them
    reached = torch.searchsorted(thresholds, similar, right=True)
    counts = torch.zeros(len(similar), most + 1, dtype=torch.long, device=similar.device)
    counts.scatter_add_(1, reached, wrong.long())
    before = counts.flip(1).cumsum(1)[:, :most]  # wrong ones at least as similar as the best, the second …
    place = torch.arange(1, most + 1, device=similar.device)
    precision = (place / (place + before).to(similar.dtype)).masked_fill(~known, 0).sum(1) / known.sum(1)
    return torch.where(known[:, 0], before[:, 0] + 1, 0), precision


def _numbered(labels: Labels, others: Labels | None) -> tuple[Tensor, Tensor]:
    """Both kinds of labels as numbers, equal where the labels are."""
    numbers: dict[Hashable, int] = {}

    def of(values: Labels) -> Tensor:
        plain = values.tolist() if isinstance(values, Tensor) else values
        return torch.tensor([numbers.setdefault(each, len(numbers)) for each in plain], dtype=torch.long)

    mine = of(labels)
    return mine, mine if others is None else of(others)
