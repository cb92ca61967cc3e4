"""What embeddings are trained by, as targets: a method explains the direction in which a loss would move one.

With e the embedding, v = -d loss / d e is the direction that speaks for the match; one vector-Jacobian product
brings it to any layer. Whether a map shows what speaks for or against the match is said (`evidence`), never left to
the sign of a loss.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from seewhy.errors import TargetError
from seewhy.network.network import Network
from seewhy.targets.base import BoundTarget, Target
from seewhy.targets.values import EmbeddingTarget, rows_of

Evidence = Literal["for", "against"]
Vectors = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class EmbeddingLoss(EmbeddingTarget):
    """Base of losses and similarities of an embedding; what is explained is minus the loss, or the similarity.

    Attributes:
        evidence: `for` what lowers the loss, or raises the similarity, `against` for the opposite.
        normalize: bring embeddings to unit length first, the network's and those given.
    """

    evidence: Evidence = field(default="for", kw_only=True)
    normalize: bool = field(default=False, kw_only=True)

    what: ClassVar[str] = ""
    lowers: ClassVar[bool] = True
    """Whether the match is better where it is lower, as a loss is."""
    vectors: ClassVar[Mapping[str, int]] = {}
    """Fields that hold embeddings, and of how many axes one is that has an entry for each picture."""

    def measured(self, embedding: Float[Tensor, "B D"], given: Vectors) -> Float[Tensor, " B"]:
        """The loss, or the similarity."""
        raise NotImplementedError

    def frozen(self, embedding: Float[Tensor, "B D"], given: Vectors) -> tuple[Vectors, tuple[str, ...]]:
        """What the clean pass settles, and a note per picture."""
        return given, ()

    @property
    def key(self) -> tuple[Hashable, ...]:
        return (*super().key, self.normalize)

    def pick(self, rows: Sequence[int], batch: int) -> Target:
        own = {name: getattr(self, name) for name in self.vectors}
        picked: dict[str, Any] = {
            name: rows_of(each, self.vectors[name], rows, batch)
            for name, each in own.items()
            if isinstance(each, Tensor)
        }
        return replace(self, **picked)

    def bind(self, outputs: Any, network: Network) -> BoundTarget:
        clean = self._embedding(outputs).detach()
        given, notes = self.frozen(clean, self._given(clean))
        sign = 1 if (self.evidence == "for") != self.lowers else -1

        def ask(outputs: Any, rows: Tensor) -> Tensor:
            own = {name: each[rows.to(each.device)] for name, each in given.items()}
            return sign * self.measured(self._embedding(outputs), own)[:, None]

        label = f"{self.what}, evidence {self.evidence}"
        return BoundTarget(ask, ((label,),) * len(clean), torch.arange(len(clean)), notes)

    def _embedding(self, outputs: Any) -> Float[Tensor, "B D"]:
        embedding = self.read(outputs)
        return normalize(embedding, dim=1) if self.normalize else embedding

    def _given(self, embedding: Float[Tensor, "B D"]) -> dict[str, Tensor]:
        found = {}
        for name, axes in self.vectors.items():
            value = getattr(self, name)
            if value is None:
                continue
            vectors = torch.as_tensor(value).detach().to(embedding.device)
            if axes > 1:
                vectors = self._fitting(vectors.to(embedding.dtype), axes, embedding, name)
            found[name] = vectors.expand(len(embedding), *vectors.shape[1 if vectors.ndim == axes else 0 :])
        return found

    def _fitting(self, vectors: Tensor, axes: int, embedding: Float[Tensor, "B D"], name: str) -> Tensor:
        batch, width = embedding.shape
        fits = vectors.ndim in (axes - 1, axes) and vectors.shape[-1] == width
        if not fits or (vectors.ndim == axes and len(vectors) not in (1, batch)):
            raise TargetError(
                f"{type(self).__name__}: {name} of shape {tuple(vectors.shape)} for embeddings {(batch, width)}"
            )
        return normalize(vectors, dim=-1) if self.normalize else vectors


@dataclass(frozen=True, eq=False)
class TripletLoss(EmbeddingLoss):
    """The triplet loss [|e - p|^2 - |e - n|^2 + m]_+ (Schroff et al., CVPR 2015), averaged over the active triplets.

    Which triplets are active is settled on the clean pass. Where none is, the loss and its gradient are zero: then
    |e - p|^2 - |e - n|^2 is explained instead, averaged over all, and the notes say so.

    Args:
        positive: (D,) for all pictures, (B, D), or (B, N, D) for several triplets of each.
        negative: likewise.
        margin: m, in squared distance.
        counted: (B, N), which of the triplets count; all by default.
    """

    positive: Tensor
    negative: Tensor
    margin: float = 0.2
    counted: Tensor | None = None

    what: ClassVar[str] = "triplet loss"
    vectors: ClassVar[Mapping[str, int]] = {"positive": 2, "negative": 2, "counted": 2}

    def _given(self, embedding: Float[Tensor, "B D"]) -> dict[str, Tensor]:
        found = {}
        for name in ("positive", "negative"):
            vectors = getattr(self, name).detach().to(embedding)
            vectors = (
                vectors[:, None]
                if vectors.ndim == 2
                else vectors.view(1, 1, -1)
                if vectors.ndim == 1
                else vectors
            )
            found[name] = self._fitting(vectors, 3, embedding, name).expand(len(embedding), -1, -1)
        shape = found["positive"].shape[:2]
        if found["negative"].shape[:2] != shape:
            raise TargetError(f"TripletLoss: {shape[1]} positives and {found['negative'].shape[1]} negatives")
        counted = torch.ones(shape) if self.counted is None else self.counted
        return {**found, "counted": counted.to(embedding).expand(shape)}

    def frozen(self, embedding: Float[Tensor, "B D"], given: Vectors) -> tuple[Vectors, tuple[str, ...]]:
        counted = given["counted"]
        active = counted * (self._terms(embedding, given) + self.margin > 0)
        inactive = active.sum(1) == 0
        shares = torch.where(inactive[:, None], counted, active)
        settled = {"shares": shares / shares.sum(1, keepdim=True).clamp_min(1), "inactive": inactive}
        notes = [
            f"all {of:.0f} triplets are inactive (margin {self.margin:g}): explained without margin and hinge"
            if not some
            else f"{some:.0f} of {of:.0f} triplets are active" * (some < of)
            for some, of in zip(active.sum(1).tolist(), counted.sum(1).tolist(), strict=True)
        ]
        return {**given, **settled}, tuple(notes)

    def measured(self, embedding: Float[Tensor, "B D"], given: Vectors) -> Float[Tensor, " B"]:
        terms = self._terms(embedding, given)
        hinges = (terms + self.margin).clamp_min(0)
        return (given["shares"] * torch.where(given["inactive"][:, None], terms, hinges)).sum(1)

    def _terms(self, embedding: Float[Tensor, "B D"], given: Vectors) -> Float[Tensor, "B N"]:
        far, near = ((embedding[:, None] - given[name]).square().sum(2) for name in ("positive", "negative"))
        return far - near


@dataclass(frozen=True, eq=False)
class ContrastiveLoss(EmbeddingLoss):
    """The contrastive loss (Hadsell et al., CVPR 2006): d^2 / 2 of a pair that belongs together, else [m - d]_+^2 / 2.

    A pair that does not belong together and lies beyond the margin has no gradient: -d^2 / 2 is explained then, and
    the notes say so.

    Args:
        reference: the other embedding of the pair, (D,) for all pictures or (B, D).
        same: whether they belong together, for all or (B,).
        margin: m, in distance.
    """

    reference: Tensor
    same: bool | Bool[Tensor, " B"] = True
    margin: float = 1.0

    what: ClassVar[str] = "contrastive loss"
    vectors: ClassVar[Mapping[str, int]] = {"reference": 2, "same": 1}

    def frozen(self, embedding: Float[Tensor, "B D"], given: Vectors) -> tuple[Vectors, tuple[str, ...]]:
        beyond = ~given["same"] & ((embedding - given["reference"]).norm(dim=1) >= self.margin)
        note = f"the pair lies beyond the margin {self.margin:g}: explained without it"
        return {**given, "beyond": beyond}, tuple(note if each else "" for each in beyond.tolist())

    def measured(self, embedding: Float[Tensor, "B D"], given: Vectors) -> Float[Tensor, " B"]:
        square = (embedding - given["reference"]).square().sum(1)
        # Of two embeddings that are equal the distance has no gradient; its square has.
        gap = (self.margin - square.clamp_min(torch.finfo(square.dtype).tiny).sqrt()).clamp_min(0)
        apart = torch.where(given["beyond"], -square, gap.square())
        return torch.where(given["same"], square, apart) / 2


@dataclass(frozen=True, eq=False)
class NTXent(EmbeddingLoss):
    """The normalised, temperature-scaled cross entropy (Chen et al., ICML 2020) of one positive among negatives.

    -log exp(s(e, p) / t) / (exp(s(e, p) / t) + sum_n exp(s(e, n) / t)), s the cosine.

    Args:
        positive: (D,) for all pictures or (B, D).
        negatives: (N, D) for all pictures or (B, N, D).
        temperature: t.
    """

    positive: Tensor
    negatives: Tensor
    temperature: float = 0.1

    what: ClassVar[str] = "NT-Xent loss"
    vectors: ClassVar[Mapping[str, int]] = {"positive": 2, "negatives": 3}

    def measured(self, embedding: Float[Tensor, "B D"], given: Vectors) -> Float[Tensor, " B"]:
        others = torch.cat([given["positive"][:, None], given["negatives"]], 1)
        logits = cosines(embedding, others) / self.temperature
        return logits.logsumexp(1) - logits[:, 0]


@dataclass(frozen=True, eq=False)
class SetSimilarity(EmbeddingLoss):
    """The mean similarity of the embedding to a set, or to one.

    Args:
        references: (N, D) for all pictures or (B, N, D).
        cosine: the cosine, or the plain inner product.
    """

    references: Tensor
    cosine: bool = True

    what: ClassVar[str] = "similarity to a set"
    lowers: ClassVar[bool] = False
    vectors: ClassVar[Mapping[str, int]] = {"references": 3}

    def measured(self, embedding: Float[Tensor, "B D"], given: Vectors) -> Float[Tensor, " B"]:
        references = given["references"]
        each = cosines(embedding, references) if self.cosine else (references @ embedding[:, :, None])[..., 0]
        return each.mean(1)


@dataclass(frozen=True, eq=False)
class TextDirection(EmbeddingLoss):
    """The cosine to the embedding of a text, as networks of pictures and text compare them (Radford et al., 2021).

    Args:
        text: the text's embedding, (D,) for all pictures or (B, D).
        rather_than: that of another text, whose cosine is subtracted: "a red car" rather than "a car".
    """

    text: Tensor
    rather_than: Tensor | None = None

    what: ClassVar[str] = "similarity to a text"
    lowers: ClassVar[bool] = False
    vectors: ClassVar[Mapping[str, int]] = {"text": 2, "rather_than": 2}

    def measured(self, embedding: Float[Tensor, "B D"], given: Vectors) -> Float[Tensor, " B"]:
        found = torch.cosine_similarity(embedding, given["text"], dim=1)
        if "rather_than" in given:
            found = found - torch.cosine_similarity(embedding, given["rather_than"], dim=1)
        return found


def cosines(embedding: Float[Tensor, "B D"], others: Float[Tensor, "B N D"]) -> Float[Tensor, "B N"]:
    """Of each embedding to its own others."""
    return (normalize(others, dim=2) @ normalize(embedding, dim=1)[:, :, None])[..., 0]
