"""Neighbours against all distances in float64."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

from seewhy.embedding import search
from seewhy.embedding.search import ExactSearch, FaissSearch, recall
from seewhy.errors import InputError, MissingExtraError, SeewhyError


def vectors(count: int, width: int = 24, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def slow(entries: Tensor, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
    apart = (entries.double()[None] - queries.double()[:, None]).norm(dim=2)
    found = apart.sort(dim=1, stable=True)
    return found.values[:, :count], found.indices[:, :count]


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_exact_search_finds_what_all_distances_say(monkeypatch, offset):
    monkeypatch.setattr(search, "_ROWS", 700)  # several pieces
    entries, queries = vectors(3000) + offset, vectors(40, seed=1) + offset
    distances, places = ExactSearch(entries).search(queries, 5)
    expected, where = slow(entries, queries, 5)
    assert torch.equal(places, where)
    assert torch.allclose(distances.double(), expected, rtol=1e-5)


def test_an_entry_is_its_own_neighbour_at_distance_zero():
    entries = vectors(500) * 30
    distances, places = ExactSearch(entries).search(entries, 1)
    assert torch.equal(places[:, 0], torch.arange(500))
    assert not distances.any()


def test_of_equal_entries_the_first_is_the_nearest():
    entries = vectors(10)[[3, 1, 3, 3, 2]]
    assert ExactSearch(entries).search(entries[2:3], 3)[1].tolist() == [[0, 2, 3]]


def test_more_neighbours_than_entries_are_all_entries():
    assert ExactSearch(vectors(3)).search(vectors(2, seed=1), 9)[1].shape == (2, 3)


def test_a_batch_finds_what_its_queries_find():
    entries, queries = vectors(2000), vectors(33, seed=1)
    exact = ExactSearch(entries)
    together, singles = exact.search(queries, 3), [exact.search(query[None], 3) for query in queries]
    assert torch.equal(together[1], torch.cat([places for _, places in singles]))
    assert torch.equal(together[0], torch.cat([distances for distances, _ in singles]))


class _Bad(ExactSearch):
    """Misses a share of the neighbours."""

    def search(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        distances, places = super().search(queries, count)
        distances[: len(distances) // 20, -1] += 1
        return distances, places


def test_recall_is_the_share_of_neighbours_that_are_found():
    exact = ExactSearch(vectors(400))
    assert recall(exact, exact) == 1
    assert recall(_Bad(vectors(400)), exact) == pytest.approx(0.95)


def test_without_faiss_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"seewhy\[faiss\]"):
        FaissSearch(vectors(10), "Flat")


def test_a_faiss_index_finds_what_exact_search_finds():
    entries, queries = vectors(3000), vectors(20, seed=1)
    index = FaissSearch(entries, "Flat")
    assert index.recall == 1
    assert torch.equal(index.search(queries, 3)[1], ExactSearch(entries).search(queries, 3)[1])


def test_a_faiss_index_that_misses_neighbours_is_refused():
    with pytest.raises(SeewhyError, match="at least 99% are asked for"):
        FaissSearch(vectors(3000), "IVF256,Flat")
    with pytest.raises(InputError, match="makes no index 'Nonsense'"):
        FaissSearch(vectors(300), "Nonsense")
