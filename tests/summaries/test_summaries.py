from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import two_parts
from two_parts import inputs

pytest.importorskip("sklearn")

from seewhy.errors import InputError
from seewhy.summaries.clustering import Clustering
from seewhy.summaries.matching import Matching
from seewhy.summaries.proposals import Proposals
from seewhy.summaries.summarize import Recipe, summarized, transform


def purity(truth, labels):
    return sum(np.bincount(truth[labels == each]).max() for each in np.unique(labels)) / len(labels)


def parts_and_labels(case, found):
    members = [member for each in found.significant for member in each.members]
    return np.array([case.part(each) for each in members]), np.array([each.summary for each in members])


@pytest.fixture(scope="module")
def found(network, case):
    return summarized(network, case.pixels, case.subjects, 1, Recipe())


def test_two_parts_give_exactly_two_summaries_and_each_is_one_part(case, found):
    from sklearn.metrics import adjusted_rand_score

    truth, labels = parts_and_labels(case, found)
    assert len(found) == 2
    assert adjusted_rand_score(truth, labels) >= 0.9
    assert purity(truth, labels) >= 0.95
    assert len(labels) >= 0.8 * sum(len(masks) for _, masks in case.pictures)
    assert found.interval[0] >= 2
    assert found.completeness > 0.8


def test_half_of_the_pictures_give_as_many_summaries(network, case, found):
    half = summarized(network, case.pixels[:12], case.subjects[:12], 1, Recipe())
    assert len(half) == len(found) == 2


def test_each_summary_costs_more_than_random_places_do(found):
    for each in found.significant:
        assert each.effect.kept > each.effect.kept_control + 0.5
        assert each.effect.drop > 2 * each.effect.control


def test_the_order_of_the_pictures_changes_nothing(network, case, found):
    order = np.random.default_rng(0).permutation(len(case.subjects)).tolist()
    other = summarized(network, case.pixels[order], [case.subjects[n] for n in order], 1, Recipe())
    assert other.rows() == found.rows()
    assert other.interval == found.interval


def test_random_masks_give_no_significant_summary(network, case):
    draw = np.random.default_rng(0)
    subjects = []
    for each in case.subjects:
        mask = np.zeros((64, 64), np.float32)
        for _ in range(2):
            top, left = draw.integers(0, 48, 2)
            mask[top : top + 16, left : left + 16] = 1
        subjects.append(replace(each, mask=mask))
    assert len(summarized(network, case.pixels, subjects, 1, Recipe())) == 0


def test_the_papers_clustering_finds_more_clusters_in_more_pictures(network, case):
    """Kept as a known fault of the reference: the number of clusters measures the number of regions."""
    recipe = Recipe(clustering=Clustering(method="affinity-propagation", resamples=0, recurring=0.0))
    few, many = (
        len(summarized(network, case.pixels[:n], case.subjects[:n], 1, recipe).summaries) for n in (12, 24)
    )
    assert many > 2
    assert many >= few


def test_unseen_pictures_are_told_by_their_summaries(network, case, found):
    pictures = two_parts.of_class(9, seed=3)
    recipe = Recipe().model_copy(
        update={"mask": Recipe().mask.model_copy(update={"smooth": 60, "sharp": 30})}
    )
    placed = transform(found, network, inputs(pictures), 1, recipe)
    which = [case.part(each.exemplar) for each in found.significant]
    right = 0
    for members, (_, masks) in zip(placed, pictures, strict=True):
        seen = {
            which[each.summary] for each in members if each.summary is not None and each.summary < len(which)
        }
        right += seen == set(masks)
    assert right >= 7


def test_summaries_of_another_network_are_refused(case, found):
    torch.manual_seed(3)
    other = two_parts.trained(steps=1)
    with pytest.raises(InputError, match="summaries of either part"):
        transform(found, other, case.pixels[:1], 1, Recipe())


def test_windows_with_offsets_are_the_papers_way_and_run(network, case):
    recipe = Recipe(
        proposals=Proposals(kind="windows", most=20),
        matching=Matching(kind="offsets"),
        clustering=Clustering(method="affinity-propagation", resamples=5),
        filtered=True,
    )
    found = summarized(network, case.pixels[:9], case.subjects[:9], 1, recipe)
    assert {case.part(member) for each in found.summaries for member in each.members} <= {0, 1, 2}
    assert found.summaries
    for each in found.summaries:
        parts = [case.part(member) for member in each.members]
        assert max(map(parts.count, parts)) / len(parts) >= 0.75


def test_a_cut_at_chance_is_refused_for_confidences_without_a_scale():
    with pytest.raises(ValueError, match="no such scale"):
        Recipe(matching=Matching(kind="hough"))


def test_settings_are_described_and_survive_json():
    for recipe in (Recipe(), Recipe.paper()):
        assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    for kind in (Recipe, Proposals, Clustering, Matching):
        assert all(field.description for field in kind.model_fields.values())
