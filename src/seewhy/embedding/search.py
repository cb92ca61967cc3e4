"""The nearest of many embeddings: exactly, by matrix products, or by an index of faiss that proves its recall."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seewhy.errors import InputError, MissingExtraError, SeewhyError

RECALL = 0.99
"""Of the nearest neighbours that an index must find, or it is refused."""
_ROWS = 1 << 16  # compared at once
_SPARE = 8  # candidates beyond those asked for, whose order a matrix product may have wrong
_SAMPLE = 1000


@runtime_checkable
class Index(Protocol):
    """What finds neighbours."""

    def search(
        self, queries: Float[Tensor, "B D"], count: int
    ) -> tuple[Float[Tensor, "B n"], Int[Tensor, "B n"]]:
        """Distances to the nearest entries, and their places, nearest first."""


class ExactSearch:
    """All entries are compared, by matrix products; the best are ordered by their differences to the query.

    Args:
        embeddings: the entries.
    """

    def __init__(self, embeddings: Float[Tensor, "N D"]) -> None:
        self.embeddings = embeddings
        self._halves = embeddings.square().sum(1) / 2

    def search(
        self, queries: Float[Tensor, "B D"], count: int
    ) -> tuple[Float[Tensor, "B n"], Int[Tensor, "B n"]]:
        """As `Index` says."""
        best: list[Tensor] = []
        places: list[Tensor] = []
        for start in range(0, len(self.embeddings), _ROWS):
            rows = slice(start, start + _ROWS)
            # Largest where |q - x|^2 is least, which is |q|^2 - 2 (q x - |x|^2 / 2).
            scores = torch.addmm(self._halves[rows], queries, self.embeddings[rows].T, beta=-1)
            found = scores.topk(min(count + _SPARE, scores.shape[1]), 1)
            best.append(found.values)
            places.append(found.indices + start)
        scores, candidates = torch.cat(best, 1), torch.cat(places, 1)
        keep = scores.topk(min(count + _SPARE, scores.shape[1]), 1).indices
        return refined(self.embeddings, queries, candidates.gather(1, keep), count)


class FaissSearch:
    """An index of faiss, made by its factory text such as `HNSW32`; of what it finds the distances are exact.

    Args:
        embeddings: the entries.
        factory: what faiss makes the index of.

    Raises:
        MissingExtraError: faiss is not installed.
        InputError: faiss does not know such an index.
        SeewhyError: it misses more than 1 % of the nearest neighbours of a sample of the entries.
    """

    def __init__(self, embeddings: Float[Tensor, "N D"], factory: str) -> None:
        try:
            import faiss
        except ImportError:
            raise MissingExtraError("faiss", "faiss") from None
        self.embeddings = embeddings
        entries = embeddings.cpu().contiguous().numpy()
        try:
            self._index: Any = faiss.index_factory(embeddings.shape[1], factory)
            if not self._index.is_trained:
                self._index.train(entries)
        except RuntimeError as error:
            raise InputError(f"faiss makes no index {factory!r} of these embeddings: {error}") from None
        self._index.add(entries)
        self.recall = recall(self, ExactSearch(embeddings))
        if self.recall < RECALL:
            raise SeewhyError(
                f"the faiss index {factory!r} finds the nearest neighbour of {self.recall:.1%} only; at least "
                f"{RECALL:.0%} are asked for: take a larger one, or exact search"
            )

    def search(
        self, queries: Float[Tensor, "B D"], count: int
    ) -> tuple[Float[Tensor, "B n"], Int[Tensor, "B n"]]:
        """As `Index` says."""
        asked = min(count + _SPARE, len(self.embeddings))
        _, places = self._index.search(queries.cpu().contiguous().numpy(), asked)
        # Where it finds fewer than it was asked for it says -1; the first is as good as any.
        found = torch.from_numpy(places)
        found = torch.where(found < 0, found[:, :1].clamp_min(0), found).to(queries.device)
        return refined(self.embeddings, queries, found, count)


def recall(index: Index, exact: ExactSearch) -> float:
    """The share of a sample of the entries whose nearest other entry an index finds, or one as near."""
    sample = sampled(exact.embeddings)
    found, _ = index.search(exact.embeddings[sample], 2)
    truth, _ = exact.search(exact.embeddings[sample], 2)
    return float((found[:, -1] <= truth[:, -1]).double().mean())


def sampled(embeddings: Float[Tensor, "N D"]) -> Int[Tensor, " S"]:
    """Places of at most a thousand entries, evenly spread."""
    count = len(embeddings)
    step = -(-count // _SAMPLE)
    return torch.arange(0, count, step, device=embeddings.device)


def refined(
    embeddings: Float[Tensor, "N D"],
    queries: Float[Tensor, "B D"],
    candidates: Int[Tensor, "B c"],
    count: int,
) -> tuple[Float[Tensor, "B n"], Int[Tensor, "B n"]]:
    """The best candidates by their differences to the query; of equal ones the first in the bank."""
    candidates = candidates.sort(1).values
    apart = (embeddings[candidates] - queries[:, None]).norm(dim=2)
    order = apart.sort(dim=1, stable=True).indices[:, :count]
    return apart.gather(1, order), candidates.gather(1, order)
