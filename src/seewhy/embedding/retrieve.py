"""Retrieval explained: the nearest pictures of a gallery, and where both pictures of a match say so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from seewhy.errors import InputError
from seewhy.explainers.base import Explainer, make
from seewhy.explanation import Explanation
from seewhy.network.embedding import Embedding
from seewhy.network.images import Failure, stream
from seewhy.network.network import Network
from seewhy.targets import Similarity

METHOD = "grad-cam"
BANKED = "transfer-cam"  # where a bank is at hand
Metric = Literal["cosine", "inner-product"]


@dataclass(frozen=True, eq=False)
class Embedded:
    """Pictures by their embeddings.

    Attributes:
        paths: the N pictures that could be read.
        vectors: their embeddings (N, D), float32, on the processor.
        failed: the other pictures, with reasons.
    """

    paths: tuple[str, ...]
    vectors: Float[Tensor, "N D"]
    failed: tuple[Failure, ...] = ()

    @property
    def asked(self) -> int:
        """How many pictures were asked for."""
        return len(self.paths) + len(self.failed)


@dataclass(frozen=True)
class Match:
    """A picture of the gallery.

    Attributes:
        path: its file.
        similarity: to the query.
    """

    path: str
    similarity: float


@dataclass(frozen=True, eq=False)
class Found:
    """The K best matches of a query, and why they are.

    Attributes:
        query: its file.
        matches: the best first.
        explanation: what speaks for each similarity: the query's K maps, one per match, then each match's own.
    """

    query: str
    matches: tuple[Match, ...]
    explanation: Explanation

    def of_query(self, rank: int) -> Explanation:
        """Where the query looks like its match of a rank, 1 for the best."""
        return self.explanation.select([rank - 1])

    def of_match(self, rank: int) -> Explanation:
        """Where the match of a rank, 1 for the best, looks like the query."""
        return self.explanation.select([len(self.matches) + rank - 1])


def embed(
    network: Network | nn.Module,
    paths: Sequence[str],
    embedding: Embedding | None = None,
    *,
    batch_size: int = 16,
    step: Callable[[int], None] = lambda _: None,
) -> Embedded:
    """The embeddings of any number of pictures; pixels are not kept.

    Args:
        network: with a preprocess.
        paths: picture files.
        embedding: which output; `network.embedding()` by default.
        batch_size: pictures per pass.
        step: called with the number of pictures done since.

    Raises:
        InputError: the network came without a preprocess.
        TargetError: no output is an embedding.
    """
    network = Network.of(network)
    if network.preprocess is None:
        raise InputError(
            f"{network.name} came without a preprocess, so it is not known how it reads pictures"
        )
    embedding = embedding or network.embedding()
    names: list[str] = []
    failed: list[Failure] = []
    vectors = [torch.zeros(0, embedding.width)]
    for images in stream(paths, network.preprocess, batch_size):
        failed += images.failed
        if len(images):
            names += images.paths
            vectors.append(embedding.read(network(images.pixels)).cpu())
        step(images.asked)
    return Embedded(tuple(names), torch.cat(vectors), tuple(failed))


def nearest(
    query: Float[Tensor, " D"], gallery: Embedded, top: int, metric: Metric = "cosine", without: str = ""
) -> list[int]:
    """The rows of a gallery that are most similar to a vector, the best first; of equals, the earlier first.

    Args:
        query: the vector.
        gallery: what is searched.
        top: how many, or fewer where the gallery holds fewer.
        metric: cosine similarity, or the plain inner product.
        without: a file to leave out: the query's own, where the gallery holds it.
    """
    similar = _similarities(query, gallery.vectors, metric)
    own = Path(without).resolve() if without else None
    order: list[int] = similar.sort(descending=True, stable=True).indices.tolist()
    # A file is looked at only when it would be taken: resolving all of a large gallery takes longer than ranking it.
    rows = (row for row in order if own is None or Path(gallery.paths[row]).resolve() != own)
    return [row for row, _ in zip(rows, range(top), strict=False)]


def retrieve(
    network: Network | nn.Module,
    queries: Embedded,
    gallery: Embedded,
    method: str | Explainer = METHOD,
    *,
    embedding: Embedding | None = None,
    top: int = 5,
    metric: Metric = "cosine",
) -> Iterator[Found]:
    """The best matches of every query, each with a map of the query and a map of the match.

    Both maps explain the same number, the similarity of the two embeddings: once as a function of the query's pixels
    with the match's embedding held fixed, once the other way round.

    Args:
        network: with a preprocess.
        queries: embedded pictures.
        gallery: embedded pictures; a query that is among them is not its own match.
        method: a registry name with settings, or an explainer.
        embedding: which output; `network.embedding()` by default.
        top: how many matches.
        metric: cosine similarity, or the plain inner product.

    Raises:
        InputError: an empty gallery, a picture that can no longer be read, a metric or top that make no sense.
        SeewhyError: the method does not fit the network.
    """
    network = Network.of(network)
    if top < 1:
        raise InputError(f"top {top}: at least one match")
    if not gallery.paths:
        raise InputError("the gallery holds no picture that can be read")
    explainer = make(method) if isinstance(method, str) else method
    embedding = embedding or network.embedding()
    for path, vector in zip(queries.paths, queries.vectors, strict=True):
        rows = nearest(vector, gallery, top, metric, path)
        if not rows:
            raise InputError(f"the gallery holds nothing but the query {path}")
        others = gallery.vectors[rows]
        names = [gallery.paths[row] for row in rows]
        similar = _similarities(vector, others, metric).tolist()
        matches = tuple(Match(name, each) for name, each in zip(names, similar, strict=True))
        target = Similarity(
            torch.cat([others, vector.expand_as(others)]),
            normalize=metric == "cosine",
            output=embedding.output,
        )
        yield Found(path, matches, _explained(network, path, names, explainer, target))


def _explained(
    network: Network, query: str, matches: Sequence[str], explainer: Explainer, target: Similarity
) -> Explanation:
    """Maps of the query, one per match, and of the matches."""
    images = network.read([query, *matches])
    if images.failed:
        raise InputError("; ".join(f"{each.path}: {each.reason}" for each in images.failed))
    count = len(matches)
    pairs = images.select([0] * count + list(range(1, count + 1)))
    found = explainer(network, pairs, target)
    others = [*matches, *[query] * count]
    return replace(found, labels=tuple((f"similarity to {Path(each).name}",) for each in others))


def _similarities(query: Tensor, vectors: Tensor, metric: Metric) -> Tensor:
    """To every row of (N, D)."""
    if metric == "cosine":
        return F.cosine_similarity(vectors, query[None], dim=1)
    return vectors @ query
