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

from benchmarks.cam_family import FORWARD, SIZE, Setting
from benchmarks.loops import attention_loop
from benchmarks.rows import Row, at_least, at_most
from benchmarks.timing import interleaved
from seewhy import L2CAF, load
from seewhy.explainers.attention_filter.filters import Search, Solver, attention_filter
from seewhy.explainers.attention_filter.linear_head import LinearHead, learned

PICTURES, LOOPED, GENERAL = (
    256,
    4,
    32,
)  # pictures at once, pictures that the loop is timed on, on other heads at once
CHANNELS, GRID, CLASSES = 2048, 7, 1000
LOOP = "the public loop"
_EARLY = 0.01
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
        tolerance: the KKT residual at which ours is done.
    """

    head: nn.Module
    activation: Float[Tensor, "B K h w"]
    coefficients: Float[Tensor, "B 1 D"] | None
    linear: LinearHead | None = None
    tolerance: float = 1e-6

    def ours(self, count: int) -> Float[Tensor, " B"]:
        """Our losses for the first pictures, all at once."""
        own = None if self.coefficients is None else self.coefficients[:count]
        shown = self.activation[:count]
        solver: Solver = "auto" if self.linear else "riemannian"
        search = Search("sphere", solver=solver, tolerance=self.tolerance)
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
        found = cached(kind(), mode, GENERAL)
        if kind is _Normalised:
            # The loop ends after one look there, far from an optimum; ours may end early, too, while its loss is lower.
            early = replace(found, tolerance=_EARLY)
            yield from beside_loop(early, f"{title}, residual {_EARLY:g}", GENERAL, 10.0, remarks)
            yield from beside_loop(found, title, GENERAL, None, remarks)
        else:
            yield from beside_loop(found, title, GENERAL, 10.0, remarks)
    for mode in modes:
        yield from stalled("GoogLeNet", mode)
        yield from stalled("DenseNet-169", mode)
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
    return Cached(head, activation, _above(head(activation)))


def pooled(mode: Mode) -> Cached:
    """ResNet-50's head, and its matrix, which L2CAF learns once per network."""
    torch.manual_seed(0)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, CLASSES))
    found = cached(head, mode, PICTURES)
    linear = learned(lambda maps, _rows: head(maps), found.activation[:1], pooled=True)
    return replace(found, linear=linear)


def beside_loop(of: Cached, title: str, count: int, bound: float | None, remarks: list[str]) -> Iterator[Row]:
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


class _Behind(nn.Module):
    """What comes after the last layer that the paper filters: all of GoogLeNet's or DenseNet's head."""

    def __init__(self, name: str) -> None:
        super().__init__()
        whole = load(f"torchvision:{name.lower().replace('-', '')}", weights="random", offline=True).module
        if name == "GoogLeNet":
            self.before, self.layer = whole, "inception5b"
            self.after = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), whole.get_submodule("fc"))
        else:
            self.before, self.layer = whole, "features"
            classifier = whole.get_submodule("classifier")
            self.after = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), classifier)

    def activation(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K h w"]:
        """Of the layer."""
        found: list[Tensor] = []
        handle = self.before.get_submodule(self.layer).register_forward_hook(
            lambda _module, _inputs, output: found.append(output.clone())  # DenseNet's ReLU writes into it
        )
        with torch.no_grad(), handle:
            self.before(images)
        return found[0]

    def forward(self, shown: Tensor) -> Tensor:
        output: Tensor = self.after(shown)
        return output


def stalled(name: str, mode: Mode) -> Iterator[Row]:
    """How far both come on a network where the loop stops early, as its criterion depends on the scale of the loss.

    In float64: random weights leave GoogLeNet activations of 1e-11.
    """
    torch.manual_seed(0)
    head = _Behind(name).eval().requires_grad_(False)
    activation = head.activation(torch.randn(2, 3, SIZE, SIZE)).double()
    head = head.double()
    outputs = head(activation)
    found = Cached(head, activation, None if mode == "oblivious" else _above(outputs))
    uniform = head(activation / activation[0, 0].numel() ** 0.5)
    if found.coefficients is None:
        start = (uniform - outputs).square().mean(1)
    else:
        start = -(found.coefficients[:, 0] * uniform).sum(1)
    ours, theirs = start - found.ours(2), start - found.theirs(2)
    title = f"l2-caf, {mode}, {name}: how far below that of the uniform filter the mean loss is"
    means = [f"{each.mean().item():.3g}" for each in (theirs, ours)]
    less = ((theirs - ours) / ours.abs().clamp_min(1e-300)).max().item()
    yield Row(title, LOOP, means[0], means[1], f"{less:+.1e}", f"<= {_SLACK:.0e}", less <= _SLACK)


def _above(outputs: Float[Tensor, "B D"]) -> Float[Tensor, "B 1 D"]:
    """Each picture's predicted class above all others."""
    return 2 * F.one_hot(outputs.argmax(1), outputs.shape[1])[:, None].to(outputs) - 1


def whole(of: Setting, remarks: list[str]) -> Iterator[Row]:
    """The method on ResNet-50, from pictures to maps, in forwards of the same batch."""
    candidates: dict[str, Callable[[], object]] = {FORWARD: of.forward(of.images)}
    for mode in ("class", "oblivious"):
        candidates[mode] = partial(L2CAF(mode=mode), of.network, of.images, of.classes)
    times = interleaved(candidates, patience=120)
    remarks.append(f"l2-caf on ResNet-50: {times}")
    for mode in ("class", "oblivious"):
        yield at_most(f"l2-caf, {mode}, whole, {len(of.images)} pictures", FORWARD, times, mode, 1.15)
