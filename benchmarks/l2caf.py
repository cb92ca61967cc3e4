"""The speed of L2-CAF beside the public loop, one picture at a time on the same cached activation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from benchmarks.cam_family import FORWARD, Setting
from benchmarks.loops import attention_loop
from benchmarks.rows import Row, at_least, at_most
from benchmarks.timing import interleaved
from seewhy import L2CAF
from seewhy.explainers.attention_filter.filters import Search, Solver, attention_filter
from seewhy.explainers.attention_filter.linear_head import LinearHead, learned

PICTURES, LOOPED, GENERAL = (
    256,
    4,
    32,
)  # pictures at once, pictures that the loop is timed on, on other heads at once
CHANNELS, GRID, CLASSES = 2048, 7, 1000
LOOP = "the public loop"
_SLACK = 1e-5  # of a loss, by which ours may be higher and still be called equal

Mode = Literal["class", "oblivious"]


class _TwoLayers(nn.Module):
    """A projection head, as retrieval networks have."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(CHANNELS, 512), nn.ReLU(), nn.Linear(512, CLASSES))

    def forward(self, shown: Tensor) -> Tensor:
        output: Tensor = self.layers(shown.mean((2, 3)))
        return output


class _Normalised(nn.Module):
    """An embedding of length one, with a bias, so that the layer's scale counts."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(CHANNELS, 128)

    def forward(self, shown: Tensor) -> Tensor:
        return F.normalize(self.project(shown.mean((2, 3))), dim=1)


class _Rectified(nn.Module):
    """DenseNet's: the ReLU comes after the layer, whose values have either sign."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(CHANNELS, CLASSES)

    def forward(self, shown: Tensor) -> Tensor:
        output: Tensor = self.classifier(shown.relu().mean((2, 3)))
        return output


@dataclass(frozen=True)
class Cached:
    """A head and the activations that it is given, on the signed sphere.

    Attributes:
        head: without trainable parameters.
        activation: of the layer.
        coefficients: how much of each output is raised; None to keep them.
        linear: the head as a matrix, where it was learned before, as L2CAF keeps it.
    """

    head: nn.Module
    activation: Float[Tensor, "B K h w"]
    coefficients: Float[Tensor, "B 1 D"] | None
    linear: LinearHead | None = None

    def ours(self, count: int) -> Float[Tensor, " B"]:
        """Our losses for the first pictures, all at once."""
        own = None if self.coefficients is None else self.coefficients[:count]
        shown = self.activation[:count]
        solver: Solver = "auto" if self.linear else "riemannian"
        search = Search("sphere", solver=solver)
        return attention_filter(shown, self.head, own, search=search, linear=self.linear).loss[:, 0]

    def theirs(self, count: int) -> Float[Tensor, " B"]:
        """Those of the loop, a picture at a time."""
        own = [None] * count if self.coefficients is None else list(self.coefficients[:count, 0])
        losses = [
            attention_loop(self.head, self.activation[row : row + 1], own[row])[1] for row in range(count)
        ]
        return torch.tensor(losses, dtype=torch.float64)


def rows(of: Setting, remarks: list[str]) -> Iterator[Row]:
    """All measurements; how quiet the machine was goes to `remarks`."""
    modes: tuple[Mode, ...] = ("class", "oblivious")
    for mode, bound in zip(modes, (1000.0, 100.0), strict=True):
        yield from beside_loop(pooled(mode), f"{mode}, pooled linear head", PICTURES, bound, remarks)
    for title, kind, mode in (
        ("class, two-layer head", _TwoLayers, "class"),
        ("oblivious, two-layer head", _TwoLayers, "oblivious"),
        ("oblivious, normalised head", _Normalised, "oblivious"),
        ("class, head behind a ReLU", _Rectified, "class"),
        ("oblivious, head behind a ReLU", _Rectified, "oblivious"),
    ):
        torch.manual_seed(0)
        yield from beside_loop(cached(kind(), mode, GENERAL), title, GENERAL, 10.0, remarks)
    yield from whole(of, remarks)


def cached(head: nn.Module, mode: str, count: int) -> Cached:
    """Activations as those behind a ReLU, or before one, and each picture's predicted class above all others."""
    generator = torch.Generator().manual_seed(0)
    activation = torch.randn(count, CHANNELS, GRID, GRID, generator=generator)
    # Positions differ by what is there; independent noise would leave a flat map.
    activation = activation + 2 * torch.randn(count, 1, GRID, GRID, generator=generator)
    if not isinstance(head, _Rectified):
        activation = activation.relu()
    head = head.eval().requires_grad_(False)
    if mode == "oblivious":
        return Cached(head, activation, None)
    outputs = head(activation)
    above = 2 * F.one_hot(outputs.argmax(1), outputs.shape[1])[:, None].to(outputs) - 1
    return Cached(head, activation, above)


def pooled(mode: Mode) -> Cached:
    """ResNet-50's head, and its matrix, which L2CAF learns once per network."""
    torch.manual_seed(0)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, CLASSES))
    found = cached(head, mode, PICTURES)
    linear = learned(lambda maps, _rows: head(maps), found.activation[:1], pooled=True)
    return replace(found, linear=linear)


def beside_loop(of: Cached, title: str, count: int, bound: float, remarks: list[str]) -> Iterator[Row]:
    """Filters per second of many pictures at once, the latency of one, and whose loss is lower."""
    times = interleaved(
        {LOOP: partial(of.theirs, LOOPED), "many": partial(of.ours, count), "one": partial(of.ours, 1)},
        rounds=3,
        warm_up=1,
        patience=60,
    )
    remarks.append(f"l2-caf, {title}: {times}")
    each = {LOOP: times.of[LOOP] / LOOPED, "many": times.of["many"] / count, "one": times.of["one"]}
    per_map = replace(times, of=each)
    yield at_least(f"l2-caf, {title}: a map of {count} at once", LOOP, per_map, LOOP, "many", bound)
    yield at_least(f"l2-caf, {title}: a picture alone", LOOP, per_map, LOOP, "one")
    ours, theirs = of.ours(LOOPED), of.theirs(LOOPED)
    worse = ((ours - theirs) / theirs.abs().clamp_min(1e-12)).max().item()
    name = f"l2-caf, {title}: mean loss, and how much higher ours is at worst"
    means = [f"{each.mean().item():.4g}" for each in (theirs, ours)]
    yield Row(name, LOOP, means[0], means[1], f"{worse:+.1e}", f"<= {_SLACK:.0e}", worse <= _SLACK)


def whole(of: Setting, remarks: list[str]) -> Iterator[Row]:
    """The method on ResNet-50, from pictures to maps, in forwards of the same batch."""
    candidates: dict[str, Callable[[], object]] = {FORWARD: of.forward(of.images)}
    for mode in ("class", "oblivious"):
        candidates[mode] = partial(L2CAF(mode=mode), of.network, of.images, of.classes)
    times = interleaved(candidates, patience=120)
    remarks.append(f"l2-caf on ResNet-50: {times}")
    for mode in ("class", "oblivious"):
        yield at_most(f"l2-caf, {mode}, whole, {len(of.images)} pictures", FORWARD, times, mode, 1.15)
