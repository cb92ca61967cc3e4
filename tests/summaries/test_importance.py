from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from seewhy import Network
from seewhy.summaries.clustering import Clustering, clustered
from seewhy.summaries.importance import Asked, effects, elsewhere, rank_test

pytest.importorskip("sklearn")


def test_ranks_above_all_controls_are_as_unlikely_as_they_are():
    controls = np.random.default_rng(0).uniform(size=(3, 9))
    assert rank_test(np.full(3, 2.0), controls) == pytest.approx(1e-3)  # the top one of ten, three times


def test_chances_of_values_like_their_controls_are_uniform():
    draw = np.random.default_rng(1)
    found = [rank_test(values[:, 0], values[:, 1:]) for values in draw.uniform(size=(400, 8, 10))]
    # Of 400 the share below a tenth is within three standard errors of it.
    assert abs(np.mean(np.array(found) < 0.1) - 0.1) < 3 * np.sqrt(0.09 / 400)


def test_equal_values_are_no_evidence():
    assert rank_test(np.zeros(5), np.zeros((5, 9))) > 0.4


def test_random_places_keep_the_shape():
    mask = np.zeros((20, 30), bool)
    mask[3:7, 4:9] = np.random.default_rng(0).random((4, 5)) > 0.3
    found = elsewhere(mask, 9, 0)
    assert all(each.sum() == mask.sum() for each in found)
    assert len({each.tobytes() for each in found}) > 5


def test_what_is_left_is_measured_before_the_background_of_the_masks():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).eval()
    pixels = torch.randn(1, 3, 20, 20) + 1
    whole = [(0, np.ones((20, 20), bool))]
    left = {
        kind: Asked(Network(module), pixels, 1, background=kind).left(whole)[0] for kind in ("blur", "zero")
    }
    with torch.no_grad():
        expected = module(torch.zeros_like(pixels)).softmax(1)[0, 1] / module(pixels).softmax(1)[0, 1]
    assert left["zero"] == pytest.approx(float(expected), rel=1e-4)
    assert left["blur"] != pytest.approx(left["zero"], rel=1e-3)


class Middle(Asked):
    """Of pictures whose answer rests on their middle: what is left of it when masks are perturbed."""

    def left(self, masks, keep=False):
        covered = np.array([mask[8:12, 8:12].mean() for _, mask in masks])
        return covered if keep else 1 - covered


def test_chances_are_corrected_for_the_summaries_that_may_count():
    middle, corner = np.zeros((2, 20, 20), bool)
    middle[8:12, 8:12] = corner[:4, :4] = True
    summaries = [[(row, mask) for row in range(4)] for mask in (middle, corner, corner)]
    asked = Middle(Network(nn.Flatten()), torch.zeros(4, 1, 20, 20), 0)
    every = [effect.chance for effect, _ in effects(asked, summaries)]
    alone = [effect.chance for effect, _ in effects(asked, summaries, [True, False, False])]
    assert every[0] == pytest.approx(3 * alone[0])
    assert alone[0] < 0.01
    assert min(every[1:]) > 0.5


def blocks(sizes, noise, seed=0):
    """Similarities of planted clusters, each region of another picture."""
    draw = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    mean = np.where(labels[:, None] == labels, 0.6, 0.0)
    found = mean + noise * draw.normal(size=mean.shape)
    found = (found + found.T) / 2
    np.fill_diagonal(found, 1)
    return found, labels


@pytest.mark.parametrize("method", ["linkage", "spectral", "hdbscan"])
@pytest.mark.parametrize("count", [12, 24])
def test_planted_clusters_are_found_whatever_their_size(method, count):
    similarity, labels = blocks((count, count), 0.1)
    owner = np.tile(np.arange(count), 2)
    found = clustered(
        similarity, owner, Clustering(method=method, resamples=2 if method == "spectral" else 10), 0.3
    )
    assert len(found) == 2
    assert len({tuple(labels[found.labels == n]) for n in range(2)}) == 2
    assert all(len(set(labels[found.labels == n])) == 1 for n in range(2))
    assert min(found.stability) > 0.9
    assert found.interval() == (2, 2)


def test_affinity_propagation_counts_regions_rather_than_parts():
    """The reference's settings, kept as a known fault: two parts, and more clusters the more regions they have."""
    counts = []
    for size in (8, 40):
        similarity, _ = blocks((size, size), 0.45)
        method = Clustering(method="affinity-propagation", resamples=0, recurring=0.0)
        counts.append(len(clustered(similarity, np.tile(np.arange(size), 2), method, 0.3)))
    assert counts[1] > 2
    assert counts[1] > counts[0]


def test_what_is_in_too_few_pictures_is_no_cluster():
    similarity, _ = blocks((10, 3), 0.05)
    owner = np.array([*range(10), 0, 0, 1])
    found = clustered(similarity, owner, Clustering(resamples=0), 0.3)
    assert len(found) == 1
    assert (found.labels[10:] == -1).all()
