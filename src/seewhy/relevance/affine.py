"""What is affine in its input, and how relevance passes it: one primitive for every rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from seewhy.relevance.conservation import Ledger
from seewhy.relevance.rules import AffineRule, Epsilon, Inputs, Part, Term, Weights, ZBox
from seewhy.relevance.weights import KeptWeights, changed

Map = Callable[[Tensor, Tensor | float], Tensor]
"""What is linear in its first argument, without bias, for some weights."""

_PLAIN = Part("all")


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
        tensor: Tensor = weight
        return kept.get(
            self.sources, change, lambda: changed(tensor if scale is None else tensor * scale, change)
        )


@dataclass
class Affine:
    """One affine computation, from when it ran to when relevance comes back.

    Attributes:
        where: its layer.
        rule: how relevance is divided.
        source: its input, with the graph that led to it.
        map: what it computes, without the bias.
        weighting: its weights.
        bias: what is added, shaped as the output is or so that it can be.
        ledger: gives the books of the backward pass under way.
        kept: changed weights.
        box: the least and greatest values of the pictures, where the rule asks for them.
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
    _local: tuple[Tensor, Tensor] | None = None
    _above: Tensor | None = field(default=None, repr=False)

    def run(self, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """The ordinary result; what the rule will need again is kept."""
        terms = self.rule.terms()
        if len(terms) == 1 and terms[0].parts == (_PLAIN,):
            leaf = self._activation().requires_grad_()
            with torch.enable_grad():
                output = compute(leaf)
            self._local = (leaf, output)
            return output.detach()
        with torch.no_grad():
            output = compute(self._activation())
        self.saw(output)
        return output

    def saw(self, output: Tensor) -> None:
        """Keep the outputs' signs, where the rule divides by them."""
        if any(term.outputs != "all" for term in self.rule.terms()):
            self._above = output > 0

    def back(self, relevance: Tensor) -> tuple[Tensor]:
        """The input's relevance from the output's."""
        return (sum((self._received(term, relevance) for term in self.rule.terms()), torch.zeros(())),)

    def _received(self, term: Term, relevance: Tensor) -> Tensor:
        """The relevance that the inputs receive under one term."""
        if term.outputs != "all":
            assert self._above is not None
            relevance = relevance * (self._above if term.outputs == "positive" else ~self._above)
            if not relevance.any():
                return torch.zeros_like(self.source)
        leaves, outputs, has_bias = self._outputs(term)
        with torch.no_grad():
            bias = self._bias(term)
            denominator = outputs.detach()
            if has_bias and bias is None and self.bias is not None:
                denominator = denominator - self.bias
            elif not has_bias and bias is not None:
                denominator = denominator + bias
            quotient, stabiliser = self._divided(term.share * relevance, denominator)
            self.ledger().absorb(self.where, None, stabiliser)
        found = torch.autograd.grad(outputs, leaves, quotient, retain_graph=self._local is not None)
        received = sum(
            (leaf.detach() * gradient for leaf, gradient in zip(leaves, found, strict=True)), torch.zeros(())
        )
        if bias is not None:
            received = received + self._of_bias(bias * quotient)
        return received

    def _divided(self, relevance: Tensor, denominator: Tensor) -> tuple[Tensor, Tensor]:
        """R over the stabilised z', and what the stabiliser takes of R; all of it where there is no z'."""
        epsilon = self.rule.epsilon
        if isinstance(self.rule, Epsilon) and not self.rule.signed:
            shift = torch.full_like(denominator, epsilon)
        else:
            shift = torch.where(denominator >= 0, epsilon, -epsilon)
        whole = denominator + shift
        empty = whole == 0
        quotient = torch.where(empty, 0.0, relevance / torch.where(empty, 1.0, whole))
        return quotient, torch.where(empty, relevance, shift * quotient)

    def _of_bias(self, taken: Tensor) -> Tensor:
        """What the inputs receive of the bias's part: nothing, or equal parts."""
        if self.rule.bias == "absorb":
            self.ledger().absorb(self.where, taken)
            return torch.zeros(())
        with torch.enable_grad():
            leaf = torch.ones_like(self.source).requires_grad_()
            counts = self.map(leaf, self.weighting.under(Weights(power=0), self.kept))
        return torch.autograd.grad(counts, leaf, taken / counts.detach())[0]

    def _bias(self, term: Term) -> Tensor | None:
        if self.bias is None or self.rule.bias == "ignore" or term.bias == Weights(0, 0):
            return None
        bias: Tensor = changed(self.bias, term.bias)
        return bias

    def _outputs(self, term: Term) -> tuple[list[Tensor], Tensor, bool]:
        """The inputs of a term's parts, the sum of their outputs, and whether the bias is in it already."""
        if self._local is not None:
            leaf, output = self._local
            return [leaf], output, True
        parts = [part for part in term.parts if part.inputs != "negative" or self._has_negative]
        leaves = [self._inputs(part.inputs).detach().requires_grad_() for part in parts]
        with torch.enable_grad():
            outputs = [
                self.map(leaf, self.weighting.under(part.weights, self.kept))
                for leaf, part in zip(leaves, parts, strict=True)
            ]
            total = outputs[0]
            for each in outputs[1:]:
                total = total + each
        return leaves, total, False

    def _activation(self) -> Tensor:
        return self.source.detach()

    @cached_property
    def _has_negative(self) -> bool:
        return bool((self.source.detach() < 0).any())

    def _inputs(self, which: Inputs) -> Tensor:
        activation = self._activation()
        if which in ("low", "high"):
            return self._bound(activation, which)
        if which == "ones":
            return torch.ones_like(activation)
        if which == "all" or (which == "positive" and not self._has_negative):
            return activation
        return activation.clamp_min(0) if which == "positive" else activation.clamp_max(0)

    def _bound(self, activation: Tensor, which: Inputs) -> Tensor:
        """The least or greatest value that an input can have, of every input."""
        assert isinstance(self.rule, ZBox)
        given = self.rule.low if which == "low" else self.rule.high
        if given is not None:
            bound = activation.new_tensor(given).reshape(-1, *[1] * (activation.ndim - 2))
        elif self.box is not None:
            bound = self.box[0 if which == "low" else 1]
        else:
            axes = tuple(range(2, activation.ndim)) or (1,)
            bound = activation.amin(axes, True) if which == "low" else activation.amax(axes, True)
        return bound.to(activation).expand_as(activation)


def folded(affine: Affine, scale: Tensor, shift: Tensor, sources: tuple[Tensor, ...]) -> Affine:
    """The affine map followed by a scale and a shift of its channels, as one map.

    Args:
        affine: the map.
        scale: (C,).
        shift: (C,).
        sources: the tensors that scale and shift are made of.
    """
    weight = affine.weighting.weight
    assert isinstance(weight, Tensor)
    assert affine.fold_axis is not None
    shape = [1] * weight.ndim
    shape[affine.fold_axis] = -1
    bias = shift if affine.bias is None else shift + scale * affine.bias.flatten()
    channels = (-1, *[1] * (weight.ndim - 2))
    return Affine(
        affine.where, affine.rule, affine.source, affine.map,
        Weighting(weight, scale.reshape(shape), (*affine.weighting.sources, *sources)),
        bias.reshape(channels), affine.ledger, affine.kept, affine.box,
        is_layer=True,
    )  # fmt: skip
