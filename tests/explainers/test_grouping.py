from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from slow import close, features, pairs, pictures
from slow_group_cam import FLOAT32, SMALL, agrees, contiguous, lively, slow_paper
from torch import nn

import seewhy
from seewhy import GroupCAM, check_explainer
from seewhy.errors import InputError, MissingExtraError
from seewhy.explainers.base import Workload
from seewhy.explainers.grouping import k_means


@pytest.mark.parametrize("numbers", [(0, 1, 0, 1, 2, 2), (7, 7, 7, 3, 3, 7)])
def test_groups_are_those_that_were_given_in_the_call_or_in_a_file(numbers, tmp_path):
    net, images = lively("flattened linear"), pictures()
    activation, gradient, _ = pairs(net, images, 1)
    found = GroupCAM(**FLOAT32, grouping=numbers)(net, images, target=1)
    for row, image in enumerate(images):
        expected, _ = slow_paper(
            net, image, activation[row], gradient[row].mean((1, 2)), 1, np.array(numbers)
        )
        agrees(F.interpolate(found.values, (16, 16), mode="bilinear")[row, 0], expected)
    file = tmp_path / "groups.json"
    file.write_text(json.dumps(numbers))
    explainer = GroupCAM(**FLOAT32, grouping=file)
    read = explainer(net.float(), images, target=1)
    close(read.values, found.values, 1e-5)
    assert GroupCAM.model_validate(read.settings) == explainer
    assert read.cost.forwards == 3 * (1 + len(set(numbers)) + 1)
    assert read.cost.within(explainer.plan(Workload(3), seewhy.Network(net)))


def test_wrong_groups_are_refused_with_what_would_work(tmp_path):
    net, images = lively("pooled linear").float(), pictures()
    with pytest.raises(InputError, match="of 2 channels, but the layer has 6"):
        GroupCAM(**FLOAT32, grouping=(0, 1))(net, images)
    file = tmp_path / "groups.json"
    for text in ("[0, 1", '{"a": 1}', "[0, -1]", "[0.5, 1]"):
        file.write_text(text)
        with pytest.raises(InputError, match=r"groups\.json are no JSON list"):
            GroupCAM(**FLOAT32, grouping=file)(net, images)
    file.write_text("[0, 1]")
    chosen = GroupCAM(**FLOAT32, grouping=file)
    with pytest.raises(InputError, match=r"groups\.json are of 2 channels"):
        chosen(net, images)
    file.write_text("[0, 1, 0, 1, 0, 1]")
    with pytest.raises(InputError, match=r"groups\.json has changed"):
        chosen(net, images)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"grouping": "kmeans"}, "kmeans cannot be read"),
        ({"grouping": "by-weight", "weights": "none"}, "by-weight' needs weights='gradient'"),
        ({"blur_kernel": 50}, "blur_kernel=50 has no centre"),
        ({"groups": 0}, "groups: .*greater than or equal to 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_the_user_s_words(settings, message):
    with pytest.raises(InputError, match=message):
        GroupCAM.from_preset("paper", **settings)


def test_groups_by_weight_hold_channels_of_neighbouring_weights():
    net, images = lively("flattened linear"), pictures()
    activation, gradient, _ = pairs(net, images, 1)
    found = GroupCAM(**SMALL, grouping="by-weight")(net, images, target=1)
    for row, image in enumerate(images):
        weights = gradient[row].mean((1, 2))
        labels = np.empty(6, dtype=int)
        labels[np.argsort(-weights)] = contiguous(6, 3)
        expected, _ = slow_paper(net, image, activation[row], weights, 1, labels)
        agrees(F.interpolate(found.values, (16, 16), mode="bilinear")[row, 0], expected)


def test_random_groups_follow_from_the_seed():
    net, images = lively("flattened linear"), pictures()
    found = [GroupCAM(**SMALL, grouping="random", seed=seed)(net, images, target=1) for seed in (1, 1, 2)]
    assert torch.equal(found[0].values, found[1].values)
    assert not torch.equal(found[0].values, found[2].values)


def test_k_means_finds_clusters_and_no_problem_sees_another():
    generator = torch.Generator().manual_seed(4)
    truth = torch.randint(5, (3, 60), generator=generator)
    centres = 20 * torch.randn(3, 5, 7, generator=generator, dtype=torch.float64)
    noise = torch.randn(3, 60, 7, generator=generator, dtype=torch.float64)
    points = centres.gather(1, truth[:, :, None].expand(-1, -1, 7)) + noise
    for seed in range(5):
        found = k_means(points, 5, seed)
        for row in range(3):
            assert torch.equal(found[row], k_means(points[row : row + 1], 5, seed)[0])
    found = k_means(points, 5, 0)
    together, meant = (each[:, :, None] == each[:, None] for each in (found, truth))
    assert (together == meant).double().mean() > 0.9  # one start may split a cluster


def test_k_means_of_equal_points_leaves_clusters_empty():
    found = k_means(torch.ones(1, 6, 4, dtype=torch.float64), 3, 0)
    assert len(found.unique()) == 1


def test_agglomerative_groups_are_ward_s_clusters_of_the_weighted_maps():
    from sklearn.cluster import AgglomerativeClustering

    net, images = lively("flattened linear"), pictures()
    activation, gradient, _ = pairs(net, images, 1)
    found = GroupCAM(**SMALL, grouping="agglomerative")(net, images, target=1)
    for row, image in enumerate(images):
        weights = gradient[row].mean((1, 2))
        points = (weights[:, None, None] * activation[row]).reshape(6, -1)
        labels = AgglomerativeClustering(n_clusters=3).fit_predict(points)
        expected, _ = slow_paper(net, image, activation[row], weights, 1, labels)
        agrees(F.interpolate(found.values, (16, 16), mode="bilinear")[row, 0], expected)


def test_without_scikit_learn_agglomerative_groups_name_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.cluster", None)
    with pytest.raises(MissingExtraError, match=r"scikit-learn is not installed; .*seewhy\[clustering\]"):
        GroupCAM(**SMALL, grouping="agglomerative")(lively("pooled linear"), pictures(), target=1)


@pytest.mark.parametrize("grouping", ["by-weight", "random", "k-means", "agglomerative"])
def test_every_grouping_keeps_the_contract(grouping):
    torch.manual_seed(0)
    net = nn.Sequential(features(12), nn.Flatten(), nn.Linear(12 * 25, 4))
    contract = check_explainer(GroupCAM(groups=4, grouping=grouping), net, pictures(3))
    assert contract.passed, str(contract)
