"""Embeddings with their labels: what anchors are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.nn.functional import normalize

from seewhy.artifact import Artifact
from seewhy.errors import InputError
from seewhy.files import written_whole

_SAME = 1e-4  # of an embedding's length: below it two are one picture's, rounding apart


@dataclass(frozen=True, eq=False)
class Gallery:
    """N embeddings and what belongs to each.

    Args:
        embeddings: (N, D).
        labels: (N,) class numbers, or values where distances of values tell who belongs together.
        classes: names of the class numbers, where known.
    """

    embeddings: Float[Tensor, "N D"]
    labels: Tensor
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.labels.shape != self.embeddings.shape[:1] or not len(self.labels):
            raise InputError(
                f"a gallery of {len(self.embeddings)} embeddings has labels of shape {tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(cls, source: Gallery | Artifact | str | Path) -> Gallery:
        """A gallery, or the one in a safetensors file with the tensors `embeddings` and `labels`.

        Raises:
            InputError: the file cannot be read, has changed since it was chosen, or holds something else.
        """
        if isinstance(source, Gallery):
            return source
        artifact = source if isinstance(source, Artifact) else Artifact.model_validate(source)
        try:
            found = load(artifact.read())
            return cls(found["embeddings"].float(), found["labels"])
        except (SafetensorError, KeyError) as error:
            raise InputError(
                f"{artifact.path} is no gallery: a safetensors file with the tensors embeddings (N, D) and labels (N,)"
            ) from error

    def save(self, path: str | Path) -> Path:
        """Write it to a safetensors file, which `of` reads; names of classes are not kept."""
        with written_whole(path) as file:
            file.write(save({"embeddings": self.embeddings.contiguous(), "labels": self.labels.contiguous()}))
        return Path(path)

    def name(self, label: Tensor) -> str:
        """What a label is called."""
        value = label.item()
        known = isinstance(value, int) and value < len(self.classes)
        return self.classes[int(value)] if known else f"{value:g}"

    def normalized(self) -> Gallery:
        """With embeddings of unit length."""
        return replace(self, embeddings=normalize(self.embeddings, dim=1))

    def itself(self, embeddings: Float[Tensor, "B D"]) -> Bool[Tensor, "B N"]:
        """Which entries are the very pictures that are asked about."""
        lengths: Tensor = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)
        near: Tensor = distances(embeddings, self.embeddings) <= _SAME * lengths
        return near

    def proxies(self, exclude: Sequence[int] = ()) -> tuple[Float[Tensor, "C D"], Int[Tensor, " C"]]:
        """Per class the mean of its unit embeddings, at unit length, as EmbeddingCAM uses them (arXiv 2402.00909).

        Args:
            exclude: rows to leave out, as that of a picture to be explained: its own embedding is a leak.

        Returns:
            The proxies, and the label of each.
        """
        kept = torch.ones(len(self), dtype=torch.bool)
        kept[list(exclude)] = False
        kept = kept.to(self.labels.device)
        labels, places = torch.unique(self.labels[kept], return_inverse=True)
        units = normalize(self.embeddings[kept], dim=1)
        sums = units.new_zeros((len(labels), units.shape[1])).index_add_(0, places, units)
        return normalize(sums, dim=1), labels


def distances(one: Float[Tensor, "B D"], other: Float[Tensor, "N D"]) -> Float[Tensor, "B N"]:
    """Euclidean, by differences: a matrix product loses small ones."""
    return torch.cdist(one, other.to(one), compute_mode="donot_use_mm_for_euclid_dist")
