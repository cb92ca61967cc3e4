"""One pass that records activations at chosen layers, and their gradients without a graph before them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seewhy.errors import LayerError
from seewhy.network.inputs import Arguments
from seewhy.network.precision import Precision, autocast, in_chunks, out_of_memory
from seewhy.network.preserve import Forward, replaced_forwards
from seewhy.network.structures import flatten


@dataclass(frozen=True)
class Probe:
    """What one pass gave.

    Attributes:
        outputs: the network's outputs, connected to the activations where gradients were asked for.
        activations: per layer name and call index, the feature map as the layer returned it, in float32 at
            least.
    """

    outputs: Any
    activations: Mapping[tuple[str, int], Tensor]


def probe(
    module: nn.Module,
    arguments: Arguments,
    leaves: Mapping[str, int],
    differentiate: bool,
    precision: Precision = "float32",
) -> Probe:
    """Run the network once and keep the activations at some layers. Call it inside `preserved`.

    No graph exists before the first of these layers, as the parameters are frozen and its output is made
    a leaf; what follows runs in float32 on it, whatever the precision before.

    Args:
        module: the network.
        arguments: the call.
        leaves: layer names, each with the index of the feature map among the tensors of its output.
        differentiate: whether gradients at the layers will be asked for.
        precision: the number format up to the first layer.

    Raises:
        LayerError: a layer did not run.
    """
    modules = dict(module.named_modules())
    found: dict[tuple[str, int], Tensor] = {}

    def record(name: str, leaf: int) -> Forward:
        counted = 0

        def forward(original: Forward, *args: Any, **kwargs: Any) -> Any:
            nonlocal counted

            def keep(tensor: Tensor) -> Tensor:
                nonlocal counted
                torch.set_autocast_enabled(tensor.device.type, False)
                activation = tensor if tensor.dtype == torch.float64 else tensor.float()
                if differentiate and not activation.requires_grad:
                    activation, copy = begin_graph(activation)
                else:
                    copy = activation.clone()
                found[name, counted] = activation
                counted += 1
                return copy.to(tensor.dtype) if precision == "float32" else copy

            return with_leaf(original(*args, **kwargs), leaf, keep)

        return forward

    with (
        torch.set_grad_enabled(differentiate),
        replaced_forwards({modules[name]: record(name, leaf) for name, leaf in leaves.items()}),
        autocast(precision, arguments[arguments.pictures[0]].device),
    ):
        outputs = arguments.call(module)
    missing = [name for name in leaves if (name, 0) not in found]
    if missing:
        raise LayerError(f"these layers did not run on this input: {', '.join(missing)}")
    return Probe(outputs, found)


def begin_graph(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """A leaf with the tensor's values, and a copy of it for the network, which may write to the copy."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = (tensor.clone() if tensor.is_inference() else tensor.detach()).requires_grad_()
        return leaf, leaf.clone()


def with_leaf(output: Any, leaf: int, change: Callable[[Tensor], Tensor]) -> Any:
    """A module's output with one of its tensors changed, whatever structure holds it."""
    if isinstance(output, Tensor):
        return change(output)
    flat, rebuild = flatten(output)
    places = [place for place, value in enumerate(flat) if isinstance(value, Tensor)]
    flat[places[leaf]] = change(flat[places[leaf]])
    return rebuild(flat)


def gradients(
    scores: Float[Tensor, "B T"], activations: Sequence[Tensor], keep_graph: bool = False
) -> list[Float[Tensor, "T *shape"]]:
    """Gradients of every target at every activation: one backward pass for all where it can be batched.

    Args:
        scores: what is explained, for B pictures and T targets; pictures must not depend on each other.
        activations: tensors of the graph that the scores were computed from.
        keep_graph: whether the graph is needed again.

    Returns:
        Per activation its gradients, with the T targets as an axis in front; zero where there is no
        dependence.
    """
    targets = scores.shape[1]
    reachable = scores.requires_grad and any(each.requires_grad for each in activations)
    if not reachable:
        return [each.new_zeros((targets, *each.shape)) for each in activations]

    def run(start: int, stop: int) -> list[Tensor]:
        last = stop == targets and not keep_graph
        chosen = scores[:, start:stop]
        if stop - start == 1:
            found = _grad(chosen.sum(), activations, retain=not last)
            return [each[None] for each in found]
        try:
            return _batched(chosen, activations, retain=True)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            # An operation without a batching rule: one pass per target gives the same, more slowly.
            each = [_grad(chosen[:, t].sum(), activations, retain=True) for t in range(stop - start)]
            return [torch.stack(per) for per in zip(*each, strict=True)]

    parts = in_chunks(run, targets)
    return [torch.cat(per) if len(per) > 1 else per[0] for per in zip(*parts, strict=True)]


def _grad(score: Tensor, activations: Sequence[Tensor], retain: bool) -> list[Tensor]:
    found = torch.autograd.grad(score, list(activations), retain_graph=retain, allow_unused=True)
    return [
        torch.zeros_like(each) if gradient is None else gradient
        for each, gradient in zip(activations, found, strict=True)
    ]


def _batched(scores: Tensor, activations: Sequence[Tensor], retain: bool) -> list[Tensor]:
    count = scores.shape[1]
    directions = torch.eye(count, dtype=scores.dtype, device=scores.device)[:, None, :]
    with warnings.catch_warnings():
        # Without a batching rule torch falls back to a loop, and warns; the result is the same.
        warnings.simplefilter("ignore")
        found = torch.autograd.grad(
            scores,
            list(activations),
            grad_outputs=directions.expand(count, *scores.shape),
            is_grads_batched=True,
            retain_graph=retain,
            allow_unused=True,
        )
    return [
        each.new_zeros((count, *each.shape)) if gradient is None else gradient
        for each, gradient in zip(activations, found, strict=True)
    ]
