"""What all methods of the CAM family have in common."""

from __future__ import annotations

import pytest
import torch
from slow import close, features, linear, network, pictures, random_feature, with_decoy
from torch import nn

from seewhy import (
    CAM,
    Classes,
    EigenCAM,
    GradCAM,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    Top,
    XGradCAM,
    explain_all,
)
from seewhy.errors import InputError, LayerError

WITH_GRADIENT = [CAM, GradCAM, GradCAMPlusPlus, XGradCAM, HiResCAM, LayerCAM]
METHODS = [*WITH_GRADIENT, EigenCAM]
FOR_ANY_HEAD = [each for each in METHODS if each is not CAM]
LINEAR_IN_THE_SCORE = [CAM, GradCAM, XGradCAM, HiResCAM, LayerCAM]


def head_of(method) -> str:
    return "pooled linear" if method is CAM else "convolutions"


@pytest.mark.parametrize("method", METHODS)
def test_several_targets_are_a_loop_of_single_ones(method):
    net, images = network(head_of(method)), pictures()
    together = method(layer="features")(net, images, target=Classes([3, 0, 2]))
    assert together.values.shape == (3, 3, 5, 5)
    for place, index in enumerate([3, 0, 2]):
        alone = method(layer="features")(net, images, target=index)
        close(together.values[:, place], alone.values[:, 0])
        close(together.scores[:, place], alone.scores[:, 0], 1e-6)


@pytest.mark.parametrize("method", WITH_GRADIENT)
def test_every_picture_may_have_its_own_targets(method):
    net, images = network(head_of(method)), pictures()
    found = method(layer="features")(net, images, target=[[0, 1], [2, 3], [1, 0]])
    for row, pair in enumerate([[0, 1], [2, 3], [1, 0]]):
        alone = method(layer="features")(net, images[row : row + 1], target=Classes(pair))
        close(found.values[row], alone.values[0])


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_equals_its_pictures(method):
    net, images = network(head_of(method)), pictures(5)
    together = method(layer="features")(net, images, target=Top(2))
    for row in range(5):
        alone = method(layer="features")(net, images[row : row + 1], target=Top(2))
        close(together.values[row], alone.values[0], 1e-5)
        assert together.labels[row] == alone.labels[0]
        assert together.notes[row] == alone.notes[0]


@pytest.mark.parametrize("method", FOR_ANY_HEAD)
def test_several_layers_are_explained_as_each_alone(method):
    net, images = network("convolutions"), pictures()
    together = method(layer=("features.1", "features", "head.1"))(net, images, target=1)
    assert [site.layer for site in together.maps] == ["features.1", "features", "head.1"]
    assert [tuple(values.shape[-2:]) for values in together.maps.values()] == [(7, 7), (5, 5), (3, 3)]
    for layer in ("features.1", "features", "head.1"):
        close(together.at(layer), method(layer=layer)(net, images, target=1).values)
    assert together.combined().shape == (3, 1, 16, 16)
    assert together.cost.forwards == 3


@pytest.mark.parametrize("method", WITH_GRADIENT)
def test_the_counterfactual_is_the_map_of_the_negated_score(method):
    net, images = network(head_of(method)), pictures()
    counterfactual = method(layer="features", sign=-1)(net, images, target=lambda output: output[:, 1])
    negated = method(layer="features")(net, images, target=lambda output: -output[:, 1])
    close(counterfactual.values, negated.values, 1e-6)


def test_the_counterfactual_of_a_map_without_a_target_is_its_other_end():
    net, images = network("convolutions"), pictures()
    ordinary, other = (EigenCAM(layer="features", sign=sign)(net, images).values for sign in (1, -1))
    assert torch.equal(ordinary, -other)


@pytest.mark.parametrize("method", LINEAR_IN_THE_SCORE)
def test_an_affine_change_of_the_score_scales_the_values_and_keeps_the_heatmap(method):
    net, images = network(head_of(method)), pictures()
    ordinary = method(layer="features")(net, images, target=lambda output: output[:, 1])
    changed = method(layer="features")(net, images, target=lambda output: 3 * output[:, 1] + 7)
    close(changed.values, 3 * ordinary.values)
    close(changed.heatmaps(), ordinary.heatmaps())


@pytest.mark.parametrize("method", [GradCAMPlusPlus, EigenCAM])
def test_a_constant_added_to_the_score_changes_nothing(method):
    net, images = network("convolutions"), pictures()
    ordinary = method(layer="features")(net, images, target=lambda output: output[:, 1])
    changed = method(layer="features")(net, images, target=lambda output: output[:, 1] + 7)
    close(changed.values, ordinary.values, 1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_silent_channel_with_a_very_large_gradient_has_no_effect(method):
    feature = random_feature()
    close(method().formula(with_decoy(feature)), method().formula(feature), 1e-12)


@pytest.mark.parametrize("method", FOR_ANY_HEAD)
def test_a_decoy_in_the_network_has_no_effect(method):
    net, without = network("convolutions"), network("convolutions")
    with torch.no_grad():
        for each in (net, without):
            each.features[2].weight[3] = 0
            each.features[2].bias[3] = -5
        net.head[0].weight[:, 3] = 1e4
    found = method(layer="features")(net, pictures(), target=1)
    close(found.values, method(layer="features")(without, pictures(), target=1).values, 1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_dead_layer_gives_zero_maps_and_says_so(method):
    net = network(head_of(method))
    with torch.no_grad():
        net.features[2].weight.zero_()
        net.features[2].bias.fill_(-1)
    found = method(layer="features")(net, pictures(), target=1)
    assert (found.values == 0).all()
    assert (found.heatmaps() == 0).all()
    assert (found.heatmaps("minmax") == 0).all()
    assert all(notes == ("dead layer: every activation is zero",) for notes in found.notes)


@pytest.mark.parametrize("method", [CAM, GradCAM, XGradCAM, HiResCAM])
def test_a_map_without_positive_evidence_keeps_its_values_and_says_so(method):
    net = network("pooled linear")
    with torch.no_grad():
        linear(net).weight[1] = -1
    found = method(layer="features")(net, pictures(), target=1)
    assert (found.values < 0).any()
    assert (found.evidence() == 0).all()
    assert all("no positive evidence" in notes for notes in found.notes)


@pytest.mark.parametrize("method", METHODS)
def test_a_network_that_computes_nan_is_an_error(method):
    net = network(head_of(method))
    with torch.no_grad():
        net.features[2].bias[0] = torch.nan
    with pytest.raises(InputError, match="NaN"):
        method(layer="features")(net, pictures(), target=1)


@pytest.mark.parametrize("method", FOR_ANY_HEAD)
def test_values_before_an_in_place_relu_are_those_before_an_ordinary_one(method):
    def build(inplace: bool) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(
            features(), nn.Conv2d(6, 5, 3), nn.ReLU(inplace=inplace), nn.Conv2d(5, 4, 2), nn.ReLU(inplace),
            nn.Flatten(), nn.Linear(16, 3),
        )  # fmt: skip

    layers = ("1", "3")
    ordinary, in_place = (method(layer=layers)(build(each), pictures(), target=1) for each in (False, True))
    for layer in layers:
        assert torch.equal(ordinary.at(layer), in_place.at(layer))


def test_the_methods_together_give_what_each_gives_alone():
    net, images = network("pooled linear"), pictures()
    together = explain_all(net, images, [method(layer="features") for method in METHODS], Classes([1, 2]))
    assert list(together) == [method().name for method in METHODS]
    for method in METHODS:
        alone = method(layer="features")(net, images, target=Classes([1, 2]))
        close(together[alone.method].values, alone.values, 1e-6)


@pytest.mark.parametrize("method", FOR_ANY_HEAD)
def test_an_unknown_layer_is_refused_with_the_names_of_near_ones(method):
    with pytest.raises(LayerError, match=r"no layer 'feature' ran.*features"):
        method(layer="feature")(network("convolutions"), pictures())


@pytest.mark.parametrize("method", METHODS)
def test_settings_survive_json(method):
    settings = method(layer=("features", "head.0"), sign=-1)
    assert method.model_validate_json(settings.model_dump_json()) == settings
