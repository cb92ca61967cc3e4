"""The triplet loss against loops over its triplets."""

import math

import pytest
import torch

from seewhy.zoo.triplet_loss import triplet_loss, value_triplet_loss


def batch(count: int, people: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(count, 6, generator=generator, dtype=torch.float64)
    return embeddings, torch.randint(people, (count,), generator=generator)


def cosine(a, b) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def slow(embeddings, labels, mining: str, scale: float) -> float:
    rows, who = embeddings.tolist(), labels.tolist()
    gaps = []
    for anchor, row in enumerate(rows):
        own = [cosine(row, rows[n]) for n in range(len(rows)) if who[n] == who[anchor] and n != anchor]
        others = [cosine(row, rows[n]) for n in range(len(rows)) if who[n] != who[anchor]]
        if mining == "hard" and own and others:
            gaps.append(max(others) - min(own))
        elif mining == "all":
            gaps += [n - p for p in own for n in others]
    return sum(math.log1p(math.exp(scale * gap)) for gap in gaps) / len(gaps) if gaps else 0.0


@pytest.mark.parametrize("mining", ["all", "hard"])
@pytest.mark.parametrize(
    ("count", "people", "scale"), [(2, 1, 10.0), (7, 3, 1.0), (12, 4, 10.0), (9, 9, 5.0)]
)
def test_the_loss_is_the_mean_over_its_triplets(mining, count, people, scale) -> None:
    embeddings, labels = batch(count, people, count)
    found = triplet_loss(embeddings, labels, mining, scale)
    assert found.item() == pytest.approx(slow(embeddings, labels, mining, scale), rel=1e-5)


@pytest.mark.parametrize("mining", ["all", "hard"])
def test_the_length_of_an_embedding_does_not_count(mining) -> None:
    embeddings, labels = batch(8, 3, 5)
    lengths = torch.rand(8, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    assert triplet_loss(lengths * embeddings, labels, mining).item() == pytest.approx(
        triplet_loss(embeddings, labels, mining).item(), rel=1e-5
    )


@pytest.mark.parametrize("mining", ["all", "hard"])
def test_a_batch_without_a_triplet_costs_nothing_and_has_a_gradient(mining) -> None:
    for labels in (torch.zeros(4, dtype=torch.long), torch.arange(4)):
        embeddings = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
        loss = triplet_loss(embeddings, labels, mining)
        loss.backward()
        assert loss.item() == 0
        assert not embeddings.grad.any()


def test_well_separated_individuals_cost_almost_nothing_and_mixed_ones_much() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    apart = torch.tensor([[1.0, 0], [1, 0.01], [-1, 0], [-1, 0.01]])
    assert triplet_loss(apart, labels).item() < 1e-6
    assert triplet_loss(apart, torch.tensor([0, 1, 0, 1])).item() > 5


@pytest.mark.parametrize(("count", "close"), [(6, 0.2), (9, 0.5), (4, 3.0)])
def test_the_loss_of_values_is_the_mean_over_its_triplets(count, close) -> None:
    embeddings, _ = batch(count, 1, count)
    values = torch.rand(count, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows, prices = embeddings.tolist(), values.tolist()

    def apart(a: int, b: int) -> float:
        return math.dist(rows[a], rows[b]) ** 2

    hinges = [
        max(apart(a, p) - apart(a, n) + 1, 0)
        for a in range(count)
        for p in range(count)
        for n in range(count)
        if p != a and abs(prices[a] - prices[p]) < close and abs(prices[a] - prices[n]) > 2 * close
    ]
    expected = sum(hinges) / len(hinges) if hinges else 0.0
    assert value_triplet_loss(embeddings, values, close).item() == pytest.approx(expected, rel=1e-9)
