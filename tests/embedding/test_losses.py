"""Each loss against its formula written out once more, pair by pair, in float64."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from toy_embedders import WIDTH, Embedder, pictures

from seewhy import (
    ContrastiveLoss,
    GradCAM,
    HiResCAM,
    Network,
    NTXent,
    ProxyAnchor,
    ProxyNCA,
    SetSimilarity,
    Similarity,
    TextDirection,
    TripletLoss,
)
from seewhy.errors import TargetError


def vectors(*shape: int, seed: int = 5) -> torch.Tensor:
    return torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


E, P, N = vectors(4, seed=1), vectors(4, 3, seed=2), vectors(4, 3, seed=3)
LABELS = torch.tensor([0, 2, 1, 2])


def asked(target, embeddings):
    """The bound question for embeddings that are the outputs."""
    return target.bind(embeddings, Network(torch.nn.Identity()))


def dot(a, b):
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def cosine(a, b):
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def square(a, b):
    return dot(a - b, a - b)


def triplet(row):
    terms = [square(E[row], p) - square(E[row], n) + 2.0 for p, n in zip(P[row], N[row], strict=True)]
    active = [each for each in terms if each > 0]
    return sum(active) / len(active)


def contrastive(row):
    distance = math.sqrt(square(E[row], P[row, 0]))
    return distance**2 / 2 if row % 2 else max(0, 9 - distance) ** 2 / 2


def nt_xent(row):
    own = math.exp(cosine(E[row], P[row, 0]) / 0.5)
    return -math.log(own / (own + sum(math.exp(cosine(E[row], n) / 0.5) for n in N[row])))


def proxy_nca(row):
    apart = [2 - 2 * cosine(E[row], proxy) for proxy in P[0]]
    own = int(LABELS[row])
    others = sum(math.exp(-each) for place, each in enumerate(apart) if place != own)
    return -math.log(math.exp(-apart[own]) / others)


def proxy_anchor(row):
    found, own = 0.0, int(LABELS[row])
    for place, proxy in enumerate(P[0]):
        s = cosine(E[row], proxy)
        found += (
            math.log1p(math.exp(-4 * (s - 0.1))) if place == own else math.log1p(math.exp(4 * (s + 0.1))) / 3
        )
    return found


CASES = {
    "triplet": (TripletLoss(P, N, margin=2.0), triplet, -1),
    "contrastive": (ContrastiveLoss(P[:, 0], torch.tensor([False, True, False, True]), 9.0), contrastive, -1),
    "nt-xent": (NTXent(P[:, 0], N, 0.5), nt_xent, -1),
    "proxy-nca": (ProxyNCA(P[0], LABELS), proxy_nca, -1),
    "proxy-anchor": (ProxyAnchor(P[0], LABELS, alpha=4.0), proxy_anchor, -1),
    "set": (SetSimilarity(P), lambda row: sum(cosine(E[row], p) for p in P[row]) / 3, 1),
    "inner products": (
        SetSimilarity(P, cosine=False),
        lambda row: sum(dot(E[row], p) for p in P[row]) / 3,
        1,
    ),
    "text": (
        TextDirection(P[0, 0], P[0, 1]),
        lambda row: cosine(E[row], P[0, 0]) - cosine(E[row], P[0, 1]),
        1,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_score_is_what_the_formula_gives(name):
    target, slow, sign = CASES[name]
    expected = [sign * slow(row) for row in range(4)]
    assert asked(target, E)(E)[:, 0].tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_its_gradient_is_what_differences_say(name):
    target, slow, sign = CASES[name]
    anchor = E.clone().requires_grad_()
    (found,) = torch.autograd.grad(asked(target, E)(anchor).sum(), anchor)
    step = 1e-5
    for row, place in ((0, 1), (1, 3), (2, 0)):
        ends = []
        for way in (1, -1):
            before = float(E[row, place])
            E[row, place] = before + way * step
            ends.append(sign * slow(row))
            E[row, place] = before
        assert float(found[row, place]) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("name", CASES)
def test_evidence_against_is_the_negated_score_and_both_say_what_they_are(name):
    target, _, _ = CASES[name]
    other = copy.copy(target)
    object.__setattr__(other, "evidence", "against")
    pro, contra = asked(target, E), asked(other, E)
    assert torch.equal(pro(E), -contra(E))
    assert pro.labels[0][0].endswith("evidence for")
    assert contra.labels[0][0].endswith("evidence against")


@pytest.mark.parametrize("name", CASES)
def test_a_selection_asks_each_row_its_own_question(name):
    target, _, _ = CASES[name]
    rows = torch.tensor([2, 0, 2])
    assert torch.allclose(asked(target, E).select(rows)(E[rows]), asked(target, E)(E)[rows])
    assert torch.allclose(asked(target.pick([2, 0], 4), E[[2, 0]])(E[[2, 0]]), asked(target, E)(E)[[2, 0]])


def test_normalising_is_asking_of_unit_vectors():
    units = torch.nn.functional.normalize
    found = asked(TripletLoss(P, N, 2.0, normalize=True), E)(E)
    expected = asked(TripletLoss(units(P, dim=2), units(N, dim=2), 2.0), units(E))(units(E))
    assert torch.allclose(found, expected)


def test_a_triplet_that_is_settled_is_explained_without_margin_and_said_so():
    near, far = E + 0.01, E + 10
    bound = asked(TripletLoss(near, far, 0.2), E)
    anchor = E.clone().requires_grad_()
    (found,) = torch.autograd.grad(bound(anchor).sum(), anchor)
    assert torch.allclose(found, -2 * (far - near))
    assert (
        bound.notes == ("all 1 triplets are inactive (margin 0.2): explained without margin and hinge",) * 4
    )


def test_of_triplets_of_which_some_are_active_these_count():
    positives = torch.stack([E + 0.01, E + 5], 1)
    negatives = torch.stack([E + 10, E + 1], 1)
    bound = asked(TripletLoss(positives, negatives, 0.2), E)
    alone = asked(TripletLoss(E + 5, E + 1, 0.2), E)
    assert torch.allclose(bound(E), alone(E))
    assert bound.notes == ("1 of 2 triplets are active",) * 4


def test_a_pair_beyond_the_margin_is_explained_without_it_and_said_so():
    bound = asked(ContrastiveLoss(E + 3, same=False, margin=1.0), E)
    anchor = E.clone().requires_grad_()
    (found,) = torch.autograd.grad(bound(anchor).sum(), anchor)
    assert torch.allclose(found, E - (E + 3))
    assert all("beyond the margin" in note for note in bound.notes)


def test_one_hot_proxies_are_class_scores():
    net, images = Embedder(), pictures()
    proxies = torch.eye(WIDTH)
    for method in (GradCAM, HiResCAM):
        found = method(layer="features")(net, images, Similarity(proxies[2], normalize=False))
        assert torch.allclose(found.values, method(layer="features")(net, images, 2).values, atol=1e-7)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (TripletLoss(torch.ones(4), torch.ones(WIDTH)), r"TripletLoss: positive of shape \(1, 1, 4\)"),
        (TripletLoss(torch.ones(4, 2, WIDTH), torch.ones(4, 3, WIDTH)), "2 positives and 3 negatives"),
        (NTXent(torch.ones(3, WIDTH), torch.ones(2, WIDTH)), r"positive of shape \(3, 5\)"),
        (ProxyNCA(torch.ones(3, WIDTH), 3), "labels .* of 3 proxies"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_shape(target, message):
    with pytest.raises(TargetError, match=message):
        asked(target, E)
