"""Where the relevance went: what arrived, what biases and stabilisers took, and whether that is all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.network.precision import exact_type

BOUND = 1e-3
"""Share of the relevance that may be unaccounted for before a note warns of it."""
LOST = "hardly any relevance arrives"
"""How a note begins where biases and stabilisers take so much that what arrives is rounding."""
_LEAST = 1e-6  # share of the relevance that is more than rounding


@dataclass(frozen=True)
class Conservation:
    """The books of one propagation, for B pictures and T targets.

    Attributes:
        started: the relevance at the outputs.
        magnitude: the sum of its magnitudes there, which errors are relative to.
        arrived: what reached the pixels.
        bias: what biases and other constants took, by their formula, never as a remainder.
        stabiliser: what stabilisers of denominators took, by their formula.
        layers: per layer asked for its sum there.
    """

    started: Float[Tensor, "B T"]
    magnitude: Float[Tensor, "B T"]
    arrived: Float[Tensor, "B T"]
    bias: Float[Tensor, "B T"]
    stabiliser: Float[Tensor, "B T"]
    layers: Mapping[str, Float[Tensor, "B T"]]

    @property
    def error(self) -> Float[Tensor, "B T"]:
        """What is unaccounted for, relative to the magnitude at the outputs."""
        missing = (self.started - self.arrived - self.bias - self.stabiliser).abs()
        return torch.where(self.magnitude > 0, missing / self.magnitude, missing)

    def notes(self, row: int) -> tuple[str, ...]:
        """What the books say of one picture, and a warning where they do not balance."""
        said = []
        for target in range(self.started.shape[1]):
            started, arrived, bias, stabiliser = (
                float(each[row, target]) for each in (self.started, self.arrived, self.bias, self.stabiliser)
            )
            sums = "".join(
                f", {float(each[row, target]):.4g} at {name}" for name, each in self.layers.items()
            )
            said.append(
                f"relevance {started:.4g} = {arrived:.4g} at the pixels + {bias:.4g} in biases "
                f"+ {stabiliser:.4g} in stabilisers{sums}, relative error {float(self.error[row, target]):.2g}"
            )
        if bool((self.arrived[row].abs() < _LEAST * self.started[row].abs()).any()):
            said.append(f"{LOST}: less than {_LEAST:g} of it; the map shows rounding")
        worst = float(self.error[row].max())
        if not worst <= BOUND:
            said.append(
                f"not conserved: {worst:.2g} of the relevance is unaccounted for, more than {BOUND:g}; "
                "the map's sum means little"
            )
        return tuple(said)


@dataclass
class Ledger:
    """What operations take while relevance passes them; one per backward pass.

    Attributes:
        batch: pictures.
        last: whether no other pass follows, so that what steps hold can be let go on the way.
        started: the sum at the outputs, and its magnitude.
        biases: per operation its layer and what its bias took of each picture.
        stabilisers: the same of its stabiliser.
    """

    batch: int
    last: bool = False
    started: list[Tensor] = field(default_factory=list)
    magnitude: list[Tensor] = field(default_factory=list)
    biases: list[tuple[str, Tensor]] = field(default_factory=list)
    stabilisers: list[tuple[str, Tensor]] = field(default_factory=list)

    def absorb(self, where: str, bias: Tensor | None, stabiliser: Tensor | None = None) -> None:
        """Note what biases and a stabiliser took; tensors whose first axis is the pictures'."""
        for taken, book in ((bias, self.biases), (stabiliser, self.stabilisers)):
            if taken is not None:
                book.append((where, self.per_picture(taken)))

    def start(self, relevance: Tensor) -> None:
        """Note what the outputs begin with."""
        self.started.append(self.per_picture(relevance))
        self.magnitude.append(self.per_picture(relevance.abs()))

    def per_picture(self, values: Tensor) -> Tensor:
        """Sums (B,); where the first axis holds several entries per picture, those of one follow each other."""
        exact = exact_type(values.device)
        if values.ndim == 0 or len(values) % self.batch:
            return (values.detach().sum(dtype=exact) / self.batch).expand(self.batch)
        rows = values.detach().reshape(self.batch, -1, values.shape[-1])
        return rows.sum(2).sum(
            1, dtype=exact
        )  # of whole rows in their own format, as converting all takes long
