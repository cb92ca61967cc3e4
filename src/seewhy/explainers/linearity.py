"""Is what comes after a layer affine in it, and pooled? Measured, not read off layer names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.explainers.study import Study
from seewhy.explanation import Cost
from seewhy.network.layers import Site
from seewhy.network.operations import Computation, Operation, Rule, intercept
from seewhy.network.surveys import remember, remembered

_TOLERANCE = 1e-3
_FAR = 1e4  # far enough that a smooth activation near zero does not pass for a linear one
_LINEAR = (Operation.AVERAGE_POOL, Operation.LINEAR, Operation.DROPOUT, Operation.ADD, Operation.CONVOLUTION)


@dataclass(frozen=True)
class HeadShape:
    """What was measured; both are empty where it is so.

    Attributes:
        not_affine: why the score is not an affine function of the layer's activations.
        not_pooled: why it is not one of their averages.
    """

    not_affine: str
    not_pooled: str


def head_shape(study: Study, site: Site) -> HeadShape:
    """Measured once per network, layer, size of pictures and weights, by 12 replays of the first picture."""
    key = ("head shape", str(site), study.arguments.signature, study.target.key, study.digest)
    found: HeadShape | None = remembered(study.network, key)
    if found is None:
        found = _measured(study, site)
        remember(study.network, key, found)
    return found


def _measured(study: Study, site: Site) -> HeadShape:
    head = study.head(site, slice(0, 1))

    def scores(trials: Tensor) -> Tensor:
        rows = torch.zeros(len(trials), dtype=torch.long, device=trials.device)
        return study.question.select(rows)(head(head.holding(trials, rows), rows))

    found = probed(scores, head.maps)
    study.cost += Cost(setup=head.forwards + head.replays)
    return found


def probed(head: Callable[[Tensor], Tensor], here: Float[Tensor, "1 K *grid"]) -> HeadShape:
    """Measure any head, a function from activations (M, K, *grid) to scores (M, T), by 12 activations of one picture.

    Args:
        head: whatever comes after the layer.
        here: the picture's activation.
    """
    not_affine = not_pooled = ""
    usual = float(here.std()) or 1.0
    for strength in (usual, _FAR * max(usual, 1.0)):
        computed: list[str] = []
        scores = _scores_of_trials(head, here, strength, computed)
        plain, more, other, other_more, moved, nothing = scores.unbind()
        tolerance = _TOLERANCE * (scores - nothing).abs().max() + 1e-30
        between = f" (between it and the output: {', '.join(dict.fromkeys(computed))})" if computed else ""
        if (((more - plain) - (other_more - other)).abs() > tolerance).any():
            not_affine = not_affine or f"the score is not linear in this layer's activations{between}"
        if ((moved - plain).abs() > tolerance).any():
            where = "the score depends on where activations are, not on their average"
            not_pooled = not_pooled or where + between
    return HeadShape(not_affine, not_pooled)


def _scores_of_trials(
    head: Callable[[Tensor], Tensor], here: Float[Tensor, "1 K *grid"], strength: float, computed: list[str]
) -> Float[Tensor, "6 T"]:
    """Scores of the activations A, A + D, E, E + D, A with positions exchanged, and zero.

    D and E are noise of the given strength. What the head computes beyond linear maps is added to `computed`.
    """
    generator = torch.Generator().manual_seed(0)
    step, other = (strength * torch.randn(here.shape, generator=generator).to(here) for _ in range(2))
    order = torch.randperm(here[0, 0].numel(), generator=generator).to(here.device)
    moved = here.flatten(2)[:, :, order].view(here.shape)
    trials = torch.cat([here, here + step, other, other + step, moved, torch.zeros_like(here)])
    with torch.no_grad(), intercept({kind: _noting(computed) for kind in Operation if kind not in _LINEAR}):
        return head(trials).double()


def _noting(names: list[str]) -> Rule:
    """A rule that notes the kind of computation and changes nothing."""

    def rule(computation: Computation) -> Any:
        names.append(computation.operation.value)
        return computation.run()

    return rule
