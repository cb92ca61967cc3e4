"""Relative stability: how much more the map changes than the picture does."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seewhy.evaluation.max_sensitivity import NoisyCopiesMetric, relative_change
from seewhy.evaluation.metric import Batch
from seewhy.explanation import Explanation

_LEAST = 1e-6  # change of the picture


class RelativeStability(NoisyCopiesMetric):
    """Relative input stability (Agarwal et al., 2022): max over noisy copies of the map's change over the picture's.

    Copies that change the predicted class do not count. Both changes are ratios of norms; `element-wise`, the form of
    the paper, divides every value by itself, explodes where a map is near zero, and is experimental.
    """

    title: ClassVar[str] = "Relative input stability"
    paper: ClassVar[str] = "Agarwal et al., 2022"

    name: Literal["relative-stability"] = "relative-stability"
    form: Literal["norms", "element-wise"] = Field(
        default="norms", description="How changes are relative; `element-wise` is experimental."
    )

    def change(
        self,
        batch: Batch,
        rows: Tensor,
        noise: Float[Tensor, "M C H W"],
        clean: tuple[Float[Tensor, "M T n"], Explanation],
        noisy: tuple[Float[Tensor, "M T n"], Explanation],
    ) -> Float[Tensor, "M T"]:
        pictures, noise = batch.pixels[rows].flatten(1).float(), noise.flatten(1)
        if self.form == "norms":
            moved = noise.square().sum(1).sqrt() / pictures.square().sum(1).sqrt()
            changed = relative_change(clean[0], noisy[0])
        else:
            moved = _ratio(noise, pictures)
            changed = _ratio(noisy[0] - clean[0], clean[0])
        before = [clean[1].predictions[row][0].index for row in rows.tolist()]
        after = [each[0].index for each in noisy[1].predictions]
        kept = torch.tensor([one == other for one, other in zip(before, after, strict=True)])
        ratio = changed / moved.clamp_min(_LEAST)[:, None]
        # Of zeros no change is a share.
        counts = kept.to(ratio.device) & torch.isfinite(moved)
        return torch.where(counts[:, None], ratio, math.nan)


def _ratio(change: Tensor, values: Tensor) -> Tensor:
    """The norm of a change divided by each value; what is zero and stays it does not change."""
    return torch.where(change == 0, 0.0, change / values).square().sum(-1).sqrt()
