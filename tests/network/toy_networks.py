"""Small networks, each with one habit that real ones have and that is easily got wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A network whose weights are the same every time, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build()
        for each in network.modules():
            if isinstance(each, nn.BatchNorm2d):
                each.running_mean.normal_(std=0.2)
                each.running_var.uniform_(0.5, 1.5)
                nn.init.uniform_(each.weight, 0.5, 1.5)
                nn.init.normal_(each.bias, std=0.2)
    return network.eval()


def pictures(count: int = 2, size: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


class Plain(nn.Module):
    def __init__(self, inplace: bool = False, classes: int = 4) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.relu1 = nn.ReLU(inplace)
        self.pool = nn.MaxPool2d(2)
        self.conv2, self.norm2 = nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.relu2 = nn.ReLU(inplace)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(8, classes)

    def features(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu1(self.norm1(self.conv1(x))))
        return self.relu2(self.norm2(self.conv2(x)))

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.drop(self.features(x)).mean((2, 3)))


class FunctionalRelu(Plain):
    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x)), inplace=True), 2)
        return self.fc(F.relu(self.norm2(self.conv2(x))).mean((2, 3)))


class InDict(Plain):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.features(x)
        return {"maps": maps, "logits": self.fc(maps.mean((2, 3)))}


class InTuple(Plain):
    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps = self.features(x)
        return self.fc(maps.mean((2, 3))), [maps]


class Named(NamedTuple):
    logits: Tensor
    maps: Tensor


class InNamedTuple(Plain):
    def forward(self, x: Tensor) -> Named:
        maps = self.features(x)
        return Named(self.fc(maps.mean((2, 3))), maps)


@dataclass(frozen=True)
class Record:
    scores: Tensor
    maps: Tensor
    name: str = "toy"


class InDataclass(Plain):
    def forward(self, x: Tensor) -> Record:
        maps = self.features(x)
        return Record(self.fc(maps.mean((2, 3))), maps)


class DataclassInside(nn.Module):
    """A module in the middle returns a dataclass."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.fc = InDataclass(), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        found = self.backbone(x)
        return self.fc(found.maps.amax((2, 3))) + found.scores


class Residual(nn.Module):
    """Skips by functional addition, one of them written into a module's output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.body = nn.Conv2d(6, 6, 3, padding=1)
        self.last = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        a = self.stem(x)
        b = self.body(a.relu())
        b += a
        c = self.last(self.relu(b)) + a
        return self.fc(c.mean((2, 3)) + x.mean())


class Dense(nn.Module):
    """Every layer sees all before it, and the head sees the picture too."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(7, 4, 3, padding=1)
        self.c = nn.Conv2d(11, 5, 3, padding=1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x).relu()
        b = self.b(torch.cat([x, a], 1)).relu()
        c = self.c(torch.cat([x, a, b], 1)).relu()
        return self.fc(torch.cat([c, x], 1).mean((2, 3)))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU())
        self.deep = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU())
        self.up = nn.Upsample(scale_factor=2)
        self.merge = nn.Sequential(nn.Conv2d(14, 8, 3, padding=1), nn.ReLU())
        self.classifier = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        skip = self.down(x)
        return {"out": self.classifier(self.merge(torch.cat([self.up(self.deep(skip)), skip], 1)))}


class Shared(nn.Module):
    """One activation for all places, and one block that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), self.act)
        self.block = nn.Conv2d(6, 6, 3, padding=1)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.block(self.stem(x)))
        x = self.act(self.block(x) + 1)
        return self.fc(x.mean((2, 3)))


class Recurrent(nn.Module):
    """Columns of the map are read by an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU()
        self.lstm = nn.LSTM(6, 5, batch_first=True)
        self.fc = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        columns = self.relu(self.conv(x)).mean(2).transpose(1, 2)
        return self.fc(self.lstm(columns)[0][:, -1])


class Position(nn.Module):
    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(tokens, width))

    def forward(self) -> Tensor:
        return self.table.clone()


class Block(nn.Module):
    """Pre-norm attention and MLP; `batch_first=False` runs on (T, B, C)."""

    def __init__(self, width: int, batch_first: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, 2, batch_first=batch_first)
        self.mlp = nn.Sequential(nn.Linear(width, 12), nn.GELU(), nn.Linear(12, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """A vision transformer: class token or mean, batch or sequence first, a module gives the positions."""

    def __init__(self, class_token: bool = True, batch_first: bool = True, registers: int = 0) -> None:
        super().__init__()
        width, prefix = 8, registers + class_token
        self.class_token, self.batch_first = class_token, batch_first
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.position = Position(16 + prefix, width)
        self.tokens = nn.Parameter(torch.randn(1, prefix, width))
        self.blocks = nn.ModuleList(Block(width, batch_first) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.tokens.expand(len(x), -1, -1), x], 1) + self.position()
        x = x if self.batch_first else x.transpose(0, 1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        x = x if self.batch_first else x.transpose(0, 1)
        return self.head(x[:, 0] if self.class_token else x[:, self.tokens.shape[1] :].mean(1))


class ChannelsLast(nn.Module):
    """Linear layers on (B, h, w, K)."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 2, 2)
        self.mix, self.act, self.norm = nn.Linear(8, 8), nn.GELU(), nn.LayerNorm(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).permute(0, 2, 3, 1)
        x = x + self.act(self.mix(x))
        return self.fc(self.norm(x).mean((1, 2)))


class Sigmoid(Plain):
    def __init__(self, classes: int = 4) -> None:
        super().__init__(classes=classes)
        self.squash = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return self.squash(super().forward(x))


class Siamese(nn.Module):
    """Two pictures through one backbone, joined in the head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU())
        self.fc = nn.Linear(12, 4)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        a, b = (self.backbone(each).amax((2, 3)) for each in (left, right))
        return self.fc(torch.cat([a, b], 1))


class PictureAndText(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 8)
        self.conv, self.relu = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()
        self.fc = nn.Linear(8, 4)

    def forward(self, image: Tensor, text: Tensor, scale: float = 1.0) -> Tensor:
        gate = self.words(text).mean(1).sigmoid()
        return scale * self.fc(self.relu(self.conv(image)).mean((2, 3)) * gate)


class Frozen(nn.Module):
    """The backbone runs without a graph, as published feature extractors often do."""

    def __init__(self, guard: Callable[[], Any] = torch.no_grad) -> None:
        super().__init__()
        self.guard = guard
        self.backbone = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU())
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        with self.guard():
            maps = self.backbone(x)
        return self.fc(maps.mean((2, 3)))


class Folded(nn.Module):
    """Three frames per picture run as one batch; their maps are averaged before the last convolution."""

    def __init__(self, picture_major: bool) -> None:
        super().__init__()
        self.picture_major = picture_major
        self.frame, self.relu = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU()
        self.last = nn.Conv2d(6, 6, 3, padding=1)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        axis = 1 if self.picture_major else 0
        frames = torch.stack([x, x.flip(-1), 2 * x], axis).flatten(0, 1)
        maps = self.relu(self.frame(frames))
        sizes = (len(x), 3) if self.picture_major else (3, len(x))
        joined = maps.unflatten(0, sizes).mean(axis)
        return self.fc(self.last(joined).relu().mean((2, 3)) + maps.unflatten(0, sizes).amax((axis, 3, 4)))


class WritesIntoOthers(nn.Module):
    """A module writes into another one's output, whose name is used afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        self.relu(a)
        return self.fc((self.b(a) + a).mean((2, 3)))


class WritesIntoItsInput(Plain):
    """Normalises the pictures in place."""

    def forward(self, x: Tensor) -> Tensor:
        x.mul_(0.5).add_(1)
        return super().forward(x)


class RandomHead(Plain):
    """Draws random numbers in every forward."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.dropout(self.features(x), 0.5, training=True).mean((2, 3)))


class RemembersItsPictures(Plain):
    """The head reads a plain attribute that the trunk has set: it cannot be replayed from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = Seen()

    def forward(self, x: Tensor) -> Tensor:
        maps = self.features(self.seen(x))
        return self.fc(maps.mean((2, 3)) * self.seen.brightness[:, None])


class Seen(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        self.brightness = x.mean((1, 2, 3)) + 1
        return x + 0


class RowByRow(Plain):
    """Loops over the pictures, so that every module is called once per picture."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([super(RowByRow, self).forward(row[None]) for row in x])


class NotATransformer(Plain):
    """No feature map: the picture is flattened first."""

    def __init__(self) -> None:
        super().__init__()
        self.only = nn.Linear(3 * 16 * 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.only(x.flatten(1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": Plain,
    "in-place relu": lambda: Plain(inplace=True),
    "functional relu": FunctionalRelu,
    "dict output": InDict,
    "tuple output": InTuple,
    "named tuple output": InNamedTuple,
    "dataclass output": InDataclass,
    "dataclass inside": DataclassInside,
    "residual": Residual,
    "dense": Dense,
    "u-net": UNet,
    "shared modules": Shared,
    "lstm head": Recurrent,
    "class token": Transformer,
    "mean of tokens": lambda: Transformer(class_token=False),
    "registers": lambda: Transformer(registers=3),
    "sequence first": lambda: Transformer(class_token=False, batch_first=False),
    "channels last": ChannelsLast,
    "sigmoid head": Sigmoid,
    "frozen backbone": Frozen,
    "inference-mode backbone": lambda: Frozen(torch.inference_mode),
    "frames, picture by picture": lambda: Folded(True),
    "frames, time by time": lambda: Folded(False),
    "writes into others": WritesIntoOthers,
    "writes into its input": WritesIntoItsInput,
}


def trained_head(module: nn.Module) -> nn.Module:
    """The network with random numbers in a classifier that starts as zeros."""
    for each in module.modules():
        if isinstance(each, nn.Linear) and not each.weight.any():
            nn.init.normal_(each.weight, generator=torch.Generator().manual_seed(0))
    return module


def network(name: str) -> nn.Module:
    return seeded(NETWORKS[name])
