"""Composites: which rule each kind of computation gets, by name or as the user says."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from seewhy.errors import InputError, LayerError
from seewhy.network.operations import Operation
from seewhy.relevance.rules import (
    AFFINE,
    STABILISER,
    AlphaBeta,
    Bias,
    Constant,
    Epsilon,
    Flat,
    Gamma,
    Gate,
    Halves,
    Pass,
    Route,
    Unpool,
    ZBox,
    ZPlus,
)
from seewhy.settings import Settings

CompositeName = Literal[
    "epsilon-plus", "epsilon-plus-flat", "epsilon-gamma-box", "epsilon-alpha2-beta1", "epsilon-alpha2-beta1-flat",
    "reference-sr",
]  # fmt: skip

FIRST = "first"
"""The kind of convolutions and linear layers that read the pictures themselves."""
DIVISION = "division"
"""The kind of quotients whose denominator carries relevance."""

_BY_ITSELF = Epsilon(epsilon=STABILISER)
_COMMON: dict[str, Settings] = {
    Operation.RELU.value: Pass(),
    Operation.ACTIVATION.value: Pass(),
    Operation.DROPOUT.value: Pass(),
    Operation.MAX_POOL.value: Route(),
    Operation.AVERAGE_POOL.value: _BY_ITSELF,
    Operation.ADD.value: _BY_ITSELF,
    Operation.MULTIPLY.value: Gate(),
    Operation.BATCH_NORM.value: Epsilon(),
    Operation.LAYER_NORM.value: Epsilon(),
    Operation.GROUP_NORM.value: Epsilon(),
    Operation.LINEAR.value: Epsilon(),
}
_PLAIN = Epsilon(epsilon=STABILISER, signed=False)
_NAMED: dict[str, dict[str, Settings]] = {
    "epsilon-plus": {"convolution": ZPlus()},
    "epsilon-plus-flat": {"convolution": ZPlus(), FIRST: Flat()},
    "epsilon-gamma-box": {"convolution": Gamma(), FIRST: ZBox()},
    "epsilon-alpha2-beta1": {"convolution": AlphaBeta()},
    "epsilon-alpha2-beta1-flat": {"convolution": AlphaBeta(), FIRST: Flat()},
    "reference-sr": {"convolution": _PLAIN, "linear": ZPlus(bias="ignore"), "max pool": Unpool()},
}
assert set(_NAMED) == set(get_args(CompositeName))

_PASSING = (Pass, Constant)
ACCEPTED: Mapping[str, tuple[type[Settings], ...]] = {
    FIRST: AFFINE,
    Operation.CONVOLUTION.value: AFFINE,
    Operation.LINEAR.value: AFFINE,
    Operation.AVERAGE_POOL.value: AFFINE,
    Operation.BATCH_NORM.value: (*AFFINE, Pass),
    Operation.LAYER_NORM.value: (Epsilon, Pass),
    Operation.GROUP_NORM.value: (Epsilon, Pass),
    Operation.MAX_POOL.value: (Route, Unpool),
    Operation.ADD.value: (Epsilon,),
    Operation.MULTIPLY.value: (Gate, Halves),
    DIVISION: (Constant,),
    Operation.MATRIX_PRODUCT.value: (Halves, Constant),
    Operation.RELU.value: _PASSING,
    Operation.ACTIVATION.value: _PASSING,
    Operation.DROPOUT.value: _PASSING,
    Operation.SOFTMAX.value: _PASSING,
}
_OTHER = (Pass, Route, Epsilon, Constant)
"""What a function takes that none of the kinds stands for."""


@dataclass
class Composite:
    """Rules by kind, function name and layer name, with what has been used of them.

    Attributes:
        rules: by kind of computation (`ACCEPTED`), `first`, a torch function's name, or a dotted layer name, which
            stands for all that the layer computes.
        own: the keys that the user gave.
        used: the keys that were met.
        kinds: those of the computations that were met.
    """

    rules: Mapping[str, Settings]
    own: Set[str] = frozenset()
    used: set[str] = field(default_factory=set)
    kinds: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, name: CompositeName, changes: Mapping[str, Settings], bias: Bias | None) -> Composite:
        """A named composite with changes, and one use of the biases where it is said.

        Raises:
            InputError: a kind of computation does not take the rule that it is given.
        """
        rules = {**_COMMON, **_NAMED[name], **changes}
        for key, rule in rules.items():
            if key in ACCEPTED and not isinstance(rule, ACCEPTED[key]):
                names = ", ".join(names_of(ACCEPTED[key]))
                raise InputError(f"{key!r} does not take the rule {rule.name!r}; it takes {names}")
        if bias is not None:
            rules = {
                key: rule.model_copy(update={"bias": bias}) if isinstance(rule, AFFINE) else rule
                for key, rule in rules.items()
            }
        return cls(rules, set(changes))

    def find(self, kind: str, layer: str, function: str, first: bool = False) -> Any:
        """The rule for one computation: the layer's or an outer layer's, then by what it is; or None."""
        self.kinds.update([kind, FIRST] if first else [kind])
        accepted = ACCEPTED.get(kind, _OTHER)
        path = layer.split(".") if layer else []
        keys = [".".join(path[:stop]) for stop in range(len(path), 0, -1)]
        keys += [*([FIRST] if first else []), function, kind]
        found = [key for key in keys if isinstance(self.rules.get(key), accepted)]
        if not found:
            return None
        # What the user overrides by a closer key was met too; what a composite's own `first` overrides was not.
        self.used.update(found if found[0] in self.own else found[:1])
        return self.rules[found[0]]

    def check(self, layers: set[str], functions: set[str]) -> None:
        """Raise where a rule was given to what does not exist here or takes no such rule.

        Raises:
            LayerError: the message names it, and the kinds that are here.
        """
        here = ", ".join(kind for kind in ACCEPTED if kind in self.kinds)
        for key in sorted(self.own - self.used):
            if key == Operation.BATCH_NORM.value and "batch_norm" in functions:
                what = f"every {key} here is folded into the convolution or linear layer before it, and has its rule"
            elif key in self.kinds and key in ACCEPTED:
                what = f"every {key} here reads pictures, where the composite's rule for {FIRST!r} counts; give that"
            elif key in layers or key in functions:
                what = f"nothing that {key!r} computes takes the rule {self.rules[key].name!r}"
            else:
                what = f"no layer, kind of computation or function met here is called {key!r}"
            raise LayerError(f"{what}; kinds here are {here}")


def names_of(rules: tuple[type[Settings], ...]) -> list[str]:
    """The names that the rules are asked for by."""
    return [each.model_fields["name"].default for each in rules]
