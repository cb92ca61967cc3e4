"""Joint budgets over frames: where a search begins, and which frames the outputs depend on."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from functools import partial, reduce
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seewhy.explainers.attention_filter.closed_form import nonzero
from seewhy.explainers.attention_filter.filters import Filters, Search, Subject, solve
from seewhy.explainers.attention_filter.objectives import Run
from seewhy.network.precision import exact_type
from seewhy.network.probe import begin_graph, gradients

_DEAF = 1e-6  # of the frame that counts most: what rounding leaves of a sensitivity of zero
_SAME = 1e-6  # of the outputs' mean square: losses nearer to each other are as good
_TRIALS = 8  # searches that begin in one frame each, those that count most
_TRIAL = 15  # steps of a search that begins in one frame, before the most promising goes on
_MOST_OUTPUTS = 64  # that are differentiated one by one; of more, as many random sums


def from_single_frames(subject: Subject, search: Search, sensitivity: Float[Tensor, "B F"]) -> Filters:
    """The best of searches that begin in one frame each; all but the most promising end after a few steps.

    Beside other frames, one that decides can have no slope towards it: a recurrence forgets it, or takes it for
    something else. A search that begins with all frames may then end in those that do not matter. None begins in a
    frame that the head does not read, where what the norm has to spare would stay.
    """
    maps = subject.activation
    # A position without activation has no slope either, and would keep what it began with.
    live = maps.any(1).flatten(2).to(exact_type(maps.device))
    order = sensitivity.argsort(dim=1, descending=True, stable=True)[:, :_TRIALS]
    order = torch.where(deaf(sensitivity).gather(1, order), order[:, :1], order)
    short = replace(search, iterations=_TRIAL)
    trials = []
    for frame in order.unbind(1):
        own = live * nn.functional.one_hot(frame, maps.shape[2])[:, :, None]
        start = search.rho * own / nonzero(own.flatten(1).norm(dim=1))[:, None, None]
        trials.append(solve(subject, short, start.reshape(len(maps), 1, -1)))
    best = reduce(partial(better, subject), trials)
    found = solve(subject, search, best.values.flatten(2))
    taken = found.evaluations + best.evaluations
    return replace(found, iterations=found.iterations + best.iterations, evaluations=taken)


def better(subject: Subject, one: Filters, other: Filters) -> Filters:
    """Of each clip the other filter where its loss is lower, by more than what tells nothing."""
    least = _SAME * subject.outputs.square().mean(1).to(one.loss)
    lower = (other.loss < one.loss - least[:, None])[:, 0]

    def chosen(first: Tensor, second: Tensor) -> Tensor:
        return torch.where(lower.view(-1, *[1] * (first.ndim - 1)), second, first)

    tensors: dict[str, Any] = {
        each.name: chosen(getattr(one, each.name), getattr(other, each.name))
        for each in fields(Filters)
        if isinstance(getattr(one, each.name), Tensor)
    }
    tensors["iterations"] = one.iterations + other.iterations
    return replace(one, **tensors, evaluations=one.evaluations + other.evaluations)


def sensitivity_of(
    run: Run,
    maps: Float[Tensor, "B K F h w"],
    filters: Float[Tensor, "B F h w"],
    coefficients: Float[Tensor, "B T D"] | None,
) -> Float[Tensor, "B F"]:
    """How much the outputs change with the filter of each frame: the norm of their derivatives.

    Of many outputs random sums are differentiated, whose squares have the same mean.
    """
    leaf, copy = begin_graph(filters[:, None].to(maps.dtype))
    outputs = run(copy * maps, torch.arange(len(maps), device=maps.device))
    if coefficients is not None:
        outputs = torch.einsum("btd,bd->bt", coefficients.to(outputs), outputs)
    elif outputs.shape[1] > _MOST_OUTPUTS:
        signs = torch.randn(outputs.shape[1], _MOST_OUTPUTS, generator=torch.Generator().manual_seed(0))
        outputs = outputs @ signs.to(outputs) / math.sqrt(_MOST_OUTPUTS)
    (found,) = gradients(outputs, [leaf])
    return found.double().square().sum((0, 2, 4, 5)).sqrt()


def deaf(sensitivity: Float[Tensor, "B F"]) -> Bool[Tensor, "B F"]:
    """The frames that outputs do not depend on."""
    return sensitivity <= _DEAF * sensitivity.amax(1, keepdim=True)
