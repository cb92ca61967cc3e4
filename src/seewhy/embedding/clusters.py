"""Banks of clusters: the mean weights of what lies together, instead of those of each picture."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seewhy.embedding.bank import Head
from seewhy.embedding.embedding_grad_cam import strongest
from seewhy.embedding.entries import COLUMNS, Entries, packed, quantiles
from seewhy.embedding.recipe import Recipe
from seewhy.errors import MissingExtraError
from seewhy.store import Item, Plan, Store, Work


def clustered(folder: Path, plan: Plan, entries: Entries, head: Head) -> tuple[Work, dict[str, float]]:
    """Cluster the entries of a bank by k-means, and keep the mean weights of each.

    The strongest channels are chosen after averaging, so the entries must hold all of them.

    Args:
        folder: of the bank.
        plan: of its building.
        entries: that count.
        head: which works these are from.

    Returns:
        The work that keeps them, and quantiles of the distance from an entry to its centre.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    recipe = Recipe.model_validate(plan.settings["recipe"])
    count = min(recipe.clusters or 1, len(entries))
    decided = f"{head.works} {head.removed}".encode()
    names = [f"{number:08}/cluster {number}" for number in range(count)]
    clusters = plan.model_copy(
        update={
            "kind": "weight-bank-clusters",
            "items": tuple(Item(name, sha256(decided).hexdigest()) for name in names),
            "settings": {**plan.settings, "of": list(head.works), "removed": list(head.removed)},
            "columns": COLUMNS,
        }
    )
    work = Store(folder).open(Plan.model_validate(clusters.model_dump()))
    centres, members = k_means(entries.embeddings, count, recipe)
    rows = dict(zip(names, _rows(entries, centres, members, recipe), strict=True))
    work.run(lambda items: [rows[item.id] for item in items])
    return work, quantiles((entries.embeddings - centres[members]).norm(dim=1))


def k_means(
    embeddings: Float[Tensor, "N D"], count: int, recipe: Recipe
) -> tuple[Float[Tensor, "C D"], Int[Tensor, " N"]]:
    """Centres, at unit length where embeddings are, and the centre next to each embedding."""
    try:
        from sklearn.cluster import KMeans
    except ImportError:
        raise MissingExtraError("scikit-learn", "clustering") from None
    found = KMeans(count, n_init=1, random_state=recipe.seed).fit(embeddings.numpy())
    centres = torch.from_numpy(found.cluster_centers_).to(embeddings)
    if recipe.normalize:
        centres = torch.nn.functional.normalize(centres, dim=1)
    return centres, torch.from_numpy(found.labels_).long()


def _rows(
    entries: Entries, centres: Float[Tensor, "C D"], members: Int[Tensor, " N"], recipe: Recipe
) -> list[dict[str, Any]]:
    count, channels = len(centres), entries.channels.shape[1]
    sums = torch.zeros(count, channels, dtype=torch.float64)
    for start in range(0, len(entries), 4096):
        places = torch.arange(start, min(start + 4096, len(entries)))
        sums.index_add_(0, members[places], entries.dense(places, channels).double())
    sizes = members.bincount(minlength=count)
    means = (sums / sizes[:, None].clamp_min(1)).float()
    rows = packed(centres, strongest(means, recipe.top_k, recipe.select), recipe.top_k, recipe)
    for number, row in enumerate(rows):
        inside = Counter(entries.labels[place] for place in (members == number).nonzero().flatten().tolist())
        label, most = min(inside.items(), key=lambda each: (-each[1], each[0]), default=("", 0))
        row |= {"label": label, "remark": f"the mean of {sizes[number]} pictures, {most} of them {label}"}
    return rows
