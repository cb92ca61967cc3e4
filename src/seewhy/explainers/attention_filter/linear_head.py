"""A head that is affine in the layer, as a matrix: learned once per network, then no head is run any more."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.explainers.attention_filter.objectives import Run
from seewhy.network.precision import exact_type, in_chunks
from seewhy.network.probe import begin_graph, gradients

_LARGEST = 1 << 24  # numbers of a matrix that is kept
_AT_ONCE = 1 << 24  # numbers of the activations that it is learned from
_AGREES = 1e-4  # of the largest output, between the matrix and the head


@dataclass(frozen=True)
class LinearHead:
    """Outputs W a + b of an activation; per channel where the head is pooled, so that W meets the sum over positions.

    Attributes:
        weight: (D, K), or (D, K, *grid).
        bias: (D,).
    """

    weight: Float[Tensor, "D K *grid"]
    bias: Float[Tensor, " D"]

    @property
    def pooled(self) -> bool:
        """Whether positions count alike."""
        return self.weight.ndim == 2

    def agrees(self, activation: Float[Tensor, "B K *grid"], outputs: Float[Tensor, "B D"]) -> bool:
        """Whether these pictures' outputs are what the matrix says; those of a gated head may have their own."""
        seen = activation.flatten(2).sum(2) if self.pooled else activation.flatten(1)
        expected = seen @ self.weight.flatten(1).mT + self.bias
        apart = (expected - outputs).abs().amax()
        return bool(apart <= _AGREES * outputs.abs().amax())

    def rows(self, activation: Float[Tensor, "B K *grid"]) -> Float[Tensor, "B D S"]:
        """What each position adds to each output (M): the class maps of CAM over the number of positions."""
        flat = activation.flatten(2)
        if self.pooled:
            return self.weight @ flat
        return torch.einsum("dks,bks->bds", self.weight.flatten(2), flat)

    def gram(self, activation: Float[Tensor, "B K *grid"]) -> Float[Tensor, "B S S"]:
        """M'M, in float64."""
        exact = exact_type(activation.device)

        def part(start: int, stop: int) -> Tensor:
            rows = self.rows(activation[start:stop]).to(exact)
            return rows.mT @ rows

        positions = activation[0, 0].numel()
        return torch.cat(in_chunks(part, len(activation), max(1, _AT_ONCE // (len(self.bias) * positions))))

    def maps(
        self, activation: Float[Tensor, "B K *grid"], coefficients: Float[Tensor, "B T D"]
    ) -> Float[Tensor, "B T S"]:
        """What each position adds to weighted sums of the outputs (M's), without the rows of M."""
        if self.pooled:
            return coefficients @ self.weight @ activation.flatten(2)
        weights = torch.einsum("btd,dks->btks", coefficients, self.weight.flatten(2))
        return torch.einsum("btks,bks->bts", weights, activation.flatten(2))


def learned(run: Run, activation: Float[Tensor, "1 K *grid"], pooled: bool) -> LinearHead | None:
    """The matrix of a head that is known to be affine; None where it is too large to keep.

    Args:
        run: the head.
        activation: of one picture.
        pooled: whether the head is known to see only averages over positions.
    """
    here = torch.zeros(1, dtype=torch.long, device=activation.device)
    with torch.no_grad():
        bias = run(torch.zeros_like(activation), here)[0]
    channels = activation.shape[1]
    if len(bias) * (channels if pooled else activation[0].numel()) > _LARGEST:
        return None
    weight = _from_single_cells(run, activation, bias) if pooled else None
    if weight is None:
        weight = _from_gradients(run, activation, len(bias), pooled)
    return LinearHead(weight, bias)


def _from_single_cells(
    run: Run, activation: Float[Tensor, "1 K *grid"], bias: Float[Tensor, " D"]
) -> Float[Tensor, "D K"] | None:
    """By one channel at a time on a grid of one cell, where the head takes such: hundreds of times less to compute."""
    channels, positions = activation.shape[1], activation[0, 0].numel()
    ones = (1,) * (activation.ndim - 2)
    eye = torch.eye(channels, dtype=activation.dtype, device=activation.device)

    def part(start: int, stop: int) -> Tensor:
        rows = torch.zeros(stop - start, dtype=torch.long, device=activation.device)
        return run(eye[start:stop].reshape(-1, channels, *ones), rows) - bias

    try:
        with torch.no_grad():
            found = torch.cat(in_chunks(part, channels, 256)).mT / positions
            same = run(activation, torch.zeros(1, dtype=torch.long, device=activation.device))
    except (RuntimeError, ValueError):
        return None  # pooling with windows of a fixed size, or a layout that is no grid
    fits = found.shape == (len(bias), channels) and LinearHead(found, bias).agrees(activation, same)
    return found if fits else None


def _from_gradients(
    run: Run, activation: Float[Tensor, "1 K *grid"], count: int, pooled: bool
) -> Float[Tensor, "D K *rest"]:
    leaf, copy = begin_graph(activation)
    outputs = run(copy, torch.zeros(1, dtype=torch.long, device=activation.device))

    def part(start: int, stop: int) -> Tensor:
        (found,) = gradients(outputs[:, start:stop], [leaf], keep_graph=True)
        return found[:, 0].flatten(2).mean(2) if pooled else found[:, 0]

    return torch.cat(in_chunks(part, count, max(1, _AT_ONCE // activation.numel()))).detach()
