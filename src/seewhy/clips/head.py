"""From the maps of a clip's frames on to what the network answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seewhy.clips.layout import FrameLayout
from seewhy.explainers.study import Study
from seewhy.explanation import Cost
from seewhy.network.inputs import Arguments
from seewhy.network.preserve import Forward, replaced_forwards
from seewhy.network.replay import Head, Plan, record
from seewhy.network.structures import tensors
from seewhy.network.survey import BatchAxis, Call
from seewhy.network.surveys import planned


def head_of(study: Study, call: Call) -> Head:
    """The head of a layer whose output holds the maps of all frames, or of one that is called once per frame."""
    module, arguments = study.network.module, study.arguments
    if _layout(call).order == "calls":
        maps, outputs = _read(module, arguments, call)
        once = replace(call, axes=(BatchAxis(0),))
        plan = Plan(once, {}, {}, frozenset(), verified=False)
        return _FrameByFrame(module, plan, arguments, maps, outputs, {}, forwards=arguments.batch)
    plan, forwards = planned(study.network, arguments, study.survey, call, study.digest)
    study.cost += Cost(setup=forwards)
    return record(module, arguments, replace(plan, call=call))


def separated(study: Study, readings: list[Call]) -> tuple[Call, bool]:
    """Of several readings of a layer the one by which a frame changes its own map alone, and whether there is one.

    The first clip is run twice more, the second time with noise in its first frame.
    """
    first = study.arguments.select(slice(0, 1))
    clip: Tensor = first[0]
    if clip.shape[1] == 1:
        return readings[-1], True
    noise = torch.randn(clip[:, 0].shape, generator=torch.Generator().manual_seed(0)).to(clip)
    other = clip.clone()
    other[:, 0] += noise * (clip.std() + 1e-3)
    study.cost += Cost(setup=2 * len(readings))
    for call in reversed(readings):
        before, after = (
            _layout(call).maps(_read(study.network.module, first.showing({0: each}), call)[0])
            for each in (clip, other)
        )
        moved = (before != after).movedim(2, 0).flatten(1).any(1)
        if bool(moved[0]) and not bool(moved[1:].any()):
            return call, True
    return readings[-1], False


class _FrameByFrame(Head):
    """A network that calls its layer once per frame: run as a whole, the layer's maps handed to it in turn."""

    def __call__(self, activation: Float[Tensor, "*shape"], rows: Int[Tensor, " M"] | None = None) -> Any:
        device = self.activation.device
        rows = torch.arange(self.arguments.batch, device=device) if rows is None else rows.to(device)
        self.forwards += len(rows)
        frames = iter(activation.unbind(1))
        call = self.plan.call

        def given(_original: Forward, *_args: Any, **_kwargs: Any) -> Tensor:
            return next(frames).clone()

        with replaced_forwards({self.module.get_submodule(call.name): given}):
            return self.arguments.select(rows).call(self.module)


def _layout(call: Call) -> FrameLayout:
    assert isinstance(call.layout, FrameLayout)
    return call.layout


def _read(module: nn.Module, arguments: Arguments, call: Call) -> tuple[Tensor, Any]:
    """What a layer returns, with the calls of all frames (B, F, ...) together, and what the network does."""
    found: list[Tensor] = []

    def keep(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        output = original(*args, **kwargs)
        found.append(tensors(output)[call.leaf].detach().clone())
        return output

    with torch.no_grad(), replaced_forwards({module.get_submodule(call.name): keep}):
        outputs = arguments.call(module)
    return torch.stack(found, 1) if _layout(call).order == "calls" else found[call.index], outputs
