"""Triplet loss on cosine similarities, over all triplets of a batch or the hardest of every picture."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

Mining = Literal["all", "hard"]


def triplet_loss(
    embeddings: Float[Tensor, "B D"],
    labels: Int[Tensor, " B"],
    mining: Mining = "hard",
    scale: float = 10.0,
) -> Float[Tensor, ""]:
    """How far pictures are from being more similar to their own than to others, with a soft margin.

    The mean of log(1 + exp(scale (s_n - s_p))), where s_p and s_n are an anchor's cosine similarities to a picture of
    its label and to one of another. `hard` takes the smallest s_p and the largest s_n of every anchor (batch-hard
    mining; Hermans, Beyer and Leibe, 2017, who write it with distances), `all` every pair of them.

    Args:
        embeddings: of any length; only their directions count.
        labels: who is shown.
        mining: which triplets.
        scale: how sharply the margin bends.

    Returns:
        The loss; zero where the batch holds no triplet.
    """
    directions = F.normalize(embeddings.float(), dim=1)
    similar = directions @ directions.T
    same = labels[:, None] == labels[None]
    own, other = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device), ~same
    if mining == "hard":
        positive = similar.masked_fill(~own, torch.inf).amin(1)
        negative = similar.masked_fill(~other, -torch.inf).amax(1)
        gaps = (negative - positive)[own.any(1) & other.any(1)]
    else:
        gaps = (similar[:, None, :] - similar[:, :, None])[own[:, :, None] & other[:, None, :]]
    return F.softplus(scale * gaps).sum() / max(gaps.numel(), 1)
