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
from seewhy.network.network import main_output
from seewhy.network.operations import Computation, Operation, Rule, intercept
from seewhy.network.probe import gradients
from seewhy.network.surveys import remember, remembered

_TOLERANCE = 1e-3
_ROUNDING = 4e-6  # of the largest score, in float32 and better
_ROUNDINGS = 4  # one after the other, in number formats in which a single one is visible
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
    """Measured once per network, layer, size of pictures, kind of target and weights, by replays of the first picture.

    Where the target names classes, all of them are looked at: another picture may be asked about another class. What
    a plain function of the outputs computes may change any time; it is measured each time.
    """
    key = ("head shape", str(site), study.arguments.signature, study.target.key, study.digest)
    found: HeadShape | None = remembered(study.network, key) if study.question.cacheable else None
    if found is None:
        found = _measured(study, site)
        if study.question.cacheable:
            remember(study.network, key, found)
    return found


def _measured(study: Study, site: Site) -> HeadShape:
    head = study.head(site, slice(0, 1))

    def outputs(trials: Tensor) -> tuple[Any, Tensor]:
        rows = torch.zeros(len(trials), dtype=torch.long, device=trials.device)
        return head(head.holding(trials, rows), rows), rows

    def asked(trials: Tensor) -> Tensor:
        found, rows = outputs(trials)
        return study.question.select(rows.cpu())(found)

    def classes(trials: Tensor) -> Tensor:
        return main_output(outputs(trials)[0], study.target.output).float().flatten(1)

    looked_at = [asked, classes] if study.target.names_classes else [asked]
    not_affine = not_pooled = ""
    for scores in looked_at:
        if not not_affine:
            shape = probed(scores, head.maps, study.network.dtype)
            not_affine, not_pooled = shape.not_affine, not_pooled or shape.not_pooled
    if not not_affine and not _gradient_is_slope(asked, head.maps, study.network.dtype):
        not_affine = "the score's gradient is not its slope"
    study.cost += Cost(setup=head.forwards + head.replays)
    return HeadShape(not_affine, not_pooled)


def _gradient_is_slope(
    head: Callable[[Tensor], Tensor], here: Float[Tensor, "1 K *grid"], dtype: torch.dtype
) -> bool:
    """Whether autograd gives what an affine head changes by: not behind `detach`, nor where a gradient is reversed."""
    generator = torch.Generator().manual_seed(1)
    strength = _FAR * (float(here.std()) or 1.0)  # beside which constants do not show
    step = (strength * torch.randn(here.shape, generator=generator, dtype=torch.float32)).to(here)
    with torch.no_grad():
        change = (head(here + step) - head(here)).double()[0]
    activation = here.detach().clone().requires_grad_()
    with torch.enable_grad():
        scores = head(activation.clone())
        (found,) = gradients(scores, [activation])
    slopes = found.double().flatten(1)
    missed = (change - slopes @ step.double().flatten()).abs()
    usual = torch.linalg.vector_norm(strength * slopes, dim=1)
    return not bool((missed > _tolerance(dtype) * torch.maximum(usual, change.abs())).any())


def _tolerance(dtype: torch.dtype) -> float:
    """Of the change of a score, what may not be curvature."""
    return max(_TOLERANCE, _rounding(dtype))


def _rounding(dtype: torch.dtype) -> float:
    return max(_ROUNDING, _ROUNDINGS * torch.finfo(dtype).eps)


def probed(
    head: Callable[[Tensor], Tensor], here: Float[Tensor, "1 K *grid"], dtype: torch.dtype = torch.float32
) -> HeadShape:
    """Measure any head, a function from activations (M, K, *grid) to scores (M, T), by 12 activations of one picture.

    Args:
        head: whatever comes after the layer.
        here: the picture's activation.
        dtype: the number format that it computes in.
    """
    not_affine = not_pooled = ""
    usual = float(here.std()) or 1.0
    for strength in (usual, _FAR * max(usual, 1.0)):
        computed: list[str] = []
        scores = _scores_of_trials(head, here, strength, computed)
        plain, more, other, other_more, moved, nothing = scores.unbind()
        # Of each column by itself, but for rounding: one may be curved by less than another changes.
        sizes = (scores - nothing).abs().amax(0)
        tolerance = torch.maximum(_tolerance(dtype) * sizes, _rounding(dtype) * sizes.max()) + 1e-30
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
    step, other = (
        strength * torch.randn(here.shape, generator=generator, dtype=torch.float32).to(here)
        for _ in range(2)
    )
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
