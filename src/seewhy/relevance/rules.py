"""Rules of relevance propagation as data: which inputs and weights an output's relevance is shared over."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, model_validator

from seewhy.errors import InputError
from seewhy.settings import Settings

Inputs = Literal["all", "positive", "negative", "ones", "above low", "below high"]
Outputs = Literal["all", "positive", "negative"]
Bias = Literal["absorb", "ignore", "distribute"]


class Weights(NamedTuple):
    """A change of weights: positive · (Wᵖ)⁺ + negative · (Wᵖ)⁻, p being the power."""

    positive: float = 1.0
    negative: float = 1.0
    power: int = 1


class Part(NamedTuple):
    """Some of the inputs under some of the weights."""

    inputs: Inputs
    weights: Weights = Weights()


class Term(NamedTuple):
    """A share of the relevance that is divided in proportion to the contributions of some parts.

    Attributes:
        parts: what contributes; together they make the denominator z'.
        bias: which part of the bias contributes too, and so takes relevance away.
        share: of the relevance; those of a rule's terms add up to 1.
        outputs: whether it is for all outputs, or for those above 0, or for the others.
        sign: that of the denominator, where it can have only one; else 0.
    """

    parts: tuple[Part, ...]
    bias: Weights = Weights(0, 0)
    share: float = 1.0
    outputs: Outputs = "all"
    sign: Literal[1, 0, -1] = 0


_POSITIVE, _NEGATIVE = Weights(1, 0), Weights(0, 1)
_FOR = (Part("positive", _POSITIVE), Part("negative", _NEGATIVE))
_AGAINST = (Part("positive", _NEGATIVE), Part("negative", _POSITIVE))
STABILISER = 1e-9


class AffineRule(Settings):
    """A rule for what is affine: R_in = Σ over terms of a' ⊙ ∂⟨z', s⟩/∂a' with s = share · R / (z' + ε sign z')."""

    epsilon: float = Field(
        default=STABILISER,
        ge=0,
        description="ε, in units of the outputs: keeps denominators from being zero.",
    )

    bias: Bias = Field(
        default="absorb",
        description="What becomes of the bias's part: it is lost to the bias (`absorb`), the bias has none "
        "(`ignore`), or it is shared equally by the inputs of the output (`distribute`).",
    )

    @property
    def terms_together(self) -> float | None:
        """How many times the weights those of two terms add up to, for the same inputs; None where they do not.

        The bias's are among them, so what the terms contribute adds up to so many times the output.
        """
        return None

    @abstractmethod
    def terms(self) -> tuple[Term, ...]:
        """How the relevance is divided."""


class Epsilon(AffineRule):
    """LRP-ε (Bach et al., PLOS ONE 2015): in proportion to a w; with ε = 0 it is LRP-0."""

    name: Literal["epsilon"] = "epsilon"
    epsilon: float = Field(
        default=1e-6, ge=0, description="ε, in units of the outputs: takes relevance from small outputs."
    )
    signed: bool = Field(
        default=True, description="Whether ε has the sign of the output; as it is added in some public code."
    )

    def terms(self) -> tuple[Term, ...]:
        return (Term((Part("all"),), bias=Weights()),)


class ZPlus(AffineRule):
    """The z⁺ rule, or α1β0: in proportion to the contributions above 0, a⁺w⁺ + a⁻w⁻."""

    name: Literal["z-plus"] = "z-plus"

    def terms(self) -> tuple[Term, ...]:
        return (Term(_FOR, bias=_POSITIVE, sign=1),)


class AlphaBeta(AffineRule):
    """The αβ rule (Bach et al., 2015, Eq. 60): α times by contributions above 0, −β times by those below."""

    name: Literal["alpha-beta"] = "alpha-beta"
    alpha: float = Field(default=2.0, ge=1, description="Weight of the contributions above 0.")
    beta: float = Field(default=1.0, ge=0, description="Weight of those below; α − β must be 1.")

    @model_validator(mode="after")
    def _conserves(self) -> AlphaBeta:
        if abs(self.alpha - self.beta - 1) > 1e-9:
            raise ValueError("alpha - beta must be 1, or relevance is not conserved")
        return self

    def terms(self) -> tuple[Term, ...]:
        rising = Term(_FOR, bias=_POSITIVE, share=self.alpha, sign=1)
        return (rising, Term(_AGAINST, bias=_NEGATIVE, share=-self.beta, sign=-1)) if self.beta else (rising,)


class Gamma(AffineRule):
    """LRP-γ (Montavon et al., 2019): contributions of the output's own sign count 1 + γ times.

    The general form, which takes inputs and outputs of either sign (Andéol et al., 2021).
    """

    name: Literal["gamma"] = "gamma"
    gamma: float = Field(default=0.25, ge=0, description="How much more these contributions count.")

    @property
    def terms_together(self) -> float:
        return 2 + self.gamma  # (1 + γ) w⁺ + w⁻ and w⁺ + (1 + γ) w⁻

    def terms(self) -> tuple[Term, ...]:
        more, less = Weights(1 + self.gamma, 1), Weights(1, 1 + self.gamma)
        return (
            Term((Part("positive", more), Part("negative", less)), bias=more, outputs="positive"),
            Term((Part("positive", less), Part("negative", more)), bias=less, outputs="negative"),
        )


class ZBox(AffineRule):
    """The z^B rule for pixels (Montavon et al., 2017): in proportion to x w − l w⁺ − h w⁻ for l <= x <= h."""

    name: Literal["z-box"] = "z-box"
    low: tuple[float, ...] | None = Field(
        default=None,
        description="l per channel, in the units of the layer's input. None: black, where the network's "
        "preprocess says what that is and the layer reads the pictures themselves, or each picture's least value.",
    )
    high: tuple[float, ...] | None = Field(
        default=None, description="h per channel; None: white, as for `low`."
    )

    def terms(self) -> tuple[Term, ...]:
        # x w - l w+ - h w-, written as (x - l) w+ + (x - h) w-
        return (Term((Part("above low", _POSITIVE), Part("below high", _NEGATIVE))),)


class Flat(AffineRule):
    """The flat rule (Lapuschkin et al., 2019): equal parts to all inputs of an output."""

    name: Literal["flat"] = "flat"

    def terms(self) -> tuple[Term, ...]:
        return (Term((Part("ones", Weights(power=0)),), sign=1),)


class WSquare(AffineRule):
    """The w² rule (Montavon et al., 2017): in proportion to the squared weights, whatever the inputs."""

    name: Literal["w-square"] = "w-square"

    def terms(self) -> tuple[Term, ...]:
        return (Term((Part("ones", Weights(power=2)),), sign=1),)


class Pass(Settings):
    """Relevance stays where it is; for what works on each value alone."""

    name: Literal["pass"] = "pass"


class Route(Settings):
    """Relevance goes the way of the gradient: to the maximum of each pooling window, to what was copied."""

    name: Literal["route"] = "route"


class Unpool(Settings):
    """Max-unpooling, as public code has it: of windows that share their maximum only the last one's is kept.

    It loses relevance where windows overlap; for comparisons only.
    """

    name: Literal["unpool"] = "unpool"


class Gate(Settings):
    """Of a product all relevance goes to the signal, none to the gate (Arras et al., 2017).

    The gate is the factor that comes out of a sigmoid or has fewer values; without one both get halves.
    """

    name: Literal["gate"] = "gate"


class Halves(Settings):
    """Each factor of a product gets half of the relevance."""

    name: Literal["halves"] = "halves"


class Constant(Settings):
    """What is computed here counts as a constant: no relevance goes through it."""

    name: Literal["constant"] = "constant"


AFFINE = (Epsilon, ZPlus, AlphaBeta, Gamma, ZBox, Flat, WSquare)
_RULES = {
    rule.model_fields["name"].default: rule for rule in (*AFFINE, Pass, Route, Unpool, Gate, Halves, Constant)
}


def rule(text: Any) -> Any:
    """A rule from its name, with settings: `gamma`, or `gamma:gamma=0.5`; anything but text as it is.

    Raises:
        InputError: no such rule or setting.
    """
    if not isinstance(text, str):
        return text
    name, _, settings = text.partition(":")
    if name not in _RULES:
        raise InputError(f"no rule is called {name!r}; there are {', '.join(_RULES)}")
    return _RULES[name].from_text(settings)


_AnyRule = (
    Epsilon
    | ZPlus
    | AlphaBeta
    | Gamma
    | ZBox
    | Flat
    | WSquare
    | Pass
    | Route
    | Unpool
    | Gate
    | Halves
    | Constant
)
Rule = Annotated[Annotated[_AnyRule, Field(discriminator="name")], BeforeValidator(rule)]
