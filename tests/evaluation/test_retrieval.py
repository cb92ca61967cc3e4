"""Recall@k and mean average precision, against lists that are sorted by hand."""

import math

import pytest
import torch

from seewhy.errors import InputError
from seewhy.evaluation.retrieval import ranking

COMPASS = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.5, 0.5], [0.1, 0.9], [0.0, 1.0]])


def slow(queries, labels, gallery=None, gallery_labels=None, normalize=True):
    """First rank and average precision of every query from a sorted list, wrong ones first among equals."""
    alone = gallery is None
    rows = queries if alone else gallery
    names = labels if alone else gallery_labels
    found = []
    for number, (query, label) in enumerate(zip(queries.tolist(), labels, strict=True)):
        listed = []
        for other, (row, name) in enumerate(zip(rows.tolist(), names, strict=True)):
            if alone and other == number:
                continue
            product = math.fsum(a * b for a, b in zip(query, row, strict=True))
            if normalize:
                product /= math.hypot(*query) * math.hypot(*row)
            listed.append((-round(product, 9), name == label))
        listed.sort()
        right = [place for place, (_, own) in enumerate(listed, 1) if own]
        precisions = [(n + 1) / place for n, place in enumerate(right)]
        found.append((right[0], sum(precisions) / len(right)) if right else (0, math.nan))
    return found


def check(found, expected) -> None:
    assert found.first.tolist() == [first for first, _ in expected]
    assert found.average_precision.tolist() == pytest.approx([each for _, each in expected], nan_ok=True)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("levels", [2, 1000])
@pytest.mark.parametrize("people", [1, 4, 30])
def test_every_query_s_figures_are_those_of_its_sorted_list(people, levels, normalize) -> None:
    """Few levels make many ties, many people queries without a match."""
    generator = torch.Generator().manual_seed(people)
    rows = torch.randint(1, levels + 1, (60, 3), generator=generator).float()
    names = torch.randint(people, (60,), generator=generator)
    check(ranking(rows, names, normalize=normalize), slow(rows, names.tolist(), normalize=normalize))
    apart = (rows[:20], names[:20].tolist(), rows[20:], names[20:].tolist())
    check(ranking(*apart, normalize=normalize), slow(*apart, normalize=normalize))


def test_by_hand() -> None:
    """The first finds b before a (1/2, 2/3 of the way), the second likewise; the rest are written out beside them."""
    found = ranking(COMPASS, ["a", "b", "a", "b", "a"])
    # a: b a b a -> 1/2, 2/4; b: a a b a -> 1/3; a: (b b) a a -> 1/3, 2/4; b: a a b a -> 1/3; a: b a b a -> 1/2, 2/4
    assert found.first.tolist() == [2, 3, 3, 3, 2]
    assert found.average_precision.tolist() == pytest.approx([0.5, 1 / 3, 5 / 12, 1 / 3, 0.5])
    assert (found.recall(1), found.recall(2), found.recall(3)) == (0.0, 0.4, 1.0)
    assert found.mean_average_precision == pytest.approx((0.5 + 1 / 3 + 5 / 12 + 1 / 3 + 0.5) / 5)


def test_a_query_is_never_its_own_match() -> None:
    """Two equal rows find each other; a label that stands once has no match, though it is its own nearest."""
    found = ranking(torch.tensor([[1.0, 0], [1, 0], [0, 1]]), ["a", "a", "b"])
    assert found.first.tolist() == [1, 1, 0]
    assert found.answerable == 2
    assert found.recall(1) == found.mean_average_precision == 1


def test_a_gallery_may_hold_the_query_itself_if_it_is_given() -> None:
    assert ranking(COMPASS, [0, 1, 2, 3, 4], COMPASS, [0, 1, 2, 3, 4]).recall(1) == 1


@pytest.mark.parametrize("chunk", [None, 1, 7, 16])
def test_a_network_that_says_the_same_of_every_picture_finds_nothing(chunk) -> None:
    """The product of equal rows differs in its last digits between places of a matrix; that must not break ties."""
    rows = torch.randn(1, 64, generator=torch.Generator().manual_seed(0)).expand(16, 64)
    found = ranking(rows, [0, 1] * 8, chunk=chunk)
    assert found.first.tolist() == [9] * 16
    assert found.recall(8) == 0


def test_neither_chunks_nor_the_gallery_s_order_change_anything() -> None:
    generator = torch.Generator().manual_seed(3)
    rows, names = torch.randn(50, 8, generator=generator), torch.randint(9, (50,), generator=generator)
    whole = ranking(rows[:10], names[:10], rows, names)
    order = torch.randperm(50, generator=generator)
    for other in (
        ranking(rows[:10], names[:10], rows, names, chunk=3),
        ranking(rows[:10], names[:10], rows[order], names[order]),
    ):
        assert torch.equal(other.first, whole.first)
        assert torch.allclose(other.average_precision, whole.average_precision, rtol=1e-12)


def test_names_that_only_the_gallery_has_are_wrong_matches() -> None:
    found = ranking(COMPASS[:1], ["a"], COMPASS[1:], ["x", "y", "a", "z"])
    assert found.first.tolist() == [3]
    assert found.average_precision.tolist() == pytest.approx([1 / 3])


def test_without_any_match_there_is_no_figure() -> None:
    found = ranking(COMPASS, range(5))
    assert found.answerable == 0
    assert math.isnan(found.recall(1))
    assert math.isnan(found.mean_average_precision)
    assert math.isnan(ranking(COMPASS[:0], []).recall(1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((COMPASS, [0, 1]), r"queries of shape \(5, 2\) with 2 labels"),
        ((COMPASS, range(5), COMPASS), "a gallery needs its labels"),
        ((COMPASS, range(5), None, [0]), "a gallery needs its labels"),
        ((COMPASS, range(5), COMPASS, [0]), r"a gallery of shape \(5, 2\) with 1 labels"),
        ((COMPASS, range(5), torch.ones(2, 3), [0, 1]), "queries of 2 numbers, a gallery of 3"),
        ((COMPASS / 0, range(5)), "NaN or infinity"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message) -> None:
    with pytest.raises(InputError, match=message):
        ranking(*arguments)


def test_recall_at_nought_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        ranking(COMPASS, range(5)).recall(0)
