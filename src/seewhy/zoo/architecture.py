"""The bundled classifiers: a small residual network (He et al., CVPR 2016) with a pooled linear head."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

from torch import Tensor, nn

WIDTHS = (32, 48, 72, 128)
STRIDES = (2, 2, 1)  # after the stem's 2: the last grid keeps an eighth of the resolution


class Residual(nn.Module):
    """Two batch-normalised 3x3 convolutions beside a shortcut; the first halves the resolution if asked to."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        total: Tensor = self.relu(y + self.shortcut(x))
        return total


def build(classes: int) -> nn.Sequential:
    """The untrained network: pictures (B, 3, H, W) to logits (B, C); maps are drawn at (H/8, W/8)."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = nn.Sequential(
        nn.Conv2d(3, WIDTHS[0], 3, 2, 1, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU(inplace=True)
    )
    for number, ((before, after), stride) in enumerate(zip(pairwise(WIDTHS), STRIDES, strict=True), 1):
        layers[f"stage{number}"] = Residual(before, after, stride)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["classifier"] = nn.Linear(WIDTHS[-1], classes)
    return nn.Sequential(layers)
