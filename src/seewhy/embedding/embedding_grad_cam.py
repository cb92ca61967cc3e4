"""Grad-CAM for embedding networks: the strongest channels of a loss's, a similarity's or any target's gradient."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seewhy.explainers.activation import ActivationMethod
from seewhy.explainers.study import Feature

Select = Literal["positive", "signed", "magnitude"]
_ZERO = 1e-5  # of the sum of magnitudes: a sum that float32 leaves of a zero


class EmbeddingGradCAM(ActivationMethod):
    """Grad-CAM for embedding networks (Chen et al., WACV 2020): sum_k a_k A_k over the channels of the largest a_k.

    a_k is the mean over positions of the gradient of what is asked about: `Triplets` as in the paper, one
    `TripletLoss`, or any other target. Many triplets take one backward pass. Preset `reference` keeps negative weights
    that come among the largest; elsewhere they are dropped, and the notes say how many.
    """

    title: ClassVar[str] = "Grad-CAM for embedding networks"
    paper: ClassVar[str] = "Chen et al., WACV 2020"
    presets: ClassVar = {
        "paper": {"top_k": 50, "select": "positive"},
        "reference": {"top_k": 50, "select": "signed"},
    }

    name: Literal["embedding-grad-cam"] = "embedding-grad-cam"
    top_k: int | None = Field(default=50, ge=1, description="Channels that count; None: all.")
    select: Select = Field(
        default="positive",
        description="Which these are: those of the largest weights, without negative ones among them (`positive`) or "
        "with them (`signed`), or those of the largest magnitude.",
    )
    pool: bool = Field(
        default=True,
        description="Weigh a channel by the mean of its gradient; otherwise by the gradient at each position.",
    )

    def formula(self, feature: Feature) -> Float[Tensor, "B T h w"]:
        assert feature.gradient is not None
        weights = self.sign * feature.gradient.mean((-2, -1))
        if self.pool:
            return weighted(strongest(weights, self.top_k, self.select), feature.activation)
        kept = strongest(weights, self.top_k, self.select) != 0
        return torch.einsum(
            "btkhw,bkhw->bthw", self.sign * kept[..., None, None] * feature.gradient, feature.activation
        )

    def remarks(self, feature: Feature, values: Float[Tensor, "B T h w"]) -> list[list[str]]:
        assert feature.gradient is not None
        found = super().remarks(feature, values)
        weights = self.sign * feature.gradient.mean((-2, -1))
        negative = weights.topk(min(self.top_k or weights.shape[2], weights.shape[2]), 2).values < 0
        counts = negative.sum(2).amax(1).tolist()
        hopeless = ((weights <= 0).all(2) & (weights < 0).any(2)).any(1).tolist()
        zero_sum = balanced(weighted(weights, feature.activation)).any(1).tolist()
        for row, notes in enumerate(found):
            if hopeless[row]:
                notes.append("no channel has a positive weight: nothing speaks for it")
            elif counts[row] and self.select != "magnitude":
                done = "dropped" if self.select == "positive" else "kept"
                notes.append(
                    f"{counts[row]} of the {negative.shape[2]} largest weights are negative, and {done}"
                )
            if zero_sum[row]:
                notes.append(
                    "over all channels the map sums to zero, as behind a normalised embedding: it shows differences"
                )
        return found


def strongest(weights: Float[Tensor, "*N K"], top_k: int | None, select: Select) -> Float[Tensor, "*N K"]:
    """The weights of the channels that count; the others are zero."""
    if top_k is not None and top_k < weights.shape[-1]:
        ranked = weights.abs() if select == "magnitude" else weights
        places = ranked.topk(top_k, -1).indices
        weights = torch.zeros_like(weights).scatter(-1, places, weights.gather(-1, places))
    return weights.clamp_min(0) if select == "positive" else weights


def weighted(
    weights: Float[Tensor, "B T K"], activation: Float[Tensor, "B K h w"]
) -> Float[Tensor, "B T h w"]:
    """The sum of the maps, each times its weight."""
    return torch.einsum("btk,bkhw->bthw", weights, activation)


def balanced(values: Float[Tensor, "B T h w"]) -> Tensor:
    """Which maps sum to zero although they are none."""
    size = values.abs().sum((-2, -1))
    return (size > 0) & (values.sum((-2, -1)).abs() <= _ZERO * size)
