"""Networks written by hand around trained weights that no library's architecture takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seewhy import Network, Preprocess, load
from seewhy.network.checkpoint import load_weights, read_weights

_TIMM = "timm:mobilenetv2_100"


class _Block(nn.Module):
    """Two convolutions and a shortcut that skips pixels and fills channels with zeros."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if out.shape != x.shape:
            more = (out.shape[1] - x.shape[1]) // 2
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, more, more))
        out += x
        return F.relu(out)


class CifarResNet(nn.Module):
    """ResNet for 32-pixel pictures (He et al., 2016, section 4.2), with shortcuts that have no parameters.

    Args:
        depth: 6 n + 2 layers.
    """

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        count, into = (depth - 2) // 6, 16
        for number, out in enumerate((16, 32, 64), 1):
            blocks = [
                _Block(out if place else into, out, 1 if place or number == 1 else 2)
                for place in range(count)
            ]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            into = out
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for number in (1, 2, 3):
            x = getattr(self, f"layer{number}")(x)
        scores: Tensor = self.linear(x.mean((2, 3)))
        return scores


class FoldedMobileNet(nn.Module):
    """MobileNetV2 whose batch norms are folded into its convolutions, as functions of named weights.

    Args:
        state: its weights; where strides are 2, pictures are padded below and on the right alone.
    """

    _HALVING = (2, 4, 7, 14)

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, each in state.items():
            self.register_buffer(name.replace(".", "_"), each.float())

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self._convolved(x, "features.0.1", 2))
        for number in range(1, 18):
            first = f"features.{number}.conv"
            out, place = x, 0
            if number > 1:
                out, place = F.relu6(self._convolved(out, f"{first}.0.0", 1)), 1
            stride = 2 if number in self._HALVING else 1
            # Where a padding stands before it, the convolution is the second.
            out = F.relu6(self._convolved(out, f"{first}.{place}.{stride - 1}", stride))
            out = self._convolved(out, f"{first}.{place + 1}.0", 1)
            x = x + out if out.shape == x.shape else out
        x = F.relu6(self._convolved(x, "features.18.0", 1))
        return F.linear(x.mean((2, 3)), self._weight("fc", "weight"), self._weight("fc", "bias"))

    def _weight(self, name: str, kind: str) -> Tensor:
        found: Tensor = getattr(self, f"{name.replace('.', '_')}_{kind}")
        return found

    def _convolved(self, x: Tensor, name: str, stride: int) -> Tensor:
        weight = self._weight(name, "weight")
        if weight.shape[2] == 3:
            x = F.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        groups = x.shape[1] // weight.shape[1]
        return F.conv2d(x, weight, self._weight(name, "bias"), stride, groups=groups)


def _cifar(depth: int) -> Callable[[Mapping[str, Tensor]], nn.Module]:
    def build(state: Mapping[str, Tensor]) -> nn.Module:
        module = CifarResNet(depth)
        load_weights(module, state, f"ResNet-{depth}")
        return module

    return build


def in_timm(state: Mapping[str, Tensor]) -> nn.Module:
    """Torchvision's MobileNetV2 in timm's code, whose weights come in the same order under other names.

    Raises:
        ValueError: they do not.
    """
    module = load(_TIMM, weights="random", offline=True).module
    own = module.state_dict()
    if [each.shape for each in own.values()] != [each.shape for each in state.values()]:
        raise ValueError(f"{_TIMM} does not have these weights in this order")
    module.load_state_dict(dict(zip(own, state.values(), strict=True)))
    return module


_BUILT: Mapping[str, Callable[[Mapping[str, Tensor]], nn.Module]] = {
    "inat_bird965_mobilenet_v2": FoldedMobileNet,
    **{f"cifar10_resnet{depth}": _cifar(depth) for depth in (20, 32, 44, 56)},
}


def hand_written(folder: Path) -> dict[str, Network]:
    """The trained networks of a folder that are built here, by title, each with the preprocessing of its card."""
    found = {}
    for name, build in _BUILT.items():
        file = folder / f"{name}.safetensors"
        card = json.loads(file.with_suffix(".json").read_text())
        module = build(read_weights(file)).eval()
        found[name] = Network(module, preprocess=Preprocess.from_card(card), name=f"{name}, trained")
    return found


def timm_mobilenet(trained: Network) -> Network:
    """Torchvision's trained MobileNetV2 as timm builds it.

    Raises:
        ValueError: the two do not give the same scores.
    """
    module = in_timm(trained.module.state_dict()).eval()
    network = Network(module, preprocess=trained.preprocess, name="MobileNetV2 in timm, trained")
    example = trained.example_input()
    if not torch.allclose(network(example), trained(example), atol=1e-3):
        raise ValueError(f"{_TIMM} gives other scores than torchvision's code with the same weights")
    return network
