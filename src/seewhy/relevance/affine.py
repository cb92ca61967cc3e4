"""What is affine in its input, and how relevance passes it: one primitive for every rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce

import torch
from torch import Tensor

from seewhy.relevance.conservation import Ledger
from seewhy.relevance.rules import AffineRule, Epsilon, Inputs, Part, Term, Weights, ZBox
from seewhy.relevance.weights import KeptWeights, changed

Map = Callable[[Tensor, Tensor | float, Tensor | None], Tensor]
"""What is linear in its first argument, for some weights, plus a bias."""

_PLAIN = (Part("all"),)


@dataclass(frozen=True)
class Weighting:
    """The weights of a map, as they were when it ran.

    Attributes:
        weight: the tensor, or 1.0 for maps like averages whose weights are fixed and not below 0.
        scale: what a normalisation that was folded in multiplies the weights by, shaped so that it can.
        sources: the tensors that weight and scale are made of.
    """

    weight: Tensor | float = 1.0
    scale: Tensor | None = None
    sources: tuple[Tensor, ...] = ()

    def under(self, change: Weights, kept: KeptWeights) -> Tensor | float:
        """The weights after a change."""
        weight, scale = self.weight, self.scale
        if not isinstance(weight, Tensor):
            return float(changed(weight, change))
        if change == Weights() and scale is None:
            return weight

        def make() -> Tensor:
            made: Tensor = changed(weight if scale is None else weight * scale, change)
            return made

        return kept.get(self.sources, change, make)


@dataclass
class Affine:
    """One affine computation, from when it ran to when relevance comes back.

    Attributes:
        where: its layer.
        rule: how relevance is divided.
        source: its input, with the graph that led to it.
        map: what it computes.
        weighting: its weights.
        bias: what is added, shaped so that it can be.
        ledger: gives the books of the backward pass under way.
        kept: changed weights.
        box: the least and greatest values of the pictures, where they are the input.
        fold_axis: the axis of the weights that a normalisation of the output's channels would scale; None where
            none can be folded in.
        is_layer: whether it is a convolution or a linear layer, rather than an average or a normalisation.
    """

    where: str
    rule: AffineRule
    source: Tensor
    map: Map
    weighting: Weighting
    bias: Tensor | None
    ledger: Callable[[], Ledger]
    kept: KeptWeights
    box: tuple[Tensor, Tensor] | None = None
    fold_axis: int | None = None
    is_layer: bool = False
    _local: tuple[Tensor, Tensor] | None = field(default=None, init=False)
    _above: Tensor | None = field(default=None, init=False)

    def run(self) -> Tensor:
        """The result; what the rule will need again is kept."""
        plain = [term.parts for term in self.rule.terms()] == [_PLAIN]
        leaf = self.source.detach().requires_grad_(plain)
        with torch.set_grad_enabled(plain):
            output = self.map(leaf, self.weighting.weight, self.bias)
        if plain:
            self._local = (leaf, output)
        self.saw(output)
        return output.detach()

    def saw(self, output: Tensor) -> None:
        """Keep the signs of the result, where the rule asks for them."""
        if any(term.outputs != "all" for term in self.rule.terms()):
            self._above = output.detach() > 0

    def folds(self, output: Tensor) -> bool:
        """Whether a normalisation of the second axis of its output can be folded in."""
        weight = self.weighting.weight
        return self.fold_axis is not None and isinstance(weight, Tensor) and weight.ndim == output.ndim

    def folded(self, scale: Tensor, shift: Tensor, sources: tuple[Tensor, ...], output: Tensor) -> Affine:
        """This map followed by a scale and a shift of its channels (C,), as one map with that output."""
        weight = self.weighting.weight
        assert isinstance(weight, Tensor)
        assert self.fold_axis is not None
        across = [1] * weight.ndim
        across[self.fold_axis] = -1
        bias = shift if self.bias is None else shift + scale * self.bias.flatten()
        found = replace(
            self,
            weighting=Weighting(weight, scale.reshape(across), (*self.weighting.sources, *sources)),
            bias=bias.reshape(-1, *[1] * (output.ndim - 2)),
            fold_axis=None,
        )
        found.saw(output)
        return found

    def back(self, relevance: Tensor) -> tuple[Tensor]:
        """The input's relevance from the output's."""
        received = [
            self._received(term, part)
            for term in self.rule.terms()
            if (part := self._part_of(relevance, term)) is not None
        ]
        return (_sum(received) if received else torch.zeros_like(self.source),)

    def _part_of(self, relevance: Tensor, term: Term) -> Tensor | None:
        """The relevance of the outputs that a term is for; None where they have none."""
        if term.outputs == "all":
            return relevance
        assert self._above is not None
        below = relevance.masked_fill(self._above, 0)
        if term.outputs == "negative":
            return below if below.any() else None
        return relevance.masked_fill(~self._above, 0) if below.any() else relevance

    def _received(self, term: Term, relevance: Tensor) -> Tensor:
        """The relevance that the inputs receive under one term."""
        bias = None if self.bias is None or self.rule.bias == "ignore" else changed(self.bias, term.bias)
        leaves, outputs = self._outputs(term, bias)
        denominator = outputs.detach()
        if self._local is not None and bias is None and self.bias is not None:
            denominator = denominator - self.bias
        quotient = self._divided(relevance, denominator, term)
        if bias is not None and self.rule.bias == "absorb":
            self.ledger().absorb(self.where, bias * _summed_like(quotient, bias))
        found = torch.autograd.grad(outputs, leaves, quotient, retain_graph=self._local is not None)
        received = [
            # A layer's gradient is a tensor of its own; that of an average may be the quotient itself.
            gradient.mul_(leaf.detach()) if self.is_layer else gradient * leaf.detach()
            for leaf, gradient in zip(leaves, found, strict=True)
        ]
        if bias is not None and self.rule.bias == "distribute":
            received.append(self._in_equal_parts(bias * quotient))
        return _sum(received)

    def _outputs(self, term: Term, bias: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """The inputs of a term's parts, and the sum z' of their outputs, the bias included."""
        if self._local is not None:
            leaf, output = self._local
            return [leaf], output
        parts = [part for part in term.parts if part.inputs != "negative" or self._has_negative]
        leaves = [self._inputs(part.inputs).detach().requires_grad_() for part in parts]
        with torch.enable_grad():
            outputs = [
                self.map(leaf, self.weighting.under(part.weights, self.kept), None if place else bias)
                for place, (leaf, part) in enumerate(zip(leaves, parts, strict=True))
            ]
            return leaves, _sum(outputs)

    def _divided(self, relevance: Tensor, denominator: Tensor, term: Term) -> Tensor:
        """The share of R over the stabilised z'; what the stabiliser takes goes into the books."""
        epsilon = self.rule.epsilon
        signed = not isinstance(self.rule, Epsilon) or self.rule.signed
        sign = term.sign if signed else 1
        shift = sign * epsilon if sign else torch.copysign(denominator.new_full((), epsilon), denominator)
        # In place, as the local graph of an affine map needs no outputs, unless they serve another target again.
        whole = denominator.add_(shift) if self._local is None else denominator + shift
        if epsilon and signed:
            quotient = torch.div(relevance, whole, out=whole)
            taken = (
                shift * quotient if isinstance(shift, Tensor) else shift * _summed_like(quotient, self.bias)
            )
        else:  # denominators that may be zero, and so have nobody to give relevance to
            empty = whole == 0
            quotient = (relevance / whole).masked_fill_(empty, 0)
            taken = torch.where(empty, relevance, shift * quotient)
        self.ledger().absorb(self.where, None, taken if term.share == 1 else term.share * taken)
        return quotient if term.share == 1 else quotient.mul_(term.share)

    def _in_equal_parts(self, taken: Tensor) -> Tensor:
        """What the inputs of each output receive of its bias's part."""
        with torch.enable_grad():
            leaf = torch.ones_like(self.source).requires_grad_()
            counts = self.map(leaf, self.weighting.under(Weights(power=0), self.kept), None)
        return torch.autograd.grad(counts, leaf, taken / counts.detach())[0]

    @cached_property
    def _has_negative(self) -> bool:
        return bool(self.source.detach().min() < 0)

    def _inputs(self, which: Inputs) -> Tensor:
        activation = self.source.detach()
        if which in ("above low", "below high"):
            return activation - self._bound(activation, which == "above low")
        if which == "ones":
            return torch.ones_like(activation)
        if which == "all" or (which == "positive" and not self._has_negative):
            return activation
        return activation.clamp_min(0) if which == "positive" else activation.clamp_max(0)

    def _bound(self, activation: Tensor, low: bool) -> Tensor:
        """The least or greatest value that each input can have."""
        assert isinstance(self.rule, ZBox)
        given = self.rule.low if low else self.rule.high
        if given is not None:
            return activation.new_tensor(given).reshape(-1, *[1] * (activation.ndim - 2))
        axes = tuple(range(2, activation.ndim)) or (1,)
        own = activation.amin(axes, True) if low else activation.amax(axes, True)
        if self.box is None:
            return own
        # Pictures that go beyond black or white would make denominators of either sign, down to nothing.
        if low:
            return torch.minimum(own, self.box[0].to(activation))
        return torch.maximum(own, self.box[1].to(activation))


def _sum(tensors: Iterable[Tensor]) -> Tensor:
    """Their sum, in the first, which nobody else uses."""
    return reduce(Tensor.add_, tensors)


def _summed_like(values: Tensor, bias: Tensor | None) -> Tensor:
    """Sums over what a bias is the same for, one per picture and channel: fewer values for the books."""
    if bias is None or bias.ndim >= values.ndim:
        return values
    axes = [
        axis
        for axis in range(1, values.ndim)
        if (axis < values.ndim - bias.ndim) or bias.shape[axis - values.ndim] == 1 != values.shape[axis]
    ]
    return values.sum(axes, keepdim=True) if axes else values
