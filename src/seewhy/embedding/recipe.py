"""How the weights of a bank are made."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from seewhy.embedding.batches import LEAST
from seewhy.embedding.embedding_grad_cam import Select
from seewhy.embedding.mining import Mining


class Recipe(BaseModel):
    """How the weights of a bank are made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: str | None = Field(
        default=None, description="As EmbeddingGradCAM's; the last feature map that counts."
    )
    output: str | int | None = Field(
        default=None, description="Which of the network's outputs is the embedding."
    )
    normalize: bool = Field(
        default=False, description="Bring embeddings to unit length, so that cosines decide."
    )
    mining: Mining = Field(default_factory=Mining, description="Which triplets.")
    top_k: int | None = Field(default=50, ge=1, description="Channels that are kept of each; None: all.")
    select: Select = Field(default="positive", description="Which these are, as EmbeddingGradCAM's.")
    weights: Literal["float16", "float32"] = Field(
        default="float16", description="Number format of the weights, each row with a scale of its own."
    )
    clusters: int | None = Field(
        default=None,
        ge=1,
        description="Keep the mean weights of so many clusters (k-means); None: of each picture.",
    )
    batch_size: int = Field(
        default=48,
        ge=LEAST,
        description="Pictures per pass, a multiple of six: triplets are chosen within it.",
    )
    seed: int = Field(default=0, description="Of the batches and of k-means.")
