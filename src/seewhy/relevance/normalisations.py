"""Normalisations as affine maps: batch norm by its running statistics, others with their scale held constant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seewhy.network.operations import Computation

_BATCH_NORM = {
    "functional": ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    "torch": ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps"),
}
_PLACES: dict[str, tuple[str, ...]] = {
    "layer_norm": ("input", "normalized_shape", "weight", "bias", "eps"),
    "rms_norm": ("input", "normalized_shape", "weight", "eps"),
    "group_norm": ("input", "num_groups", "weight", "bias", "eps"),
    "instance_norm": (
        "input",
        "running_mean",
        "running_var",
        "weight",
        "bias",
        "use_input_stats",
        "momentum",
        "eps",
    ),
    "normalize": ("input", "p", "dim", "eps"),
}


@dataclass(frozen=True)
class Normalised:
    """A normalisation of some values by their own statistics.

    Attributes:
        source: the values.
        map: what it computes from other values, any weights, which it has none of, and the bias; linear, as its
            scale is held constant.
        bias: what is added.
    """

    source: Tensor
    map: Callable[[Tensor, Any, Tensor | None], Tensor]
    bias: Tensor | None


def batch_statistics(computation: Computation) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...]] | None:
    """Input, scale and shift per channel, and the tensors that they are made of; None without running statistics."""
    named = _arguments(computation, _BATCH_NORM[_home(computation)])
    mean, variance = named.get("running_mean"), named.get("running_var")
    if (
        computation.function.__name__ == "instance_norm"
        or named.get("training")
        or mean is None
        or variance is None
    ):
        return None
    weight, bias = named.get("weight"), named.get("bias")
    with torch.no_grad():
        scale = (variance + named.get("eps", 1e-5)).rsqrt()
        scale = scale if weight is None else scale * weight
        shift = -mean * scale if bias is None else bias - mean * scale
    sources = tuple(each for each in (weight, bias, mean, variance) if each is not None)
    return named["input"], scale, shift, sources


def normalised(computation: Computation) -> Normalised:
    """Layer, group, instance and RMS norm, and division by a norm."""
    name = computation.function.__name__
    named = _arguments(computation, _PLACES[name])
    source: Tensor = named["input"]
    values = source.detach()
    epsilon = named.get("eps", 1e-12 if name == "normalize" else 1e-5)
    if name == "normalize":
        norm = values.norm(named.get("p", 2.0), named.get("dim", 1), keepdim=True).clamp_min(epsilon)
        return Normalised(source, _linear(lambda each: each / norm), None)
    weight, bias = named.get("weight"), named.get("bias")
    if name in ("layer_norm", "rms_norm"):
        axes = tuple(range(-len(named["normalized_shape"]), 0))
        if name == "rms_norm":
            epsilon = torch.finfo(values.dtype).eps if epsilon is None else epsilon
            scale = (values.square().mean(axes, keepdim=True) + epsilon).rsqrt()
            return Normalised(
                source, _linear(lambda each: each * scale * (1 if weight is None else weight)), None
            )
        scale = (values.var(axes, unbiased=False, keepdim=True) + epsilon).rsqrt()

        def centred(each: Tensor) -> Tensor:
            result: Tensor = (each - each.mean(axes, keepdim=True)) * scale
            return result if weight is None else result * weight

        return Normalised(source, _linear(centred), bias)
    groups = values.shape[1] if name == "instance_norm" else named["num_groups"]
    folded = values.reshape(len(values), groups, -1)
    scale = (folded.var(2, unbiased=False, keepdim=True) + epsilon).rsqrt()
    shape = (1, -1, *[1] * (values.ndim - 2))

    def by_group(each: Tensor) -> Tensor:
        grouped = each.reshape(len(each), groups, -1)
        result: Tensor = ((grouped - grouped.mean(2, keepdim=True)) * scale).reshape(each.shape)
        return result if weight is None else result * weight.reshape(shape)

    return Normalised(source, _linear(by_group), None if bias is None else bias.reshape(shape[1:]))


def _linear(compute: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Any, Tensor | None], Tensor]:
    """A map without weights, with a bias to add."""

    def map_(each: Tensor, _: Any, bias: Tensor | None) -> Tensor:
        return compute(each) if bias is None else compute(each) + bias

    return map_


def _home(computation: Computation) -> str:
    return "torch" if computation.function is torch.batch_norm else "functional"


def _arguments(computation: Computation, places: tuple[str, ...]) -> dict[str, Any]:
    return {**dict(zip(places, computation.args, strict=False)), **computation.kwargs}
