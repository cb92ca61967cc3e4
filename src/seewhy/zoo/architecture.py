"""The bundled networks: a small residual network (He et al., CVPR 2016) with a pooled linear head."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from seewhy.scenes.houses import BASE

WIDTHS = (32, 64, 128)
CLIP_WIDTHS = (16, 32, 64)
HOUSE_WIDTHS = (16, 32, 64)


class Residual(nn.Module):
    """Two batch-normalised convolutions beside a shortcut, at half the resolution.

    A kernel of four halves without moving anything: the centre of each cell is the centre of the pixels that it
    stands for. The usual kernel of three moves maps by half a pixel per halving, which adds up.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 4, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2), nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after)
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        total: Tensor = self.relu(y + self.shortcut(x))
        return total


def build(classes: int) -> nn.Sequential:
    """The untrained classifier: pictures (B, 3, H, W) to logits (B, C).

    Its last grid (H/8, W/8) is fine and its cells see only 46 pixels: what it knows, it knows from parts.
    """
    return nn.Sequential(_pooled() | {"classifier": nn.Linear(WIDTHS[-1], classes)})


def build_retriever(width: int) -> nn.Sequential:
    """The untrained retriever: pictures (B, 3, H, W) to embeddings (B, D) of any length, compared by their cosines.

    The same layers as the classifiers, and a linear head without bias: an inner product of two embeddings is a sum
    over pairs of places.
    """
    return nn.Sequential(_pooled() | {"embedding": nn.Linear(WIDTHS[-1], width, bias=False)})


class ClipRetriever(nn.Module):
    """Clips (B, F, 3, H, W) to embeddings (B, D): a small network for each frame, a GRU over what it saw.

    The embedding is a linear layer, without bias, of the last state of the GRU (Cho et al., EMNLP 2014).
    """

    def __init__(self, width: int, state: int = 64) -> None:
        super().__init__()
        self.frames = nn.Sequential(_convolutions(CLIP_WIDTHS))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.memory = nn.GRU(CLIP_WIDTHS[-1], state, batch_first=True)
        self.embedding = nn.Linear(state, width, bias=False)

    def forward(self, clips: Float[Tensor, "B F C H W"]) -> Float[Tensor, "B D"]:
        return self.remembered(self.features(clips))

    def features(self, clips: Float[Tensor, "B F C H W"]) -> Float[Tensor, "B F K"]:
        """What is seen in each frame, pooled."""
        pooled: Tensor = self.pool(self.frames(clips.flatten(0, 1)))
        return pooled.reshape(*clips.shape[:2], -1)

    def remembered(self, features: Float[Tensor, "B F K"]) -> Float[Tensor, "B D"]:
        """The embedding of clips of which this was seen."""
        states, _ = self.memory(features)
        embedding: Tensor = self.embedding(states[:, -1])
        return embedding


class Pricer(nn.Module):
    """The untrained appraiser: pictures (B, 3, H, W) to an embedding (B, D) and a price (B, 1) in thousands.

    The price is `BASE`, that of a plain house, and a linear map of the embedding, which is a linear map of the pooled
    features: each cell adds something to the price or takes something away. The grid (H/4, W/4) is fine and its cells
    see only 26 pixels, so that hardly one sees two parts.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        stem, middle, last = HOUSE_WIDTHS
        self.features = nn.Sequential(
            OrderedDict(
                stem=_convolution(3, stem, 4, 2),
                stage1=Residual(stem, middle),
                stage2=_convolution(middle, last, 3),
                mixed=_convolution(last, last, 1),
            )
        )
        self.embedding = nn.Linear(last, width, bias=False)
        self.price = nn.Linear(width, 1, bias=False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.appraised(self.features(x))

    def appraised(self, features: Float[Tensor, "B K h w"]) -> dict[str, Tensor]:
        """The outputs, from the last feature maps."""
        embedding = self.embedding(features.mean((2, 3)))
        return {"embedding": embedding, "price": BASE + 100 * self.price(embedding)}

    def said(self, features: Float[Tensor, "B K h w"]) -> Float[Tensor, "B"]:
        """How much all cells and channels say for the price and against it, in hundreds of thousands, unsigned."""
        weights = (self.price.weight @ self.embedding.weight)[0].abs()
        return features.mean((2, 3)) @ weights


def _pooled() -> OrderedDict[str, nn.Module]:
    """All layers up to the pooled features (B, 128)."""
    layers = _convolutions(WIDTHS)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    return layers


def _convolutions(widths: Sequence[int]) -> OrderedDict[str, nn.Module]:
    """A stem and a residual stage per further width, each at half the resolution."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=_convolution(3, widths[0], 4, 2))
    for number, (before, after) in enumerate(pairwise(widths), 1):
        layers[f"stage{number}"] = Residual(before, after)
    return layers


def _convolution(before: int, after: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A batch-normalised convolution with a ReLU; an even kernel halves."""
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, (kernel - 1) // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )
