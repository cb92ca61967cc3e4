"""Many triplets of an anchor as one question: their losses are averaged before anything is differentiated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from seewhy.artifact import Artifact
from seewhy.embedding.gallery import Gallery, distances
from seewhy.embedding.losses import Evidence, TripletLoss
from seewhy.embedding.mining import Mining
from seewhy.errors import TargetError
from seewhy.network.network import Network
from seewhy.targets.base import BoundTarget, Target
from seewhy.targets.values import EmbeddingTarget, rows_of


@dataclass(frozen=True, eq=False)
class Triplets(EmbeddingTarget):
    """The triplet loss averaged over many triplets of each picture, as Grad-CAM for embedding networks weighs channels.

    Chen et al., WACV 2020. One backward pass serves any number of them: it is linear in the loss's gradient.

    Args:
        gallery: embeddings and labels that triplets are chosen from, or the file that holds them; None for the other
            pictures of the batch, which maps then depend on.
        labels: (B,) of the pictures; those of their nearest in the gallery where not given.
        with_batch: choose from the other pictures of the batch, too.
        mining: which triplets, how many, and the margin.
        evidence: `for` what lowers the loss, or `against`.
        normalize: bring all embeddings to unit length first.
    """

    gallery: Gallery | Artifact | str | Path | None = None
    labels: Tensor | None = None
    with_batch: bool = False
    mining: Mining = field(default_factory=Mining)
    evidence: Evidence = "for"
    normalize: bool = False

    def pick(self, rows: Sequence[int], batch: int) -> Target:
        if self.labels is None:
            return self
        return replace(self, labels=rows_of(self.labels, 1, rows, batch))

    def vectors_of(self, outputs: Any) -> Float[Tensor, "B D"]:
        """The embeddings as they are compared."""
        embeddings = self.read(outputs).detach()
        return normalize(embeddings, dim=1) if self.normalize else embeddings

    def bind(self, outputs: Any, network: Network) -> BoundTarget:
        embeddings = self.vectors_of(outputs)
        gallery, itself = self._among(embeddings)
        apart = distances(embeddings, gallery.embeddings)
        labels, assumed = self._labelled(gallery, apart, itself)
        positives, negatives = self.mining.partners(labels, gallery.labels, itself)
        for what, found in (("positive", positives), ("negative", negatives)):
            for row in (~found.any(1)).nonzero().flatten().tolist():
                error = TargetError(
                    f"picture {row} of {gallery.name(labels[row])!r} has no {what} among the {len(gallery)} embeddings"
                )
                error.place = row
                raise error
        near, far, counted = self.mining.mine(apart, positives, negatives)
        entries = gallery.embeddings.to(embeddings)
        loss = TripletLoss(
            entries[near], entries[far], self.mining.margin, counted,
            evidence=self.evidence, normalize=self.normalize, output=self.output,
        )  # fmt: skip
        bound = loss.bind(outputs, network)
        names = [gallery.name(label) for label in labels]
        left_out = itself.sum(1).tolist() if self.gallery is not None else [0] * len(names)
        notes = [
            "; ".join(
                [note] * bool(note)
                + [f"taken for {name!r}, as its nearest in the gallery is"] * assumed
                + [f"{count} of the gallery is this very picture, and left out"] * bool(count)
            )
            for note, name, count in zip(bound.notes, names, left_out, strict=True)
        ]
        shown = tuple((f"triplets of {name}, evidence {self.evidence}",) for name in names)
        return replace(bound, labels=shown, notes=tuple(notes))

    def _among(self, embeddings: Float[Tensor, "B D"]) -> tuple[Gallery, Bool[Tensor, "B N"]]:
        """What triplets are chosen from, and which of it is each picture itself."""
        parts = []
        if self.gallery is not None:
            gallery = self._gallery(embeddings)
            parts.append((gallery, gallery.itself(embeddings)))
        if self.gallery is None or self.with_batch:
            if self.labels is None:
                raise TargetError(
                    "to choose triplets from the batch, Triplets needs the labels of its pictures"
                )
            own = torch.eye(len(embeddings), dtype=torch.bool, device=embeddings.device)
            parts.append((Gallery(embeddings, self.labels.to(embeddings.device)), own))
        galleries, itself = zip(*parts, strict=True)
        joined = Gallery(
            torch.cat([each.embeddings for each in galleries]),
            torch.cat([each.labels for each in galleries]),
            galleries[0].classes,
        )
        return joined, torch.cat(itself, 1)

    def _gallery(self, embeddings: Float[Tensor, "B D"]) -> Gallery:
        """The gallery as it fits the embeddings."""
        assert self.gallery is not None
        gallery = Gallery.of(self.gallery)
        if gallery.embeddings.shape[1] != embeddings.shape[1]:
            raise TargetError(
                f"a gallery of embeddings {tuple(gallery.embeddings.shape)} for embeddings {tuple(embeddings.shape)}"
            )
        gallery = replace(
            gallery, embeddings=gallery.embeddings.to(embeddings), labels=gallery.labels.to(embeddings.device)
        )
        return gallery.normalized() if self.normalize else gallery

    def _labelled(
        self, gallery: Gallery, apart: Float[Tensor, "B N"], itself: Bool[Tensor, "B N"]
    ) -> tuple[Tensor, bool]:
        """The pictures' labels, and whether they are assumed."""
        if self.labels is None:
            return gallery.labels[apart.masked_fill(itself, torch.inf).argmin(1)], True
        if self.labels.shape != (len(apart),):
            raise TargetError(f"labels of shape {tuple(self.labels.shape)} for {len(apart)} pictures")
        return self.labels.to(gallery.labels.device), False
