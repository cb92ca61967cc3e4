"""Riemann-Stieltjes sums of gradients over the way that activations take."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.network.precision import exact_type


@dataclass(frozen=True)
class Stretch:
    """A layer at s neighbouring points of W ways.

    Attributes:
        activation: (W, s, K, h, w).
        gradient: of the T targets (W, s, T, K, h, w).
    """

    activation: Float[Tensor, "W s K h w"]
    gradient: Float[Tensor, "W s T K h w"]


@dataclass(frozen=True)
class Stieltjes:
    """I = sum_l (g_l + g_(l-1)) / 2 (A_l - A_(l-1)), per element, over the points seen so far of W ways.

    The sum over all elements is the change of the score between the first point and the last, as the points grow
    denser, and depends on where the activations go, not on how fast.

    Attributes:
        total: I (W, T, K, h, w), in float64 where there is one; None before the second point.
        last: the newest point.
        rectified: only positive gradients count, of which no sum is complete.
    """

    total: Float[Tensor, "W T K h w"] | None = None
    last: Stretch | None = None
    rectified: bool = False

    def after(self, stretch: Stretch) -> Stieltjes:
        """The sum with s more points."""
        activation, gradient = stretch.activation, stretch.gradient
        if self.rectified:
            gradient = gradient.clamp_min(0)
        newest = Stretch(activation[:, -1:].clone(), gradient[:, -1:].clone())
        if self.last is not None:
            activation = torch.cat([self.last.activation, activation], 1)
            gradient = torch.cat([self.last.gradient, gradient], 1)
        if activation.shape[1] < 2:
            return Stieltjes(self.total, newest, self.rectified)
        mean = (gradient[:, 1:] + gradient[:, :-1]) / 2
        terms = torch.einsum("wstkij,wskij->wtkij", mean, activation[:, 1:] - activation[:, :-1])
        found = terms.to(exact_type(terms.device))
        return Stieltjes(found if self.total is None else self.total + found, newest, self.rectified)

    @property
    def sums(self) -> tuple[Float[Tensor, "W T"], Float[Tensor, "W T"]]:
        """The sum over all elements, and over their magnitudes; zero before the second point."""
        if self.total is None:
            assert self.last is not None
            zero = torch.zeros_like(self.last.gradient[:, 0, :, 0, 0, 0])
            return zero, zero
        return self.total.flatten(2).sum(2), self.total.abs().flatten(2).sum(2)
