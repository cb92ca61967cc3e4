from __future__ import annotations

import numpy as np
import pytest
import torch
from slow import close, features, linear, network, pairs, pictures
from torch import Tensor, nn

from seewhy import CAM, Classes, Contrast, Network, Probability
from seewhy.errors import NotApplicableError


def slow_map(activation: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Zhou et al. 2016: the class's weights times the maps, cell by cell."""
    channels, height, width = activation.shape
    found = np.zeros((height, width))
    for k in range(channels):
        for i in range(height):
            for j in range(width):
                found[i, j] += weights[k] * activation[k, i, j]
    return found


class Functional(nn.Module):
    """Pooling by a tensor method, as many networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.fc = features(), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


class ChannelsLast(nn.Module):
    """Feature maps with the channels in the last axis."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc = features(), nn.Linear(6, 4)
        self.features = nn.Sequential(nn.Linear(6, 6), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(self.stem(x).movedim(1, -1)).mean((1, 2)))


class ClassMaps(nn.Module):
    """A 1 x 1 convolution to class maps before pooling, without anything between."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.scores = features(), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(self.scores(self.features(x)), 1).flatten(1)


class Patches(nn.Module):
    """Tokens of patches, attention, mean over tokens: what a small vision transformer computes."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.fc = nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.features(x).flatten(2).transpose(1, 2)
        return self.fc(self.attention(tokens, tokens, tokens)[0].mean(1))


def tail(*modules: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*dict.fromkeys([features(), *modules]))


def test_values_are_the_classs_weights_on_the_maps():
    net, images = network("pooled linear"), pictures()
    activation, _, _ = pairs(net, images, 2)
    weights = linear(net).weight.detach()[2].double().numpy()
    found = CAM(layer="features")(net, images, target=2).values[:, 0]
    close(found, np.stack([slow_map(each, weights) for each in activation]), 1e-6)


def test_the_mean_of_the_map_is_the_score_without_its_bias():
    net, images = network("pooled linear"), pictures()
    found = CAM(layer="features")(net, images, target=Classes([0, 1, 2, 3]))
    close(found.values.mean((-2, -1)), found.scores - linear(net).bias.detach(), 1e-5)


def test_a_contrast_has_the_difference_of_the_weights():
    net, images = network("pooled linear"), pictures()
    activation, _, _ = pairs(net, images, 2)
    weights = (linear(net).weight[2] - linear(net).weight[0]).detach().double().numpy()
    found = CAM(layer="features")(net, images, target=Contrast(2, 0)).values[:, 0]
    close(found, np.stack([slow_map(each, weights) for each in activation]), 2e-6)


ACCEPTED = {
    "dropout": lambda: (
        tail(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(6, 4)),
        "0",
    ),
    "batch norm before pooling": lambda: (
        tail(nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)),
        "0",
    ),
    "two linear layers": lambda: (
        tail(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5), nn.Linear(5, 4)),
        "0",
    ),
    "average pooling of the whole grid": lambda: (tail(nn.AvgPool2d(5), nn.Flatten(), nn.Linear(6, 4)), "0"),
    "functional mean": lambda: (Functional(), "features"),
    "channels last": lambda: (ChannelsLast(), "features"),
    "class maps by a 1 x 1 convolution": lambda: (ClassMaps(), "features"),
    "the relu's output": lambda: (network("pooled linear"), "features.3"),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_it_accepts_a_pooled_linear_head_with(kind):
    torch.manual_seed(0)
    net, layer = ACCEPTED[kind]()
    net.eval()
    images = pictures()
    found = CAM(layer=layer)(net, images, target=1)
    # The score is affine in the maps: what it says about no activation at all is its bias.
    hooked = net.get_submodule(layer).register_forward_hook(lambda m, i, output: torch.zeros_like(output))
    bias = net(images)[:, 1].detach()
    hooked.remove()
    close(found.values.mean((-2, -1))[:, 0], net(images)[:, 1].detach() - bias, 1e-5)


REFUSED = {
    "a flattened linear head": (lambda: network("flattened linear"), "features", "where activations are"),
    "fully connected layers as in VGG": (
        lambda: tail(
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Linear(54, 20),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(20, 4),
        ),
        "0",
        "not linear.*relu",
    ),
    "a relu before pooling": (lambda: network("pooled linear"), "features.2", "not linear.*relu"),
    "a relu after pooling": (
        lambda: tail(
            nn.Conv2d(6, 6, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 5),
            nn.ReLU(),
            nn.Linear(5, 4),
        ),
        "1",
        "not linear.*relu",
    ),
    "a gelu after pooling": (
        lambda: tail(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 4)),
        "0",
        "not linear",
    ),
    "max pooling": (
        lambda: tail(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 4)),
        "0",
        "not linear.*max pool",
    ),
    "an unequally weighted average": (
        lambda: tail(
            nn.AvgPool2d(3, stride=2, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
        ),
        "0",
        "where activations are",
    ),
    "a normalised embedding": (
        lambda: tail(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(6), nn.Linear(6, 4)),
        "0",
        "not linear.*layer norm",
    ),
    "attention between patches": (
        Patches,
        "features",
        "not linear.*attention|not linear.*matrix product|softmax",
    ),
    "more convolutions": (lambda: network("convolutions"), "features", "not linear.*relu"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_it_refuses_with_the_reason(kind):
    torch.manual_seed(0)
    build, layer, reason = REFUSED[kind]
    with pytest.raises(NotApplicableError, match=rf"CAM is not defined for .* at {layer}: .*({reason})"):
        CAM(layer=layer)(build().eval(), pictures(), target=1)


def test_a_refusal_names_methods_that_do_apply():
    with pytest.raises(NotApplicableError, match="grad-cam and hires-cam do not"):
        CAM(layer="features")(network("flattened linear"), pictures())


def test_a_probability_is_not_linear_even_on_a_pooled_linear_head():
    with pytest.raises(NotApplicableError, match="not linear"):
        CAM(layer="features")(network("pooled linear"), pictures(), target=Probability(1))


def test_the_head_is_judged_again_when_its_weights_have_changed():
    net = Network(tail(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.PReLU(init=1.0), nn.Linear(6, 4)).eval())
    CAM(layer="0")(net, pictures(), target=1)
    with torch.no_grad():
        net.module[3].weight.fill_(0.1)
    with pytest.raises(NotApplicableError, match="not linear"):
        CAM(layer="0")(net, pictures() - 1, target=1)


def test_a_picture_without_activations_does_not_hide_a_relu():
    with pytest.raises(NotApplicableError, match="not linear"):
        CAM(layer="features.2")(network("pooled linear"), torch.zeros(1, 3, 16, 16), target=1)


def test_what_was_learned_of_the_head_is_not_learned_again():
    net, images = network("pooled linear"), pictures()
    first = CAM(layer="features")(net, images, target=1)
    second = CAM(layer="features")(net, images, target=1)
    assert first.cost.setup > 0
    assert second.cost.setup == 0
    assert torch.equal(first.values, second.values)
