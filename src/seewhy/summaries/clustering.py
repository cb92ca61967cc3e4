"""Regions into clusters, and how far their number can be trusted."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field

from seewhy.errors import MissingExtraError

Labels = Int[np.ndarray, " N"]
"""The cluster of each region; -1 of those in none."""
_HALVES = 5  # ways of cutting the regions in two
_MOST = 8  # clusters that the spectral method tries
_STRONG = 0.8  # prediction strength (Tibshirani and Walther, 2005) that so many clusters must have


class Clustering(BaseModel):
    """How regions become clusters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["linkage", "affinity-propagation", "spectral", "hdbscan"] = Field(
        default="linkage",
        description="Average linkage, cut where two random crops would be as alike by a chance of `chance`; affinity "
        "propagation as in the paper, whose number of clusters grows with the number of regions; spectral clustering "
        "into as many as are found again in halves of the regions; or density clusters (HDBSCAN).",
    )
    chance: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="Share of pairs of random crops that are more alike than the cut.",
    )
    preference: float = Field(
        default=1.3, gt=0, description="Of affinity propagation, as a multiple of the median similarity."
    )
    recurring: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Share of the pictures that a cluster must have a region in; three pictures at least.",
    )
    resamples: int = Field(
        default=100, ge=0, description="Times that four fifths of the pictures are clustered anew."
    )
    seed: int = Field(default=0, description="Of what is resampled.")


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of regions, the largest first.

    Attributes:
        labels: per region its cluster, or -1.
        exemplars: per cluster the region most alike to the others.
        stability: per cluster how much of it is found again when pictures are left out: the mean Jaccard index of the
            cluster and its nearest among those of a resample (Hennig, 2007).
        counts: how many clusters each resample gave.
    """

    labels: Labels
    exemplars: tuple[int, ...]
    stability: tuple[float, ...]
    counts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.exemplars)

    def interval(self, share: float = 0.95) -> tuple[int, int]:
        """Between which numbers the middle share of the resamples' counts lies."""
        if not self.counts:
            return len(self), len(self)
        low, high = np.quantile(self.counts, [(1 - share) / 2, (1 + share) / 2], method="nearest")
        return int(low), int(high)


def clustered(
    similarity: Float[np.ndarray, "N N"], owner: Int[np.ndarray, " N"], settings: Clustering, cut: float
) -> Clusters:
    """Clusters, with how far they are found again among fewer pictures.

    Args:
        similarity: of every two regions.
        owner: the picture of each.
        settings: how.
        cut: similarity that random crops exceed by chance alone in the share of pairs that `chance` says.
    """
    pictures = np.unique(owner)
    similarity = (similarity + similarity.T) / 2
    labels = _recurring(_labels(similarity, owner, settings, cut), owner, settings, len(pictures))
    generator = np.random.default_rng(settings.seed)
    number = int(labels.max(initial=-1)) + 1
    overlaps: list[list[float]] = [[] for _ in range(number)]
    counts = []
    size = max(2, round(0.8 * len(pictures)))
    for _ in range(settings.resamples if len(pictures) > 3 else 0):
        kept = np.flatnonzero(np.isin(owner, generator.choice(pictures, size, replace=False)))
        again = _labels(similarity[np.ix_(kept, kept)], owner[kept], settings, cut)
        again = _recurring(again, owner[kept], settings, size)
        counts.append(int(again.max(initial=-1)) + 1)
        for cluster in range(number):
            own = labels[kept] == cluster
            if own.any():
                overlaps[cluster].append(_nearest(own, again))
    exemplars = []
    for cluster in range(number):
        members = np.flatnonzero(labels == cluster)
        exemplars.append(int(members[similarity[np.ix_(members, members)].mean(1).argmax()]))
    stability = tuple(float(np.mean(each)) if each else 0.0 for each in overlaps)
    return Clusters(labels, tuple(exemplars), stability, tuple(counts))


def _labels(
    similarity: Float[np.ndarray, "N N"], owner: Int[np.ndarray, " N"], settings: Clustering, cut: float
) -> Labels:
    """Clusters by one method, numbered anyhow."""
    if len(similarity) < 3:
        return np.full(len(similarity), -1)
    if settings.method == "linkage":
        return _linked(similarity, cut)
    if settings.method == "affinity-propagation":
        return _propagated(similarity, settings)
    if settings.method == "hdbscan":
        return _dense(similarity, owner, settings)
    return _spectral(similarity, settings)


def _linked(similarity: Float[np.ndarray, "N N"], cut: float) -> Labels:
    found = _sklearn("AgglomerativeClustering")(
        n_clusters=None, distance_threshold=max(1 - cut, 1e-9), metric="precomputed", linkage="average"
    ).fit(np.clip(1 - similarity, 0, None))
    return np.asarray(found.labels_)


def _propagated(similarity: Float[np.ndarray, "N N"], settings: Clustering) -> Labels:
    """Affinity propagation (Frey and Dueck, Science 2007) with the paper's settings."""
    shifted = similarity - similarity.max()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what has not converged is -1, and says so in the labels
        found = _sklearn("AffinityPropagation")(
            damping=0.9, max_iter=1000, convergence_iter=100, affinity="precomputed",
            preference=settings.preference * np.median(shifted), random_state=settings.seed,
        ).fit(shifted)  # fmt: skip
    return np.asarray(found.labels_)


def _dense(
    similarity: Float[np.ndarray, "N N"], owner: Int[np.ndarray, " N"], settings: Clustering
) -> Labels:
    """HDBSCAN (Campello, Moulavi and Sander, 2013), its smallest cluster one that recurs."""
    least = min(_least(len(np.unique(owner)), settings), len(similarity))
    distance = np.clip(1 - similarity, 0, None)
    np.fill_diagonal(distance, 0)
    found = _sklearn("HDBSCAN")(
        min_cluster_size=max(2, least),
        min_samples=2,
        metric="precomputed",
        allow_single_cluster=True,
        copy=True,
    ).fit(distance)
    return np.asarray(found.labels_)


def _spectral(similarity: Float[np.ndarray, "N N"], settings: Clustering) -> Labels:
    """As many spectral clusters as halves of the regions agree about (prediction strength)."""
    affinity = np.clip(similarity, 0, None)
    generator = np.random.default_rng(settings.seed)
    halves = [generator.permutation(len(affinity)) for _ in range(_HALVES)]
    best = np.zeros(len(affinity), int)
    for number in range(2, min(_MOST, len(affinity) // 3) + 1):
        whole = _split(affinity, number, settings.seed)
        strength = np.mean([_strength(affinity, half, number, settings.seed) for half in halves])
        if strength >= _STRONG:
            best = whole
    return best


def _split(affinity: Float[np.ndarray, "N N"], number: int, seed: int) -> Labels:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a graph in several pieces is what we look for
        found = _sklearn("SpectralClustering")(number, affinity="precomputed", random_state=seed)
        return np.asarray(found.fit(affinity + 1e-6).labels_)


def _strength(
    affinity: Float[np.ndarray, "N N"], order: Int[np.ndarray, " N"], number: int, seed: int
) -> float:
    """How often two regions of a half stay together when the other half's clusters decide, in the worst cluster."""
    test, train = order[: len(order) // 2], order[len(order) // 2 :]
    if min(len(test), len(train)) <= number:
        return 0.0
    own = _split(affinity[np.ix_(test, test)], number, seed)
    taught = _split(affinity[np.ix_(train, train)], number, seed)
    nearest = np.stack(
        [affinity[np.ix_(test, train[taught == each])].mean(1) for each in range(number)], 1
    ).argmax(1)
    worst = 1.0
    for each in range(number):
        members = nearest[own == each]
        pairs = len(members) * (len(members) - 1)
        together = sum(int(n) * (int(n) - 1) for n in np.bincount(members))
        worst = min(worst, together / pairs if pairs else 0.0)
    return worst


def _recurring(labels: Labels, owner: Int[np.ndarray, " N"], settings: Clustering, pictures: int) -> Labels:
    """Only clusters with regions of enough pictures, numbered from the largest on."""
    least = _least(pictures, settings)
    spread = {int(each): len(np.unique(owner[labels == each])) for each in np.unique(labels) if each >= 0}
    first = {each: int(np.flatnonzero(labels == each)[0]) for each in spread}
    kept = sorted(
        (each for each in spread if spread[each] >= least), key=lambda each: (-spread[each], first[each])
    )
    renamed = np.full(len(labels), -1)
    for place, each in enumerate(kept):
        renamed[labels == each] = place
    return renamed


def _least(pictures: int, settings: Clustering) -> int:
    return max(3, int(np.ceil(settings.recurring * pictures)))


def _nearest(own: np.ndarray, again: Labels) -> float:
    """The Jaccard index of some regions and the cluster most like them."""
    found = [
        (own & (again == each)).sum() / (own | (again == each)).sum()
        for each in np.unique(again)
        if each >= 0
    ]
    return float(max(found, default=0.0))


def _sklearn(name: str) -> Callable[..., Any]:
    try:
        from sklearn import cluster
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "summaries") from error
    found: Callable[..., Any] = getattr(cluster, name)
    return found
