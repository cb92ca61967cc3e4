"""Adam on many masks at once; each stops by itself and leaves the batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seewhy.cancellation import stop_if_asked

_MEAN, _SQUARE, _EPSILON = 0.9, 0.999, 1e-8
EVERY = 10
"""Iterations after which it is looked whether a mask is done."""

Loss = Callable[[Float[Tensor, "M *grid"], Int[Tensor, " M"], int], Float[Tensor, " M"]]
"""From masks, their numbers and the iteration to what each loses."""


@dataclass(frozen=True)
class Found:
    """Masks after a stage.

    Attributes:
        masks: (N, *grid), in [0, 1].
        iterations: that each took.
        settled: whether its loss had stopped falling.
    """

    masks: Float[Tensor, "N *grid"]
    iterations: Int[Tensor, " N"]
    settled: Tensor


def descended(
    loss: Loss,
    masks: Float[Tensor, "N *grid"],
    iterations: int,
    rates: tuple[float, float],
    tolerance: float,
) -> Found:
    """Adam (Kingma and Ba, ICLR 2015), the masks cut to [0, 1] after every step.

    The losses are summed, never averaged: Adam works value by value, so each mask moves as it would alone.

    Args:
        loss: of some of the masks.
        masks: where to begin.
        iterations: at most.
        rates: length of the first and of the last step; it falls evenly.
        tolerance: a mask is done when the mean of its loss over the last ten iterations is not lower, by more than
            this share of the first loss, than over the ten before; 0 goes on to the end.
    """
    masks = masks.detach().clone()
    means, squares = torch.zeros_like(masks), torch.zeros_like(masks)
    number = len(masks)
    taken = torch.zeros(number, dtype=torch.long, device=masks.device)
    settled = torch.zeros(number, dtype=torch.bool, device=masks.device)
    before = masks.new_full((number,), torch.inf)
    recent, first = masks.new_zeros(number), masks.new_ones(number)
    active = torch.arange(number, device=masks.device)
    for turn in range(1, iterations + 1):
        stop_if_asked()
        at = masks[active].requires_grad_()
        lost = loss(at, active, turn - 1)
        (gradient,) = torch.autograd.grad(lost.sum(), at)
        lost = lost.detach()
        if turn == 1:
            first = lost.abs().clamp_min(torch.finfo(lost.dtype).tiny)
        mean = _MEAN * means[active] + (1 - _MEAN) * gradient
        square = _SQUARE * squares[active] + (1 - _SQUARE) * gradient.square()
        means[active], squares[active] = mean, square
        root = (square / (1 - _SQUARE**turn)).sqrt() + _EPSILON
        rate = rates[0] + (rates[1] - rates[0]) * (turn - 1) / max(iterations - 1, 1)
        masks[active] = (at.detach() - rate / (1 - _MEAN**turn) * mean / root).clamp(0, 1)
        taken[active] += 1
        recent[active] += lost / EVERY
        if tolerance and turn % EVERY == 0:
            done = before[active] - recent[active] <= tolerance * first[active]
            settled[active[done]] = True
            before[active] = recent[active]
            recent[active] = 0
            active = active[~done]
            if not len(active):
                break
    return Found(masks, taken, settled)
