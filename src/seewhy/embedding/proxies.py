"""Losses that compare an embedding with one proxy per class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import softplus

from seewhy.embedding.losses import EmbeddingLoss, Vectors, cosines
from seewhy.errors import TargetError


@dataclass(frozen=True, eq=False)
class _ProxyLoss(EmbeddingLoss):
    """Base of losses over the cosines to C proxies, of which one is the class's own."""

    proxies: Float[Tensor, "C D"]
    label: int | Int[Tensor, " B"]

    vectors: ClassVar[Mapping[str, int]] = {"proxies": 3, "label": 1}

    def frozen(self, embedding: Float[Tensor, "B D"], given: Vectors) -> tuple[Vectors, tuple[str, ...]]:
        labels, classes = given["label"], given["proxies"].shape[1]
        if bool(((labels < 0) | (labels >= classes)).any()):
            raise TargetError(f"{type(self).__name__}: labels {labels.tolist()} of {classes} proxies")
        return given, ()

    def measured(self, embedding: Float[Tensor, "B D"], given: Vectors) -> Float[Tensor, " B"]:
        similar = cosines(embedding, given["proxies"])
        own = torch.nn.functional.one_hot(given["label"], similar.shape[1]).bool()
        return self.of(similar, own)

    def of(self, similar: Float[Tensor, "B C"], own: Tensor) -> Float[Tensor, " B"]:
        """The loss, from the cosines and from which of them is to the class's own proxy."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class ProxyNCA(_ProxyLoss):
    """Proxy-NCA (Movshovitz-Attias et al., ICCV 2017): -log exp(-d(e, p_y)) / sum_{z != y} exp(-d(e, p_z)).

    d is the squared distance of unit vectors.

    Args:
        proxies: one per class (C, D).
        label: the class y, for all pictures or (B,).
    """

    what: ClassVar[str] = "Proxy-NCA loss"

    def of(self, similar: Float[Tensor, "B C"], own: Tensor) -> Float[Tensor, " B"]:
        distances = 2 - 2 * similar
        others = (-distances).masked_fill(own, -torch.inf).logsumexp(1)
        return distances[own] + others


@dataclass(frozen=True, eq=False)
class ProxyAnchor(_ProxyLoss):
    """Proxy-Anchor (Kim et al., CVPR 2020), the share of one embedding.

    log(1 + exp(-a (s(e, p_y) - d))) + sum_{z != y} log(1 + exp(a (s(e, p_z) + d))) / C, s the cosine.

    Args:
        proxies: one per class (C, D).
        label: the class y, for all pictures or (B,).
        alpha: a.
        delta: d.
    """

    alpha: float = 32.0
    delta: float = 0.1

    what: ClassVar[str] = "Proxy-Anchor loss"

    def of(self, similar: Float[Tensor, "B C"], own: Tensor) -> Float[Tensor, " B"]:
        towards = softplus(-self.alpha * (similar[own] - self.delta))
        away = softplus(self.alpha * (similar + self.delta)).masked_fill(own, 0).sum(1)
        return towards + away / similar.shape[1]
