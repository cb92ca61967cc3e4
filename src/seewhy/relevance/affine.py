"""What is affine in its input, and how relevance passes it: one primitive for every rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from typing import Any

import torch
from torch import Tensor

from seewhy.network.kept_weights import KeptWeights
from seewhy.relevance.adjoint import adjoint, adjoints, convolution
from seewhy.relevance.conservation import Ledger
from seewhy.relevance.rules import AffineRule, Epsilon, Inputs, Part, Term, Weights, ZBox
from seewhy.relevance.weights import changed

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
            with torch.no_grad():
                made: Tensor = changed(weight if scale is None else weight * scale, change)
            return made

        # Negative parts are made each time: kept, they would be as much memory again as the positive ones.
        return kept.get(self.sources, change, make) if change.positive else make()


@dataclass
class _Contributions:
    """What the parts of a term contribute.

    Attributes:
        leaves: their inputs.
        whole: the sum of their outputs, with its graph.
        nodes: per part how its convolution ran; None where it was no convolution.
    """

    leaves: list[Tensor]
    whole: Tensor
    nodes: tuple[Any, ...] = ()


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
    _output: Tensor | None = field(default=None, init=False)

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
        """Keep the result, where the rule asks for its sign."""
        if any(term.outputs != "all" for term in self.rule.terms()):
            self._output = output.detach()

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
        terms = self.rule.terms()
        if {term.outputs for term in terms} == {"all"}:
            received = [self._received(term, relevance, self._contributions(term)) for term in terms]
            return (_sum(received),)
        assert self._output is not None
        positive, negative = terms
        above = _where_above(relevance, self._output)
        if torch.equal(above, relevance):
            del above
            return (self._received(positive, relevance, self._contributions(positive)),)
        ran = self._contributions(positive)
        if self.rule.terms_together is not None and all(ran.nodes):
            del above
            return (self._both(relevance, ran, self.rule.terms_together),)
        received = [
            self._received(positive, above, ran),
            self._received(negative, relevance - above, self._contributions(negative)),
        ]
        return (_sum(received),)

    def _both(self, relevance: Tensor, ran: _Contributions, together: float) -> Tensor:
        """What the inputs receive of two terms by the sign of the output, which add up to so many times the output.

        Of the second only the adjoint is computed: what it contributes is what the first leaves.
        """
        positive, negative = self.rule.terms()
        assert self._output is not None
        biases = [self._bias(term) for term in (positive, negative)]
        # Where the output is not above 0, the denominator is what the first term leaves, here with the other sign,
        # as the first's weights are taken away there. In place, as this is where memory runs high.
        if self.bias is not None and biases[0] is None:
            below = (self._output - self.bias).masked_fill_(self._output > 0, 0)
        else:
            below = self._output.clamp_max(0)
        quotient = self._divided(relevance, ran.whole.detach().sub_(below, alpha=together), positive)
        del below
        own = _where_above(quotient, self._output)
        others = own - quotient
        received = []
        for bias, each in zip(biases, (own, others), strict=True):
            if bias is not None and self.rule.bias == "absorb":
                self.ledger().absorb(self.where, bias * _summed_like(each, bias))
            if bias is not None and self.rule.bias == "distribute":
                received.append(self._in_equal_parts(bias * each))
        del own
        # The second term's weights are `together` times the layer's, less the first's; they need not be kept.
        plain, scale = self.weighting.weight, self.weighting.scale
        assert isinstance(plain, Tensor)
        others *= together if scale is None else together * scale.reshape(-1, *[1] * (others.ndim - 2))
        layers = adjoint(ran.nodes[0], self.source.detach(), plain, others)
        del others
        for part, node, leaf in zip(self._parts(positive), ran.nodes, ran.leaves, strict=True):
            weight = self.weighting.under(part.weights, self.kept)
            assert isinstance(weight, Tensor)
            received.append(adjoint(node, leaf.detach(), weight, quotient).add_(layers).mul_(leaf.detach()))
        return _sum(received)

    def _received(self, term: Term, relevance: Tensor, ran: _Contributions) -> Tensor:
        """The relevance that the inputs receive under one term."""
        bias = self._bias(term)
        denominator = ran.whole.detach()
        if self._local is not None and bias is None and self.bias is not None:
            denominator = denominator - self.bias
        quotient = self._divided(relevance, denominator, term)
        if bias is not None and self.rule.bias == "absorb":
            self.ledger().absorb(self.where, bias * _summed_like(quotient, bias))
        found = adjoints(ran.nodes, quotient) or torch.autograd.grad(
            ran.whole, ran.leaves, quotient, retain_graph=self._local is not None
        )
        received = [
            # A layer's gradient is a tensor of its own; that of an average may be the quotient itself.
            gradient.mul_(leaf.detach()) if self.is_layer else gradient * leaf.detach()
            for leaf, gradient in zip(ran.leaves, found, strict=True)
        ]
        if bias is not None and self.rule.bias == "distribute":
            received.append(self._in_equal_parts(bias * quotient))
        return _sum(received)

    def _bias(self, term: Term) -> Tensor | None:
        """The part of the bias that is among a term's contributions."""
        return None if self.bias is None or self.rule.bias == "ignore" else changed(self.bias, term.bias)

    def _parts(self, term: Term) -> list[Part]:
        """Those of a term's parts that contribute anything."""
        return [part for part in term.parts if part.inputs != "negative" or self._has_negative]

    def _contributions(self, term: Term) -> _Contributions:
        """The inputs of a term's parts, and the sum z' of their outputs, the bias included."""
        if self._local is not None:
            leaf, output = self._local
            return _Contributions([leaf], output)
        parts, bias = self._parts(term), self._bias(term)
        leaves = [self._inputs(part.inputs).detach().requires_grad_() for part in parts]
        nodes: list[Any] = []

        def outputs() -> Iterator[Tensor]:
            for place, (leaf, part) in enumerate(zip(leaves, parts, strict=True)):
                weight = self.weighting.under(part.weights, self.kept)
                output = self.map(leaf, weight, None if place else bias)
                nodes.append(convolution(output, leaf))
                yield output
                del output  # so that no more than one lives beside the sum

        with torch.enable_grad():
            return _Contributions(leaves, _sum(outputs()), tuple(nodes))

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
                shift.mul_(quotient)
                if isinstance(shift, Tensor)
                else shift * _summed_like(quotient, self.bias)
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


def _where_above(values: Tensor, signs: Tensor) -> Tensor:
    """The values where the other tensor is above 0, else 0."""
    # As the gradient of a ReLU: several times as fast as masks are.
    found: Tensor = torch.ops.aten.threshold_backward(values, signs, 0)
    return found


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
