"""What of the outputs class-specific filters raise, read off the target itself."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.network.network import main_output
from seewhy.network.probe import begin_graph, gradients, with_leaf
from seewhy.network.structures import tensors
from seewhy.targets import BoundTarget

Against = Literal["mean", "all", "none", "top-k"] | tuple[int, ...]

_SAME = 1e-5  # between the slopes of a target that is linear in the outputs


def coefficients(
    question: BoundTarget, outputs: Any, leaf: str | int | None
) -> Float[Tensor, "B T D"] | None:
    """How much of each output the scores are; None where they are no weighted sums of outputs (B, D)."""
    output = main_output(outputs, leaf)
    if output.ndim != 2 or not output.is_floating_point():
        return None
    place = next(place for place, each in enumerate(tensors(outputs)) if each is output)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(output.shape, generator=generator).to(output) * (output.std(correction=0) + 1)
    slopes = []
    for at in (output.detach(), output.detach() + noise):
        variable, copy = begin_graph(at)
        scores = question(with_leaf(outputs, place, partial(_instead, copy)))
        (found,) = gradients(scores, [variable])
        slopes.append(found.transpose(0, 1).float())
    here, there = slopes
    same = (here - there).abs().amax() <= _SAME * here.abs().amax()
    return here if bool(same) and bool(here.any()) else None


def contrasted(
    found: Float[Tensor, "B T D"], outputs: Float[Tensor, "B D"], against: Against, count: int
) -> Float[Tensor, "B T D"] | None:
    """The same, less other classes: where every score is one class's own; None where it is not.

    Args:
        found: how much of each output the scores are.
        outputs: of the pictures, among which the strongest other classes are looked for.
        against: which other classes count.
        count: how many of the strongest.
    """
    if against == "none":
        return found
    single = ((found == 1).sum(2) == 1) & ((found != 0).sum(2) == 1)
    if not bool(single.all()):
        return None
    if against in ("all", "mean"):
        return found - (1 - found) / (1 if against == "all" else max(found.shape[2] - 1, 1))
    others = torch.zeros_like(found)
    if against == "top-k":
        left = outputs[:, None].expand_as(found).masked_fill(found == 1, -torch.inf)
        strongest = left.topk(min(count, found.shape[2] - 1), dim=2).indices
        others.scatter_(2, strongest, 1.0)
    else:
        others[..., list(against)] = 1.0
    return found - others * (found == 0)


def _instead(other: Tensor, _own: Tensor) -> Tensor:
    return other
