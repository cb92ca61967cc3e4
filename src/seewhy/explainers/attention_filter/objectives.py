"""What a filter is judged by: the loss of what the head makes of the filtered activation, and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seewhy.cancellation import stop_if_asked
from seewhy.network.precision import exact_type, in_chunks
from seewhy.network.probe import begin_graph, gradients

Run = Callable[[Tensor, Tensor], Tensor]
"""From activations (M, K, *grid), and the picture each is of, to the head's outputs (M, D)."""
Loss = Callable[[Tensor, Tensor], Tensor]
"""From outputs (M, D), and the filter that each row is for, to losses (M,)."""
Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From filters (M, G, S), and which of the N that are looked for each is, to losses (M,) and their gradients."""

_AT_ONCE = 1 << 22  # numbers of the layer, whose head's graph holds several times as many
PROBES = 4  # evaluations of the head that `sees_averages` takes
_SAME = 1e-5  # of the largest output: how far rounding takes the same sums
_INSIDE = 1e-12  # of a filter: a ReLU that reads the layer has no slope at zero, but a little inside


@dataclass
class Replayed:
    """The head itself, run and differentiated.

    Attributes:
        activation: what is filtered.
        pictures: per filter, the picture that it is for.
        run: the head.
        loss: what its outputs are judged by.
        pooled: whether the head sees only averages over positions, as `sees_averages` says: then the layer is
            filtered and averaged by one matrix product, and the head is given grids of one cell.
        evaluations: how often a filtered activation was run and differentiated so far.
    """

    activation: Float[Tensor, "B K *grid"]
    pictures: Int[Tensor, " N"]
    run: Run
    loss: Loss
    pooled: bool = False
    evaluations: int = 0

    def __call__(
        self, filters: Float[Tensor, "M G S"], rows: Int[Tensor, " M"]
    ) -> tuple[Float[Tensor, " M"], Float[Tensor, "M G S"]]:
        activation, grid = self.activation, self.activation.shape[2:]
        exact = exact_type(activation.device)
        signed = (filters < 0).flatten(1).any(1)[:, None, None]
        shown = torch.where(signed, filters, filters.clamp_min(_INSIDE))

        def part(start: int, stop: int) -> tuple[Tensor, Tensor]:
            pictures, some = self.pictures[rows[start:stop]], rows[start:stop]
            leaf, copy = begin_graph(shown[start:stop].to(activation.dtype).reshape(-1, 1, *grid))
            losses = self.loss(self.run(copy * activation[pictures], pictures), some).to(exact)
            (found,) = gradients(losses[:, None], [leaf])
            return losses.detach(), found[0].to(exact).reshape(filters[start:stop].shape)

        def averaged(start: int, stop: int) -> tuple[Tensor, Tensor]:
            pictures, some = self.pictures[rows[start:stop]], rows[start:stop]
            maps = activation.flatten(2)
            maps = maps if torch.equal(pictures, torch.arange(len(maps)).to(pictures)) else maps[pictures]
            own = shown[start:stop].to(activation.dtype).flatten(1) / maps.shape[2]
            leaf, copy = begin_graph((maps @ own[:, :, None])[..., None])
            losses = self.loss(self.run(copy, pictures), some).to(exact)
            (found,) = gradients(losses[:, None], [leaf])
            slope = found[0][:, None, :, 0, 0] @ maps / maps.shape[2]
            return losses.detach(), slope.to(exact).reshape(filters[start:stop].shape)

        chunk = max(1, _AT_ONCE // activation[0].numel())
        parts = in_chunks(averaged if self.pooled else part, len(rows), chunk)
        self.evaluations += len(rows)
        losses, found = (torch.cat(each) for each in zip(*parts, strict=True))
        return losses, found


@dataclass(frozen=True)
class Quadratic:
    """Mean squares of linear outputs, |M (f - 1)|^2 / D, by M'M alone.

    Attributes:
        gram: M'M / D.
    """

    gram: Float[Tensor, "N S S"]

    def __call__(
        self, filters: Float[Tensor, "M G S"], rows: Int[Tensor, " M"]
    ) -> tuple[Float[Tensor, " M"], Float[Tensor, "M G S"]]:
        missing = filters.flatten(1) - 1
        half = torch.einsum("mst,mt->ms", self.gram[rows], missing)
        return (missing * half).sum(1), (2 * half).reshape(filters.shape)


@dataclass(frozen=True)
class Linear:
    """A loss that falls evenly: offset - <direction, f>."""

    direction: Float[Tensor, "N G S"]
    offset: Float[Tensor, " N"]

    def __call__(
        self, filters: Float[Tensor, "M G S"], rows: Int[Tensor, " M"]
    ) -> tuple[Float[Tensor, " M"], Float[Tensor, "M G S"]]:
        direction = self.direction[rows]
        return self.offset[rows] - (direction * filters).flatten(1).sum(1), -direction


def sees_averages(run: Run, activation: Float[Tensor, "B K *grid"]) -> bool:
    """Whether a head sees only averages over a grid of two axes, and takes them on a grid of one cell: measured."""
    if activation.ndim != 4:
        return False
    here = activation[:1].detach()
    generator = torch.Generator().manual_seed(0)
    # Of a layer that is zero nothing tells how strong it usually is; next to a bias weak noise shows nothing.
    noise = torch.randn(here.shape, generator=generator).to(here) * (float(here.std()) or 1.0)
    nobody = torch.zeros(1, dtype=torch.long, device=here.device)
    for strength in (1, 10):
        stop_if_asked()
        trial = here + strength * noise
        try:
            with torch.no_grad():
                whole, cell = run(trial, nobody), run(trial.mean((2, 3), keepdim=True), nobody)
        except (RuntimeError, ValueError):
            return False  # pooling with windows of a fixed size, or a layout that is no grid
        if whole.shape != cell.shape or bool((whole - cell).abs().max() > _SAME * whole.abs().max()):
            return False
    return True


def matching(normal: Float[Tensor, "B D"], pictures: Int[Tensor, " N"]) -> Loss:
    """How far outputs are from those of the unfiltered pictures: the mean of the squares."""

    def loss(outputs: Tensor, rows: Tensor) -> Tensor:
        return (outputs - normal[pictures[rows]]).square().mean(1)

    return loss


def raising(coefficients: Float[Tensor, "N D"]) -> Loss:
    """The negative of a weighted sum of the outputs."""

    def loss(outputs: Tensor, rows: Tensor) -> Tensor:
        return -(coefficients[rows] * outputs).sum(1)

    return loss
