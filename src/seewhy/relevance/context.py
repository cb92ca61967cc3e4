"""What every operation's handling needs: where it is, the rules, how its result is tied to its inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from seewhy.errors import NotApplicableError
from seewhy.network.kept_weights import KeptWeights
from seewhy.network.operations import Computation
from seewhy.relevance.affine import Affine, Map, Weighting
from seewhy.relevance.composites import ACCEPTED, Composite, names_of
from seewhy.relevance.conservation import Ledger
from seewhy.relevance.steps import Step, joined


class Context:
    """One forward pass under way.

    Args:
        composite: the rules.
        kept: changed weights.
        ledger: gives the books of the backward pass under way.
        box: the least and greatest values of pictures.

    Attributes:
        scope: names of the modules that are running, the innermost last.
        functions: names of the torch functions met.
        layers: tensors whose relevance is wanted; where a normalisation is folded into the layer before it, the
            result of both stands for that layer.
    """

    def __init__(
        self,
        composite: Composite,
        kept: KeptWeights,
        ledger: Callable[[], Ledger],
        box: tuple[Tensor, Tensor] | None,
    ) -> None:
        self.composite = composite
        self.kept = kept
        self.ledger = ledger
        self.box = box
        self.scope: list[str] = []
        self.functions: set[str] = set()
        self.layers: dict[tuple[str, int], Tensor] = {}
        self._newer = WeakTensorKeyDictionary()

    @property
    def where(self) -> str:
        """The innermost module that is running."""
        return self.scope[-1] if self.scope else ""

    def current(self, tensor: Tensor) -> Tensor:
        """The tensor, or what it was overwritten by."""
        while len(self._newer) and tensor in self._newer:
            tensor = self._newer[tensor]
        return tensor

    def currently(self, values: Any) -> Any:
        """Arguments with tensors as they are by now."""
        if not len(self._newer):
            return values
        return tuple(
            self.current(each)
            if isinstance(each, Tensor)
            else type(each)(self.currently(each))
            if type(each) in (list, tuple)
            else each
            for each in values
        )

    def rule(self, computation: Computation, kind: str | None = None, first: bool = False) -> Any:
        """The rule for a computation.

        Raises:
            NotApplicableError: there is none.
        """
        name = name_of(computation)
        kind = kind or computation.operation.value
        rule = self.composite.find(kind, self.where, name, first)
        if rule is None:
            raise self.without(name, kind, names_of(ACCEPTED[kind]))
        return rule

    def without(self, name: str, kind: str, rules: Iterable[str]) -> NotApplicableError:
        """The error for an operation without a rule, and which rules can be given."""
        place = f" in {self.where!r}" if self.where else ""
        choices = " or ".join(repr(each) for each in rules)
        advice = (
            f"give one, as in LRP(rules={{{kind!r}: ...}}): {choices}" if choices else "there is none to give"
        )
        return NotApplicableError(f"relevance has no rule for {name} ({kind}){place}; {advice}")

    def written(self, computation: Computation) -> tuple[Tensor, bool]:
        """The ordinary result without a graph, computed beside the input, and whether it should overwrite it."""
        named = dict(computation.kwargs)
        first, *others = computation.args or (named.pop("input"),)
        value = first.detach()
        with torch.no_grad():
            if named.get("inplace"):
                return computation.function(value, *others, **{**named, "inplace": False}), True
            if not (computation.in_place or any(each is True for each in others)):
                return computation.function(value, *others, **named), False
            value = value.clone()
            result: Tensor = computation.function(value, *others, **named)
        return result, result.data_ptr() == value.data_ptr()

    def tie(self, step: Step, value: Tensor, *inputs: Tensor, replaces: Tensor | None = None) -> Tensor:
        """The value in the graph along which relevance flows, in place of a tensor that it overwrites."""
        result = joined(step, self.ledger, value, *inputs)
        if replaces is not None:
            self._newer[replaces] = result
        return result

    def affine(
        self, rule: Any, source: Tensor, map_: Map, weighting: Weighting, bias: Tensor | None, **details: Any
    ) -> Tensor:
        """The result of an affine computation."""
        step = Affine(self.where, rule, source, map_, weighting, bias, self.ledger, self.kept, **details)
        return self.tie(step, step.run(), source)


def name_of(computation: Computation) -> str:
    """The torch function's name."""
    return getattr(computation.function, "__name__", str(computation.function))


def on_input(computation: Computation) -> Callable[[Tensor], Tensor]:
    """The computation as a function of its first argument."""
    rest = computation.args[1:]
    named = {key: value for key, value in computation.kwargs.items() if key != "input"}

    def compute(each: Tensor) -> Tensor:
        result: Tensor = computation.function(each, *rest, **named)
        return result

    return compute
