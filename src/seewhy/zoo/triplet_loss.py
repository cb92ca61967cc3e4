"""Triplet losses: of labels, on cosine similarities; of values such as prices, on distances."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from seewhy.embedding.mining import Mining as ByValue

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


def value_triplet_loss(
    embeddings: Float[Tensor, "B D"], values: Float[Tensor, " B"], close: float
) -> Float[Tensor, ""]:
    """The triplet loss where pictures have values, such as prices, and no labels.

    The mean of [|e - p|^2 - |e - n|^2 + 1]_+ (Schroff et al., CVPR 2015) over all triplets of the batch: the positive's
    value is within `close` of the anchor's, the negative's beyond twice of it, as in `seewhy.Mining(tolerance=close)`.

    Args:
        embeddings: of any length, which counts.
        values: in the unit of `close`.
        close: how far alike values may be apart.

    Returns:
        The loss; zero where the batch holds no triplet.
    """
    apart = (embeddings[:, None] - embeddings).square().sum(2)
    itself = torch.eye(len(values), dtype=torch.bool, device=values.device)
    own, other = ByValue(tolerance=close).partners(values, values, itself)
    hinges = (apart[:, :, None] - apart[:, None, :] + 1).clamp_min(0)
    chosen = hinges[own[:, :, None] & other[:, None, :]]
    return chosen.sum() / max(chosen.numel(), 1)
