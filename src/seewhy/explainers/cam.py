"""CAM: the class's own weights on the feature maps, where the head is a pooled linear layer."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.errors import NotApplicableError
from seewhy.explainers.activation import ActivationMethod
from seewhy.explainers.study import Feature, Study
from seewhy.network.layers import Site
from seewhy.network.operations import Computation, Operation, Rule, intercept
from seewhy.network.replay import Head
from seewhy.network.surveys import remember, remembered, weights_version

_TOLERANCE = 1e-3
_FAR = 1e4  # far enough that a smooth activation near zero does not pass for a linear one
_LINEAR = (Operation.AVERAGE_POOL, Operation.LINEAR, Operation.DROPOUT, Operation.ADD, Operation.CONVOLUTION)


class CAM(ActivationMethod):
    """CAM (Zhou et al., CVPR 2016): sum_k W_ck A_k, so that the map's mean is the score minus its bias.

    The head must be global average pooling and one linear map. That is not read off layer names but measured:
    the score must be affine in the activations and the same when positions are exchanged. Its weights are then the
    gradient, times the number of positions.
    """

    title: ClassVar[str] = "CAM"
    paper: ClassVar[str] = "Zhou et al., CVPR 2016"
    needs: ClassVar[str] = "global average pooling and one linear layer after the layer"

    name: Literal["cam"] = "cam"

    def formula(self, feature: Feature) -> Float[Tensor, "B T h w"]:
        assert feature.gradient is not None
        weights = self.sign * feature.gradient.sum((-2, -1))
        return torch.einsum("btk,bkhw->bthw", weights, feature.activation)

    def check(self, study: Study, site: Site) -> None:
        network = study.network
        key = ("pooled-linear", site, study.target.key, weights_version(network))
        reason = remembered(network, key)
        if reason is None:
            reason = _why_not_pooled_linear(study, site)
            remember(network, key, reason)
        if reason:
            raise NotApplicableError(
                f"CAM is not defined for {network.name} at {site}: {reason}. It needs global average pooling "
                "and one linear layer after the layer; grad-cam and hires-cam do not"
            )


def _why_not_pooled_linear(study: Study, site: Site) -> str:
    """Why the score is not a linear map of pooled activations; empty if it is."""
    head = study.head(site, slice(0, 1))
    usual = float(head.activation.std()) or 1.0
    for strength in (usual, _FAR * max(usual, 1.0)):
        computed: list[str] = []
        scores = _scores_of_trials(study, head, strength, computed)
        plain, more, other, other_more, moved, nothing = scores.unbind()
        tolerance = _TOLERANCE * (scores - nothing).abs().max() + 1e-30
        between = f" (between it and the output: {', '.join(dict.fromkeys(computed))})" if computed else ""
        if (((more - plain) - (other_more - other)).abs() > tolerance).any():
            return f"the score is not linear in this layer's activations{between}"
        if ((moved - plain).abs() > tolerance).any():
            return f"the score depends on where activations are, not on their average{between}"
    return ""


def _scores_of_trials(study: Study, head: Head, strength: float, computed: list[str]) -> Float[Tensor, "6 T"]:
    """Scores of the first picture's activations A, A + D, E, E + D, A with positions exchanged, and zero.

    D and E are noise of the given strength. What the head computes beyond linear maps is added to `computed`.
    """
    call = head.plan.call
    axis = call.axes[call.leaf]
    assert call.layout is not None
    assert axis is not None
    here = call.layout.maps(head.activation).float()
    generator = torch.Generator().manual_seed(0)
    step, other = (strength * torch.randn(here.shape, generator=generator).to(here) for _ in range(2))
    order = torch.randperm(here.shape[-1] * here.shape[-2], generator=generator).to(here.device)
    moved = here.flatten(2)[:, :, order].view(here.shape)
    trials = torch.cat([here, here + step, other, other + step, moved, torch.zeros_like(here)])
    rows = torch.zeros(len(trials), dtype=torch.long, device=here.device)
    activation = call.layout.replace(axis.expand(head.activation, rows), trials)
    question = study.question.select(rows)
    with torch.no_grad(), intercept({kind: _noting(computed) for kind in Operation if kind not in _LINEAR}):
        outputs = head(activation, rows)
    return question(outputs).double()


def _noting(names: list[str]) -> Rule:
    """A rule that notes the kind of computation and changes nothing."""

    def rule(computation: Computation) -> Any:
        names.append(computation.operation.value)
        return computation.run()

    return rule
