"""Methods that break one promise each: Grad-CAM, or occlusion, with something wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

import seewhy
from seewhy.errors import CancelledError, InputError, LayerError, SeewhyError, TargetError
from seewhy.explainers.base import Computed, Explainer, Workload
from seewhy.explainers.grad_cam import GradCAM
from seewhy.explainers.study import Feature, Study
from seewhy.explanation import Cost, Explanation


class Spoiled(GradCAM):
    """Grad-CAM whose maps have something wrong."""

    name: Literal["grad-cam"] = "grad-cam"

    def compute(self, study: Study) -> Computed:
        found = super().compute(study)
        return replace(found, maps={site: self.spoil(each, study) for site, each in found.maps.items()})

    def spoil(self, values: Tensor, study: Study) -> Tensor:
        return values


class Called(GradCAM):
    """Grad-CAM that does something wrong around its call."""

    name: Literal["grad-cam"] = "grad-cam"

    def __call__(self, network: Any, images: Any, target: Any = None, **options: Any) -> Explanation:
        network = seewhy.Network.of(network)
        return self.call(
            lambda *changed: super(Called, self).__call__(*changed, **options), network, images, target
        )

    def call(
        self, usual: Callable[..., Explanation], network: seewhy.Network, images: Any, target: Any
    ) -> Explanation:
        return usual(network, images, target)


def spoiling(spoil: Callable[[Tensor, Study], Tensor]) -> Callable[[], Explainer]:
    """A method whose maps go through a function."""
    return type("Bad", (Spoiled,), {"spoil": lambda self, values, study: spoil(values, study)})


def calling(call: Callable[..., Explanation]) -> Callable[[], Explainer]:
    """A method whose call goes through a function of the usual call, network, pictures and target."""
    return type("Bad", (Called,), {"call": lambda self, *given: call(*given)})


def scaled(found: Explanation, factor: float | Tensor = 2.0) -> Explanation:
    return replace(found, maps={site: each * factor for site, each in found.maps.items()})


def _writes(change: Callable[[torch.nn.Module], object]) -> Callable[[], Explainer]:
    def call(usual: Any, network: seewhy.Network, *given: Any) -> Explanation:
        found = usual(network, *given)
        with torch.no_grad():
            change(network.module)
        return found

    return calling(call)


def _when(holds: Callable[[Tensor], bool]) -> Callable[[], Explainer]:
    """A method whose maps are others where something holds of the pictures."""

    def call(usual: Any, network: seewhy.Network, images: Any, target: Any) -> Explanation:
        found = usual(network, images, target)
        return (
            replace(found, maps={s: each.flip(-1) for s, each in found.maps.items()})
            if holds(images)
            else found
        )

    return calling(call)


def _hooked(module: torch.nn.Module) -> object:
    return module.register_forward_hook(lambda module, inputs, output: None)


def _no_longer_in_place(module: torch.nn.Module) -> None:
    for each in module.modules():
        if isinstance(each, torch.nn.ReLU):
            each.inplace = False


def _leaves_gradients(module: torch.nn.Module) -> None:
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter) * 2


def _lays_out(module: torch.nn.Module) -> None:
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)


def _not_put_back(error: type[BaseException]) -> Callable[[], Explainer]:
    def call(usual: Any, network: seewhy.Network, *given: Any) -> Explanation:
        try:
            return usual(network, *given)
        except error:
            _hooked(network.module)
            raise

    return calling(call)


def _draws(draw: Callable[[], object]) -> Callable[[], Explainer]:
    def call(usual: Any, *given: Any) -> Explanation:
        draw()
        return usual(*given)

    return calling(call)


def _writes_pictures(usual: Any, network: seewhy.Network, images: Tensor, target: Any) -> Explanation:
    found = usual(network, images, target)
    images.mul_(1.0001)
    return found


def _by_place(values: Tensor, study: Study) -> Tensor:
    return values * torch.arange(1, len(values) + 1)[:, None, None, None]


def _leaks(values: Tensor, share: float) -> Tensor:
    return values + share * values.mean(0, keepdim=True)


def rounding(values: Tensor, study: Study, share: float = 1e-4) -> Tensor:
    """What a network in float64 is spared."""
    return _leaks(values, share) if study.network.dtype == torch.float32 else values


class _Unmoved(GradCAM):
    """Has a seed that it does not use."""

    name: Literal["grad-cam"] = "grad-cam"
    seed: int = Field(default=0, description="Of nothing.")


class _NotInBfloat16(Spoiled):
    def spoil(self, values: Tensor, study: Study) -> Tensor:
        if self.precision == "bfloat16":
            raise RuntimeError("no such kernel")
        return values


class _MixesTargets(GradCAM):
    def formula(self, feature: Feature) -> Tensor:
        values = super().formula(feature)
        return values + values.mean(1, keepdim=True)


class _Merges(Spoiled):
    """Maps of two layers that are asked for together are others than alone."""

    def spoil(self, values: Tensor, study: Study) -> Tensor:
        return values * 2 if isinstance(self.layer, tuple) and len(self.layer) > 1 else values


class _UnderstatesItsCost(GradCAM):
    def plan(self, work: Workload, network: seewhy.Network) -> Cost:
        return Cost(forwards=work.pictures)


class _RunsTwiceAndCountsOnce(Spoiled):
    def spoil(self, values: Tensor, study: Study) -> Tensor:
        study.arguments.call(study.network.module)
        return values


class _KeepsASettingToItself(GradCAM):
    name: Literal["grad-cam"] = "grad-cam"
    secret: float = Field(default=1.0, exclude=True, description="Left out of what is written.")


class _Undescribed(GradCAM):
    name: Literal["grad-cam"] = "grad-cam"
    strength: float = 1.0


class _Stubborn(seewhy.Occlusion):
    """Does not mind that its file has changed."""

    def __call__(self, network: Any, images: Any, target: Any = None, **options: Any) -> Explanation:
        try:
            return super().__call__(network, images, target, **options)
        except InputError:
            return self.model_copy(update={"baseline": "zero"})(network, images, target, **options)


class _ForgetsPresets(seewhy.Occlusion):
    presets: ClassVar = {"wide": {"window": 12}}

    @classmethod
    def from_preset(cls, preset: str, **settings: Any) -> Any:
        return cls(**settings)


class _Forgets(Explanation):
    def to_npz(self, path: str | Path) -> Path:
        return Explanation.to_npz(scaled(self), path)


def _kept_badly(usual: Any, *given: Any) -> Explanation:
    found = usual(*given)
    return _Forgets(**{each.name: getattr(found, each.name) for each in fields(found)})


def _instead(error: type[SeewhyError], otherwise: Callable[..., Any]) -> Callable[[], Explainer]:
    """A method that does something else instead of an error."""

    def call(usual: Any, *given: Any) -> Explanation:
        try:
            return usual(*given)
        except error:
            return otherwise(usual, *given)

    return calling(call)


def _refuses_tiny(usual: Any, network: seewhy.Network, images: Tensor, target: Any) -> Explanation:
    if images.shape[-1] < 16:
        raise InputError("too small")
    return usual(network, images, target)


BAD: list[tuple[str, Callable[[], Explainer]]] = [
    ("a batch gives what its pictures give", spoiling(lambda values, _: values / values.abs().max())),
    ("a batch gives what its pictures give", spoiling(lambda values, _: _leaks(values, 1e-4))),
    # By as much as bfloat16 would, which a network in float64 is spared.
    ("a batch gives what its pictures give", spoiling(lambda values, study: rounding(values, study, 4e-3))),
    ("the chunk size changes nothing", spoiling(lambda values, _: values / values.abs().max())),
    (
        "the order of the pictures changes nothing",
        spoiling(_by_place),
    ),
    (
        "the same picture twice gets the same map",
        spoiling(_by_place),
    ),
    ("the same call gives the same map", spoiling(lambda values, _: values * torch.rand(()))),
    ("a seed fixes what is random", _Unmoved),
    ("several targets give what single ones give", _MixesTargets),
    ("several layers give what single ones give", _Merges),
    ("methods asked for together give what each gives", calling(lambda usual, *given: scaled(usual(*given)))),
    (
        "it works where gradients are switched off",
        calling(lambda usual, *given: scaled(usual(*given), 1.0 + torch.is_grad_enabled())),
    ),
    (
        "channels-last pictures change nothing",
        _when(lambda images: images.is_contiguous(memory_format=torch.channels_last)),
    ),
    (
        "strided pictures change nothing",
        _when(lambda images: images.stride()[0] > images[0].numel()),
    ),
    (
        "a float64 network gives the same map",
        spoiling(lambda values, study: values.flip(-1) if study.network.dtype == torch.float64 else values),
    ),
    ("bfloat16 gives the same map", _NotInBfloat16),
    (
        "parameters and buffers are as they were",
        _writes(lambda module: next(module.parameters()).mul_(1.0001)),
    ),
    ("gradients and their flags are as they were", _writes(_leaves_gradients)),
    ("training modes are as they were", _writes(lambda module: module.eval())),
    ("hooks and attributes are as they were", _writes(_hooked)),
    ("hooks and attributes are as they were", _writes(_no_longer_in_place)),
    ("memory layouts are as they were", _writes(_lays_out)),
    ("random states are as they were", _draws(lambda: torch.rand(1))),
    ("random states are as they were", _draws(lambda: np.random.rand())),
    ("the pictures are as they were", calling(_writes_pictures)),
    ("everything is put back when the network raises", _not_put_back(RuntimeError)),
    ("everything is put back when it is interrupted", _not_put_back(KeyboardInterrupt)),
    ("a cancelled call stops, and everything is put back", _instead(CancelledError, lambda *_: None)),
    ("maps are float32, detached, on the network's device", spoiling(lambda values, _: values.double())),
    (
        "maps, evidence and heatmaps have their shapes and ranges",
        spoiling(lambda values, _: values[..., :1, :1]),
    ),
    ("constant pictures give finite maps", spoiling(lambda values, study: values / study.arguments[0].std())),
    (
        "black pictures give finite maps",
        spoiling(lambda values, study: values / study.arguments[0].abs().max()),
    ),
    (
        "pictures of NaN are refused",
        calling(lambda usual, network, images, target: usual(network, images.nan_to_num(), target)),
    ),
    ("maps of pictures that are not square are not, either", spoiling(lambda values, _: values.mT)),
    ("tiny pictures give maps, or a refusal with a reason", calling(_refuses_tiny)),
    ("the only object of a picture is where its evidence is", spoiling(lambda values, _: values.flip(-1))),
    (
        "a dead layer gives a zero map and says so",
        spoiling(lambda values, _: values / values.abs().amax((-2, -1), keepdim=True)),
    ),
    (
        "other weights give another map",
        spoiling(lambda values, _: torch.linspace(0, 1, values.shape[-1]).expand(values.shape).contiguous()),
    ),
    (
        "two classes have two maps, or the method says that it ignores them",
        spoiling(lambda values, _: values.mean(1, keepdim=True).expand(values.shape).contiguous()),
    ),
    ("settings survive a round trip", lambda: _KeepsASettingToItself(secret=2.0)),
    ("every setting is described, and the name is the method's own", _Undescribed),
    ("a file in a setting is known by what it holds", lambda: _Stubborn(window=12, stride=12)),
    ("presets give their settings, and unknown ones an error", _ForgetsPresets),
    ("the result says how to repeat it", calling(lambda usual, *given: replace(usual(*given), reason=""))),
    ("a saved result is read back whole", calling(_kept_badly)),
    ("the counted cost is within the declared cost", _UnderstatesItsCost),
    ("the counted cost is within the declared cost", _RunsTwiceAndCountsOnce),
    (
        "an unknown layer is an error that names it",
        _instead(LayerError, lambda usual, *given: GradCAM()(*given)),
    ),
    (
        "an unknown class is an error that names it",
        _instead(TargetError, lambda usual, network, images, _: usual(network, images, 0)),
    ),
]
"""The promise, and a method that breaks it."""
