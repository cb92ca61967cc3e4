"""Maps, truths and networks made by hand, for the tests of the metrics."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from seewhy.explanation import Cost, Explanation, Predicted
from seewhy.network.layers import Site
from seewhy.truth import Box, Object, Truth


class Linear(nn.Module):
    """Logits that are linear in the pixels (B, C, H, W): what every curve can be worked out from."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.linear = nn.Linear(weight[0].numel(), len(weight), bias=False)
        self.linear.weight.data = weight.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1))


def linear(classes: int = 3, side: int = 8, seed: int = 0) -> Linear:
    draws = torch.Generator().manual_seed(seed)
    return Linear(torch.randn(classes, 3, side, side, generator=draws) / side)


def pictures(count: int, side: int = 8, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def explained(
    maps: Tensor | np.ndarray,
    labels: Sequence[Sequence[str]] | str = "0",
    size: tuple[int, int] | None = None,
    predictions: Sequence[Sequence[str]] | None = None,
) -> Explanation:
    """An explanation that holds these maps (B, T, h, w) or (B, h, w)."""
    values = torch.as_tensor(maps, dtype=torch.float32)
    values = values[:, None] if values.ndim == 3 else values
    count, targets = values.shape[:2]
    names = [[labels] * targets] * count if isinstance(labels, str) else labels
    best = predictions or [names[row][:1] for row in range(count)]
    return Explanation(
        maps={Site("layer", 0, 0): values},
        scores=torch.zeros(count, targets),
        labels=tuple(map(tuple, names)),
        predictions=tuple(tuple(Predicted(0, name, 0.5) for name in row) for row in best),
        method="by-hand",
        settings={},
        signed=True,
        class_agnostic=False,
        network="by hand",
        digest=hashlib.sha256(b"").hexdigest(),
        size=size or (values.shape[-2], values.shape[-1]),
        cost=Cost(),
        notes=((),) * count,
        reason="by hand",
    )


def showing(
    *objects: tuple[str, tuple[int, int, int, int]],
    size: tuple[int, int] = (8, 8),
    masks: bool = True,
    attributes: dict[str, str] | None = None,
) -> Truth:
    """A picture with objects that fill their boxes (x0, y0, x1, y1)."""
    found = []
    for label, corners in objects:
        box = Box(*corners)
        mask = np.zeros(size, bool)
        mask[box.y0 : box.y1, box.x0 : box.x1] = True
        found.append(Object(label, box, mask if masks else None, attributes=attributes or {}))
    return Truth(size, tuple(found))


def maps_of_all_kinds(count: int, side: int = 8, targets: int = 1, seed: int = 3) -> Tensor:
    """Rectified noise with plateaus of zeros, of equals, and now and then a map of nothing else."""
    draws = torch.Generator().manual_seed(seed)
    maps = torch.randn(count, targets, side, side, generator=draws)
    maps = (maps * 2).round() / 2
    maps[seed % count] = 0
    maps[(seed + 1) % count] = 1
    return maps


def one_number_whatever_the_batches(metric, network, images, found, rtol=1e-5) -> None:
    """Measure all at once, picture by picture, and in batches of seven."""
    ids = [f"{row:02}" for row in range(len(images))]
    whole = metric(network, images, found, ids=ids)
    for size in (1, 7):
        measurement = metric.start()
        for start in range(0, len(images), size):
            rows = range(start, min(start + size, len(images)))
            part = slice(rows.start, rows.stop)
            measurement.update(network, images[part], found.select(rows), ids=ids[part])
        close = {"atol": 1e-5, "rtol": rtol, "equal_nan": True}
        torch.testing.assert_close(measurement.compute().values, whole.values, **close)
        torch.testing.assert_close(measurement.compute().value, whole.value, **close)


def slow_ranks(values: list[float]) -> list[float]:
    """Ranks by counting what is less and what is equal."""
    return [
        sum(other < each for other in values) + (sum(other == each for other in values) - 1) / 2
        for each in values
    ]


def slow_spearman(first: list[float], second: list[float]) -> float:
    """Rank correlation, of ranks by counting."""
    x, y = slow_ranks(first), slow_ranks(second)
    mean = (len(x) - 1) / 2
    product = sum((a - mean) * (b - mean) for a, b in zip(x, y, strict=True))
    squares = sum((a - mean) ** 2 for a in x) * sum((b - mean) ** 2 for b in y)
    return product / math.sqrt(squares) if squares else math.nan
