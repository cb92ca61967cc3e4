from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from slow import close, linear, network, pairs, pictures
from slow_group_cam import (
    FLOAT32,
    SMALL,
    agrees,
    alphas,
    contiguous,
    enlarged,
    lively,
    probability,
    slow_blur,
    slow_groups,
    slow_paper,
    slow_reference,
    stretched,
)
from torch import nn

import seewhy
from seewhy import GradCAM, GroupCAM, ScoreCAM, Top, check_explainer
from seewhy.explainers import masking
from seewhy.explainers.base import Workload
from seewhy.explainers.group_cam import NO_EFFECT, SAME, percentile


@pytest.mark.parametrize("head", ["pooled linear", "flattened linear", "convolutions"])
@pytest.mark.parametrize("groups", [1, 3, 4, 6])
def test_the_paper_s_map_is_what_its_equations_give_in_float64(head, groups):
    net, images = lively(head), pictures(6)
    activation, gradient, _ = pairs(net, images, 2)
    found = GroupCAM.from_preset("paper", **FLOAT32, groups=groups)(net, images, target=2)
    counted = positive = 0
    for row, image in enumerate(images):
        weights = gradient[row].mean((1, 2))
        expected, _ = slow_paper(net, image, activation[row], weights, 2, contiguous(6, groups))
        agrees(F.interpolate(found.values, (16, 16), mode="bilinear")[row, 0], expected)
        agrees(found.evidence()[row, 0], np.maximum(expected, 0))
        counted += expected.any()
        if expected.max() > 1e-2:  # else stretching shows the rounding
            agrees(found.heatmaps("minmax")[row, 0], stretched(np.maximum(expected, 0)))
            positive += 1
    assert counted >= 1
    assert positive or head != "pooled linear"


def test_the_blur_is_51_pixels_wide_where_the_picture_has_them():
    net, images = lively("pooled linear"), pictures(1, size=60)
    activation, gradient, _ = pairs(net, images, 1)
    found = GroupCAM(**SMALL)(net, images, target=1)
    expected, _ = slow_paper(net, images[0], activation[0], gradient[0].mean((1, 2)), 1, contiguous(6, 3))
    close(F.interpolate(found.values, (60, 60), mode="bilinear")[0, 0], expected, 2e-4)


@pytest.mark.parametrize("groups", [16, 32, 64])
@pytest.mark.parametrize("layer", ["features", "features.2"])
def test_the_reference_is_its_rule_where_that_is_finite_and_finite_where_it_is_not(groups, layer):
    net, images = lively("convolutions", channels=64), pictures(4, size=32)
    activation, gradient, _ = pairs(net, images, 2, layer)
    explainer = GroupCAM.from_preset("reference", **{**FLOAT32, "layer": layer}, groups=groups)
    found = explainer(net, images, target=2).heatmaps("minmax")[:, 0]
    finite = checked = 0
    for row, image in enumerate(images):
        given = (net, image, activation[row], gradient[row].mean((1, 2)), 2, groups)
        expected = slow_reference(*given)
        if np.isnan(expected).any():
            expected = np.nan_to_num(slow_reference(*given, skip=True))  # no group counts: a zero map
        else:
            finite += 1
        assert np.abs(found[row].numpy() - expected).max() <= 1e-4
        checked += bool(expected.any())
    assert checked >= 2
    # Before the ReLU no group is constant; after it, single channels of negative weight are.
    assert finite >= (1 if layer == "features.2" else 0)
    assert layer == "features.2" or groups < 64 or finite == 0


def test_the_first_public_rule_denoises_over_all_groups_and_subtracts_nothing():
    net, images = lively("pooled linear", channels=12), pictures()
    activation, gradient, _ = pairs(net, images, 1)
    found = GroupCAM.from_preset("reference-v1", **FLOAT32, groups=4)(net, images, target=1)
    scored = 0
    for row, image in enumerate(images):
        sums = slow_groups(activation[row], gradient[row].mean((1, 2)), contiguous(12, 4))
        least = np.percentile(np.stack(sums), 70)
        behind, x, expected = slow_blur(image), image.double().numpy(), 0.0
        for each in sums:
            full = enlarged(np.where(each > least, each, 0), (16, 16))
            if full.max() > full.min():
                scored += 1
                mask = stretched(full)
                expected = expected + probability(net.double(), x * mask + behind * (1 - mask), 1) * mask
        close(found.heatmaps("minmax")[row, 0], stretched(expected), 2e-4)
    assert found.cost.forwards == 3 + scored < 3 * (1 + 4)  # groups that are constant are not scored


def test_without_gradients_the_groups_are_sums_of_the_maps_themselves():
    net, images = lively("convolutions"), pictures()
    activation, _, _ = pairs(net, images, 2)
    found = GroupCAM.from_preset("gradient-free", **SMALL)(net, images, Top(2))
    assert found.cost.backwards == 0
    assert found.cost.forwards == 3 * (1 + 3 + 1)  # targets share the masks
    best = net.float()(images).topk(2).indices
    for row, image in enumerate(images):
        for place in range(2):
            target = int(best[row, place])
            expected, _ = slow_paper(net, image, activation[row], np.ones(6), target, contiguous(6, 3))
            agrees(F.interpolate(found.values, (16, 16), mode="bilinear")[row, place], expected)


def test_single_channels_without_gradient_and_baseline_are_score_cam_without_its_softmax():
    net, images = lively("flattened linear"), pictures()
    bare = {"denoise": None, "baseline": "zero", "subtract_baseline": False, "merge": "maps", "groups": 6}
    found = GroupCAM.from_preset("gradient-free", **FLOAT32, **bare)(net, images, Top(2))
    expected = ScoreCAM.from_preset("author-code", **FLOAT32)(net, images, Top(2))
    close(found.values, expected.values, 1e-5)


@pytest.mark.parametrize("merge", ["masks", "maps"])
def test_one_group_that_counts_is_grad_cam(merge):
    net, images = lively("pooled linear"), pictures(12)
    one = GroupCAM(**FLOAT32, groups=1, denoise=None, merge=merge)(net, images)
    expected = GradCAM(layer="features")(net, images).heatmaps("minmax")
    rows = (one.values.flatten(1) >= 0).all(1) & one.values.flatten(1).any(1)
    assert rows.sum() >= 3
    close(one.heatmaps("minmax")[rows], expected[rows], 1e-4)


@pytest.mark.parametrize(
    ("score", "of"),
    [("target", lambda logits: logits), ("log-probability", lambda logits: logits.log_softmax(1))],
)
def test_logits_and_log_probabilities_are_scored_if_asked_for(score, of):
    net, images = lively("pooled linear"), pictures()
    found = alphas(GroupCAM(**SMALL, score=score), net, images, 1)
    groups = alphas(GroupCAM(**SMALL), net, images, 1)
    activation, gradient, _ = pairs(net, images, 1)
    for row, image in enumerate(images):
        behind, x = slow_blur(image), image.double().numpy()
        sums = slow_groups(activation[row], gradient[row].mean((1, 2)), contiguous(6, 3))
        for place, each in enumerate(sums):
            mask = stretched(enlarged(np.where(each > np.percentile(each, 70), each, 0), (16, 16)))
            if np.isnan(mask).any():
                assert found[row, 0, place] == 0
                continue
            seen = np.stack([x * mask + behind * (1 - mask), behind])
            with torch.no_grad():
                with_mask, without = of(net.double()(torch.from_numpy(seen)))[:, 1]
            agrees(found[row, 0, place], np.asarray(with_mask - without))
    assert not torch.allclose(found, groups)


def permuted(net, order):
    """The same network with the feature maps in another order."""
    other = network("pooled linear")
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        other.features[2].weight.copy_(net.features[2].weight[order])
        other.features[2].bias.copy_(net.features[2].bias[order])
        linear(other).weight.copy_(linear(net).weight[:, order])
    return other


def test_the_order_of_channels_counts_across_groups_and_not_within():
    net, images = lively("pooled linear"), pictures()
    found = GroupCAM(**SMALL)(net, images, target=1)
    close(GroupCAM(**SMALL)(permuted(net, [1, 0, 3, 2, 5, 4]), images, target=1).values, found.values, 1e-3)
    across = GroupCAM(**SMALL)(permuted(net, [0, 2, 1, 4, 3, 5]), images, target=1)
    assert (across.values - found.values).abs().max() > 0.05 * found.values.abs().max()


def test_a_shift_of_all_logits_changes_nothing():
    net, images = lively("pooled linear"), pictures()
    before = GroupCAM(**SMALL)(net, images, target=1)
    with torch.no_grad():
        linear(net).bias.add_(3.0)
    close(GroupCAM(**SMALL)(net, images, target=1).values, before.values, 1e-3)


@pytest.mark.parametrize("grouping", ["contiguous", "by-weight", "random", "k-means", "agglomerative"])
def test_a_batch_with_several_targets_is_every_picture_and_target_alone(grouping, monkeypatch):
    net, images = lively("convolutions"), pictures()
    explainer = GroupCAM(**SMALL, grouping=grouping)
    both = explainer(net, images, Top(2))
    best = net(images).topk(2).indices
    monkeypatch.setattr(masking, "fitting", lambda study: 2)
    forwards = 0
    for row in range(3):
        for place in range(2):
            alone = explainer(net, images[row : row + 1], target=int(best[row, place]))
            close(both.values[row, place], alone.values[0, 0], 1e-4)
            forwards += alone.cost.forwards
    # The picture and its baseline serve both targets; groups that are constant are not scored.
    assert both.cost.forwards == forwards - 3 * 2 <= 3 * (1 + 2 * 3 + 1)
    assert both.cost.backwards == 6


@pytest.mark.parametrize("kind", ["blur", "mean"])
def test_a_constant_picture_is_its_own_baseline_and_has_a_zero_map_that_says_so(kind):
    net = lively("pooled linear")
    images = torch.cat([torch.full((1, 3, 16, 16), 0.3), pictures(1)])
    found = GroupCAM(**SMALL, baseline=kind)(net, images, target=1)
    assert not found.values[0].any()
    assert SAME in found.notes[0]
    assert found.values[1].any()
    assert SAME not in found.notes[1]


def test_on_a_linear_network_a_group_weighs_what_its_mask_lets_through():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(6 * 196, 2))
    image = pictures(1)
    x = image.double().requires_grad_()
    (slope,) = torch.autograd.grad(net.double()(x)[0, 1], x)
    a, difference = slope[0].numpy(), image[0].double().numpy() - slow_blur(image[0])
    activation, gradient, _ = pairs(net, image, 1, layer="0")
    expected = 0.0
    for sums in slow_groups(activation[0], gradient[0].mean((1, 2)), contiguous(6, 3)):
        full = enlarged(np.where(sums > np.percentile(sums, 70), sums, 0), (16, 16))
        mask = stretched(full)
        expected = expected + (a * difference * mask).sum() * mask
    settings = {"layer": "0", "precision": "float32", "groups": 3, "score": "target"}
    found = GroupCAM(**settings)(net.float(), image, target=1)
    close(F.interpolate(found.values, (16, 16), mode="bilinear")[0, 0], expected, 1e-4)


class Planted(nn.Module):
    """Channels 8 to 11 of 32 see red, which is the class; channel 20 sees green, which a shortcut takes back."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 32, 4, stride=4, bias=False)
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            self.features.weight.zero_()
            self.features.weight[:, 2] = 0.001 * torch.rand(32, 1, 1, generator=generator)
            self.features.weight[8:12, 0] = 1 / 16
            self.features.weight[20, 1] = 1 / 16
        self.loud = 50.0

    def forward(self, x):
        maps = self.features(x).relu()
        green = x[:, 1].clamp_min(0).mean((1, 2))
        means = maps.mean((2, 3))
        score = 10 * means[:, 8:12].sum(1) + self.loud * (means[:, 20] - green) + 0.1 * means.sum(1)
        return torch.stack([score, torch.zeros_like(score)], 1)


def planted_picture():
    """Red above on the left, green below on the right, and a little blue all over."""
    image = torch.zeros(1, 3, 32, 32)
    image[:, 0, 4:12, 4:12] = 1
    image[:, 1, 20:28, 20:28] = 1
    image[:, 2] = 0.2 * torch.rand(32, 32, generator=torch.Generator().manual_seed(3))
    return image


@pytest.mark.parametrize("kind", ["blur", "zero"])
def test_groups_that_carry_the_object_weigh_most_and_a_loud_decoy_next_to_nothing(kind):
    net, image = Planted(), planted_picture()
    explainer = GroupCAM(**FLOAT32, groups=8, baseline=kind)
    weights = alphas(explainer, net, image, 0)[0, 0]
    assert int(weights.argmax()) == 2  # channels 8 to 11
    # Channel 20's mask lets through some picture without red where the blur has a little.
    assert weights[5].abs() < 0.1 * weights[2]
    cam = GradCAM(layer="features")(net, image, target=0).evidence()[0, 0]
    ours = explainer(net, image, target=0).evidence()[0, 0]
    object_, decoy = np.s_[4:12, 4:12], np.s_[20:28, 20:28]
    assert cam[decoy].max() == cam.max() > cam[object_].max()  # Grad-CAM follows the gradient
    assert ours[object_].max() == ours.max() > 2 * ours[decoy].max()


def test_groups_that_are_constant_weigh_nothing_and_are_counted():
    net, images = lively("pooled linear"), pictures()
    with torch.no_grad():
        net.features[2].bias[2:4] = -1e3  # never active
    found = GroupCAM(**SMALL, merge="maps")(net, images, target=1)
    kept = GroupCAM(**SMALL, merge="maps", grouping=(0, 0, 1, 1, 2, 2))(net, images, target=1)
    assert torch.isfinite(found.values).all()
    assert torch.equal(found.values, kept.values)
    for notes in found.notes:
        assert any(note.endswith("of 3 groups are constant and weigh nothing") for note in notes)


def test_a_group_whose_channels_cancel_is_constant_and_its_rounding_is_no_mask():
    net, images = lively("pooled linear"), pictures()
    with torch.no_grad():
        for parameter in (net.features[2].weight, net.features[2].bias):
            parameter[1] = parameter[0] / 3
        linear(net).weight[:, 1] = -3 * linear(net).weight[:, 0]
    for share in (70, None):
        weights = alphas(GroupCAM(**SMALL, denoise=share), net, images, 1)
        assert not weights[:, :, 0].any()
        assert weights.any()


def test_a_map_that_no_group_speaks_for_is_zero_and_says_so():
    net, images = lively("pooled linear"), pictures()
    found = GroupCAM.from_preset("reference", **SMALL)(net, images, Top(4))
    for values, notes in zip(found.values, found.notes, strict=True):
        assert bool((values.flatten(1).any(1)).all()) or NO_EFFECT in notes
    assert any(NO_EFFECT in notes for notes in found.notes)


def test_more_groups_than_channels_are_as_many_as_channels():
    net, images = lively("pooled linear"), pictures()
    found = GroupCAM(**FLOAT32, groups=50)(net, images, target=1)
    of_six = GroupCAM(**FLOAT32, groups=6)(net, images, target=1)
    close(found.values, of_six.values, 1e-6)
    assert all("no more than 6 groups" in " ".join(notes) for notes in found.notes)
    assert found.cost.forwards == of_six.cost.forwards <= 3 * (1 + 6 + 1)


@pytest.mark.parametrize("share", [0, 12.5, 50, 70, 99])
def test_percentiles_are_numpy_s(share):
    values = torch.rand(4, 5, 49, generator=torch.Generator().manual_seed(5))
    close(percentile(values, share)[..., 0], np.percentile(values.double().numpy(), share, axis=2), 1e-6)
    assert torch.equal(percentile(torch.full((1, 9), 0.3), share), torch.full((1, 1), 0.3))


def test_a_network_inside_another_module_and_other_layers_give_the_same_maps():
    class Outer(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.module = inner

        def forward(self, x):
            return {"logits": self.module(x)}

    net, images = lively("convolutions"), pictures()
    layers = ("features.1", "features")
    found = GroupCAM(layer=layers, groups=3, precision="float32")(net, images, target=1)
    outer = GroupCAM(layer="module.features", groups=3, precision="float32")(Outer(net), images, target=1)
    close(outer.values, found.at("features"), 1e-5)
    plan = GroupCAM(layer=layers, groups=3).plan(Workload(3), seewhy.Network(net))
    one, other = (
        GroupCAM(layer=each, groups=3, precision="float32")(net, images, target=1) for each in layers
    )
    assert found.cost.forwards == one.cost.forwards + other.cost.forwards - 3 <= plan.forwards
    assert plan.forwards == 3 * (1 + 2 * 4)


@pytest.mark.parametrize("preset", ["reference", "reference-v1", "gradient-free"])
def test_every_other_preset_keeps_the_contract(preset):
    contract = check_explainer(GroupCAM.from_preset(preset, groups=4))
    assert contract.passed, str(contract)
