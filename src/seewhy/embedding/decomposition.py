"""Which place of one picture matches which place of another: their inner product, split over pairs of places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seewhy.errors import InputError
from seewhy.explainers.hires_cam import HiResCAM
from seewhy.network.network import Network
from seewhy.targets.base import BoundTarget
from seewhy.targets.values import EmbeddingTarget


@dataclass(frozen=True, eq=False)
class Decomposition:
    """A pair's inner product over pairs of places.

    Attributes:
        table: (h, w, h', w'), what a place of the first picture and one of the second add.
        similarity: the inner product e1 . e2.
        rest: what of it no pair of places explains; zero where the embedding is a linear map of the layer.
    """

    table: Float[Tensor, "h w h2 w2"]
    similarity: float
    rest: float


@dataclass(frozen=True)
class Coordinates(EmbeddingTarget):
    """All D numbers of the embedding, each a target of its own."""

    def bind(self, outputs: Any, network: Network) -> BoundTarget:
        output = self.read(outputs)
        labels = tuple(f"number {place}" for place in range(output.shape[1]))
        return BoundTarget(
            lambda outputs, rows: self.read(outputs), (labels,) * len(output), torch.arange(len(output))
        )


def decompose(
    network: Network | nn.Module,
    pair: Any,
    layer: str | None = None,
    output: str | int | None = None,
) -> Decomposition:
    """Split the inner product of two embeddings over pairs of places (after Zhu et al., WACV 2021).

    A place adds to the embedding the gradient of every number of it times the activation there; two places' shares are
    multiplied. Behind pooling and a linear map without bias they add up to e1 . e2 exactly.

    Args:
        network: the network.
        pair: two pictures (2, C, H, W).
        layer: as for HiResCAM.
        output: which of the network's outputs is the embedding.

    Raises:
        InputError: not two pictures.
    """
    found = HiResCAM(layer=layer)(network, pair, Coordinates(output=output))
    if len(found) != 2:
        raise InputError(f"a pair is two pictures, not {len(found)}")
    one, other = found.values
    table = torch.einsum("dhw,dij->hwij", one, other)
    similarity = float(found.scores[0] @ found.scores[1])
    return Decomposition(table, similarity, similarity - float(table.sum()))
