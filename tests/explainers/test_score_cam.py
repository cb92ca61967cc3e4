from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from slow import close, network, pairs, pictures

from seewhy import ScoreCAM, Top

FLOAT32 = {"layer": "features", "precision": "float32"}


def slow_map(net, image, activation, target, softmax=True):
    """Wang et al. 2020, one channel after the other, in float64."""
    scores = []
    for channel in torch.from_numpy(activation):
        full = F.interpolate(channel[None, None], image.shape[-2:], mode="bilinear")[0, 0]
        spread = full.max() - full.min()
        mask = (full - full.min()) / spread if spread > 0 else torch.zeros_like(full)
        with torch.no_grad():
            scores.append(float(net.double()(image.double()[None] * mask)[0, target]))
    weights = np.exp(np.array(scores) - max(scores))
    return np.einsum("k,khw->hw", weights / weights.sum(), activation)


@pytest.mark.parametrize("head", ["pooled linear", "flattened linear", "convolutions"])
def test_values_are_what_the_paper_s_equation_gives_in_float64(head):
    net, images = network(head), pictures()
    activation, _, _ = pairs(net, images, 2)
    found = ScoreCAM(**FLOAT32)(net, images, target=2).values[:, 0]
    expected = [slow_map(net, image, each, 2) for image, each in zip(images, activation, strict=True)]
    close(found, np.stack(expected), 1e-4)


def test_the_empty_picture_s_score_changes_nothing_under_the_softmax():
    net, images = network("pooled linear"), pictures()
    paper = ScoreCAM.from_preset("paper", **FLOAT32)(net, images, Top(2))
    reference = ScoreCAM.from_preset("reference", **FLOAT32)(net, images, Top(2))
    close(paper.values, reference.values, 1e-5)
    assert paper.cost.forwards == reference.cost.forwards + len(images)


def test_one_channel_has_weight_one():
    net, images = network("pooled linear", channels=1), pictures()
    activation, _, _ = pairs(net, images, 0)
    close(ScoreCAM(**FLOAT32)(net, images, target=0).values[:, 0], activation[:, 0], 1e-5)


def test_constant_channels_share_the_empty_picture_s_score_and_are_counted():
    net, images = network("pooled linear"), pictures()
    with torch.no_grad():
        net.features[2].bias[3] = -1e3  # never active
        net.features[2].weight[4] = 0
        net.features[2].bias[4] = 0.7  # the same everywhere
    activation, _, _ = pairs(net, images, 0)
    found = ScoreCAM(**FLOAT32)(net, images, target=0)
    assert all("2 of 6 channels are constant" in notes for notes in found.notes)
    assert found.cost.forwards == 3 * (1 + 4 + 1)
    expected = [slow_map(net, image, each, 0) for image, each in zip(images, activation, strict=True)]
    close(found.values[:, 0], np.stack(expected), 1e-4)


def test_only_the_channels_that_vary_most_are_scored_if_asked_for():
    net, images = network("pooled linear"), pictures()
    activation, _, _ = pairs(net, images, 2)
    found = ScoreCAM(**FLOAT32, channels=2)(net, images, target=2)
    assert found.cost.forwards == 3 * (1 + 2)
    best = np.argsort(activation.var((2, 3)), axis=1)[:, -2:]
    expected = [
        slow_map(net, image, each[rows], 2)
        for image, each, rows in zip(images, activation, best, strict=True)
    ]
    close(found.values[:, 0], np.stack(expected), 1e-4)


def test_probabilities_weigh_channels_more_evenly_than_logits():
    net, images = network("pooled linear"), pictures()
    with torch.no_grad():
        net.head[2].weight.mul_(40)
    logit = ScoreCAM(**FLOAT32)(net, images, target=1)
    probability = ScoreCAM(**FLOAT32, score="probability")(net, images, target=1)
    activation, _, _ = pairs(net, images, 0)
    mean = torch.from_numpy(activation).float().mean(1)
    assert (probability.values[:, 0] - mean).norm() < (logit.values[:, 0] - mean).norm()


def test_the_authors_code_weighs_each_channel_by_the_probability_seen_through_it():
    net, images = network("flattened linear"), pictures()
    activation, _, _ = pairs(net, images, 1)
    explainer = ScoreCAM.from_preset("author-code", **FLOAT32)
    found = explainer(net, images, target=1).values[:, 0]
    expected = []
    for image, maps in zip(images, activation, strict=True):
        full = F.interpolate(torch.from_numpy(maps)[:, None], image.shape[-2:], mode="bilinear")
        low, high = full.amin((2, 3), keepdim=True), full.amax((2, 3), keepdim=True)
        with torch.no_grad():
            seen = net.double()(image.double() * (full - low) / (high - low)).softmax(1)[:, 1].numpy()
        expected.append(np.einsum("k,khw->hw", seen, maps))
    close(found, np.stack(expected), 1e-4)


def test_where_one_channel_outweighs_the_others_the_notes_say_so():
    net, images = network("pooled linear"), pictures()
    with torch.no_grad():
        net.head[2].weight.mul_(1e4)
    found = ScoreCAM(**FLOAT32)(net, images, target=1)
    assert all(any(note == "the weights lie on 1 of 6 channels" for note in notes) for notes in found.notes)
