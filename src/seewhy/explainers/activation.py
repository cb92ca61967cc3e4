"""What the CAM family shares: maps made of a layer's activations and the target's gradient there."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seewhy.explainers.base import Computed, Explainer, Workload
from seewhy.explainers.study import Feature, Study
from seewhy.explanation import Cost
from seewhy.network.layers import Site
from seewhy.network.network import Network
from seewhy.network.precision import Precision

UNSTABLE = "unstable denominator"
"""How a note begins where rounding errors are blown up by a division."""


class ActivationMethod(Explainer):
    """A method whose map is a formula over activations (B, K, h, w) and gradients (B, T, K, h, w)."""

    needs: ClassVar[str] = "a layer with feature maps"
    uses_gradient: ClassVar[bool] = True

    layer: str | tuple[str, ...] | None = Field(
        default=None,
        description="Layer or layers, by dotted name; `name[1]` for a second call. None: the last feature "
        "map whose positions the target depends on.",
    )
    sign: Literal[1, -1] = Field(
        default=1,
        description="1: evidence for the target. -1: counterfactual, what speaks against it "
        "(the gradient of the negated score).",
    )
    precision: Precision = Field(
        default="float32",
        description="Number format up to the layer; from the layer on everything is float32. "
        "`auto`: bfloat16 where the processor is faster at it.",
    )

    @abstractmethod
    def formula(self, feature: Feature) -> Float[Tensor, "B T h w"]:
        """The map before any final ReLU."""

    def plan(self, work: Workload, network: Network) -> Cost:
        return Cost(forwards=work.pictures, backwards=work.scores if self.uses_gradient else 0)

    def request(self, study: Study) -> None:
        study.request(study.layers(self.layer), self.uses_gradient, self.precision)

    def compute(self, study: Study) -> Computed:
        choice = study.layers(self.layer)
        maps: dict[Site, Tensor] = {}
        notes: list[list[str]] = [[] for _ in range(study.arguments.batch)]
        for site in choice.calls:
            self.check(study, site)
            feature = study.feature(site, self.uses_gradient, self.precision)
            check_finite(feature, study)
            # A sum over many channels; the network's own precision settings do not apply to it.
            values = torch.nan_to_num(self.formula(feature)).expand(-1, study.scores.shape[1], -1, -1)
            maps[site] = values
            for row, remarks in enumerate(self.remarks(feature, values)):
                notes[row].extend(remarks)
        unique = tuple(tuple(dict.fromkeys(remarks)) for remarks in notes)
        return Computed(maps, unique, choice.reason, study.used(self.precision, self.uses_gradient))

    def check(self, study: Study, site: Site) -> None:
        """Raise `NotApplicableError` where the method is not defined for this network."""
        return

    def remarks(self, feature: Feature, values: Float[Tensor, "B T h w"]) -> list[list[str]]:
        """Per picture what to know before trusting its maps."""
        dead = (feature.activation == 0).flatten(1).all(1)
        constant = (values.amax((-2, -1)) == values.amin((-2, -1))).all(1)
        negative = (values <= 0).flatten(1).all(1)
        found = []
        for is_dead, is_constant, is_negative in zip(
            *(t.tolist() for t in (dead, constant, negative)), strict=True
        ):
            if is_dead:
                found.append(["dead layer: every activation is zero"])
            else:
                found.append(
                    ["constant map"] * is_constant + ["no positive evidence"] * (is_negative and self.signed)
                )
        return found


def check_finite(feature: Feature, study: Study) -> None:
    """A network that computes NaN is an error, not a map."""
    from seewhy.errors import InputError

    tensors = [feature.activation] + ([feature.gradient] if feature.gradient is not None else [])
    if not all(bool(torch.isfinite(each).all()) for each in tensors):
        raise InputError(
            f"{study.network.name} gives NaN or infinite values at this layer; "
            "look at the weights and at the range of the input"
        )
