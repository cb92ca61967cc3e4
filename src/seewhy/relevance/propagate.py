"""Relevance through a whole network: one forward pass that ties every operation to its rule, then backward passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from seewhy.network.inputs import Arguments
from seewhy.network.kept_weights import KeptWeights
from seewhy.network.preserve import Forward, replaced_forwards
from seewhy.network.probe import with_leaf
from seewhy.network.structures import map_tensors
from seewhy.relevance.composites import Composite
from seewhy.relevance.conservation import Ledger
from seewhy.relevance.context import Context
from seewhy.relevance.interception import Interception
from seewhy.relevance.steps import Start, joined


@dataclass
class _Open:
    """The books of the backward pass under way.

    Steps hold this and never the trace: a trace holds outputs, these their graph, that the steps, and no collector
    of garbage looks through a graph.
    """

    ledger: Ledger


@dataclass
class Trace:
    """A forward pass along which relevance can be sent back.

    Attributes:
        outputs: what the network returned; scores made of it start relevance.
        pixels: per picture input the leaf that its relevance arrives at.
        layers: per layer name and call the tensor that it returned.
    """

    batch: int
    open: _Open
    outputs: Any = None
    pixels: Mapping[int | str, Tensor] = field(default_factory=dict)
    layers: dict[tuple[str, int], Tensor] = field(default_factory=dict)

    def back(self, score: Tensor, last: bool = True) -> tuple[list[Tensor], list[Tensor], Ledger]:
        """The relevance of the sum of these scores at the pixels and the layers, and the books.

        Args:
            score: a tensor made of the outputs.
            last: whether no other target follows, so that the graph can be let go.
        """
        ledger = self.open.ledger = Ledger(self.batch, last)
        wanted = [*self.pixels.values(), *self.layers.values()]
        reached = [each for each in wanted if each.requires_grad] if score.requires_grad else []
        found: Sequence[Tensor | None] = (
            torch.autograd.grad(score.sum(), reached, retain_graph=not last, allow_unused=True)
            if reached
            else ()
        )
        relevance = {id(each): got for each, got in zip(reached, found, strict=True) if got is not None}
        arrived = [relevance.get(id(each), torch.zeros_like(each)).detach() for each in wanted]
        return arrived[: len(self.pixels)], arrived[len(self.pixels) :], ledger


def trace(
    module: nn.Module,
    arguments: Arguments,
    composite: Composite,
    digest: str,
    layers: Mapping[str, int] | None = None,
    box: tuple[Tensor, Tensor] | None = None,
    contrast: bool = False,
) -> Trace:
    """Run the network once so that relevance can be sent back. Call it inside `Network.prepared`.

    Args:
        module: the network; its outputs are the ordinary ones.
        arguments: the call.
        composite: the rules.
        digest: of the network's weights.
        layers: names of layers whose relevance is wanted, each with the index of the feature map among the
            tensors of its output.
        box: the least and greatest values that pictures can have (C, 1, 1).
        contrast: start with what the target has, and take the same from all other classes together.

    Raises:
        NotApplicableError: an operation has no rule; the message names it and what to give.
        LayerError: a rule was given to a layer that does not exist or computes nothing that takes it.
    """
    books = _Open(Ledger(arguments.batch))
    found = Trace(arguments.batch, books)
    pixels = {key: arguments[key].detach().clone().requires_grad_() for key in arguments.pictures}
    context = Context(composite, KeptWeights(module, digest), lambda: books.ledger, box)
    found.layers = context.layers
    names = {each: name for name, each in module.named_modules()}
    counted: Counter[str] = Counter()

    def scoped(name: str) -> Forward:
        def forward(original: Forward, *args: Any, **kwargs: Any) -> Any:
            context.scope.append(name)
            try:
                output = original(*args, **kwargs)
            finally:
                context.scope.pop()
            if layers is None or name not in layers:
                return output

            def keep(tensor: Tensor) -> Tensor:
                found.layers[name, counted[name]] = tensor
                counted[name] += 1
                return tensor

            return with_leaf(output, layers[name], keep)

        return forward

    with replaced_forwards({each: scoped(name) for each, name in names.items()}), Interception(context):
        outputs = arguments.showing(pixels).call(module)
    composite.check(set(names.values()), context.functions)

    def start(output: Tensor) -> Tensor:
        output = context.current(output)
        if not output.requires_grad or not output.is_floating_point():
            return output
        value = output.detach()
        return joined(Start(value, context.ledger, contrast), context.ledger, value.clone(), output)

    found.pixels, found.outputs = pixels, map_tensors(start, outputs)
    return found
