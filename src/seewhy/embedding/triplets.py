"""Triplet loss with batch-hard mining (Hermans, Beyer and Leibe, 2017)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def batch_hard(
    embeddings: Float[Tensor, "B D"], labels: Int[Tensor, " B"], scale: float = 10.0
) -> Float[Tensor, ""]:
    """Every picture against its least similar own and its most similar other, with a soft margin.

    The mean over anchors of log(1 + exp(scale (s_n - s_p))), where s_p is the smallest cosine similarity to a picture of
    the same label and s_n the largest to one of another (the paper's soft margin, on cosines instead of distances).

    Args:
        embeddings: of any length; only their directions count.
        labels: who is shown.
        scale: how sharply the margin bends.

    Returns:
        The loss; zero where no picture has both an own and another one.
    """
    positive, negative = hardest(embeddings, labels)
    able = positive.isfinite() & negative.isfinite()
    return F.softplus(scale * (negative - positive)[able]).sum() / able.sum().clamp_min(1)


def hardest(
    embeddings: Float[Tensor, "B D"], labels: Int[Tensor, " B"]
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Per picture its smallest similarity to an own one, and its largest to another; infinite where there is none."""
    similar = _cosines(embeddings)
    same = labels[:, None] == labels[None]
    own = same & ~torch.eye(len(labels), dtype=torch.bool, device=same.device)
    positive = similar.masked_fill(~own, torch.inf).amin(1)
    return positive, similar.masked_fill(same, -torch.inf).amax(1)


def _cosines(embeddings: Tensor) -> Tensor:
    directions = F.normalize(embeddings.float(), dim=1)
    return directions @ directions.T
