"""The rows of a bank: as tensors, and as the store keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from seewhy.embedding.recipe import Recipe
from seewhy.embedding.search import ExactSearch, sampled
from seewhy.errors import InputError
from seewhy.store import Work
from seewhy.store.plan import ColumnType

FAR = 0.99
"""The share of a bank's own entries whose nearest other is nearer than what counts as far."""
COLUMNS: dict[str, ColumnType] = {
    "embedding": "binary", "channels": "binary", "weights": "binary", "scale": "float32", "label": "string",
    "remark": "string",
}  # fmt: skip
_PREFIX = 9  # of an item's id: its place in the order of building
_TEXTS = ("ids", "labels", "remarks")
_TENSORS = ("embeddings", "channels", "weights", "scales")


@dataclass(frozen=True, eq=False)
class Entries:
    """Rows of a bank.

    Attributes:
        ids: of the pictures, or of the clusters.
        labels: of each; of a cluster that of most of its pictures.
        remarks: what was said when its weights were made.
        embeddings: (N, D).
        channels: (N, k), those whose weights are kept.
        weights: (N, k), as shares of the row's scale.
        scales: (N,).
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    remarks: tuple[str, ...]
    embeddings: Float[Tensor, "N D"]
    channels: Int[Tensor, "N k"]
    weights: Tensor
    scales: Float[Tensor, " N"]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, works: Iterable[Work], removed: Sequence[str] = ()) -> Entries:
        """The rows that are kept in some works, without failed and removed ones.

        Raises:
            StoreError: a file is damaged or missing; the message names it.
            InputError: no row is left.
        """
        parts = [part for part in map(_rows, works) if len(part)]
        if not parts:
            raise InputError("no picture of the bank has weights: `failed` in its rows says why")
        texts: dict[str, Any] = {
            name: tuple(each for part in parts for each in getattr(part, name)) for name in _TEXTS
        }
        tensors: dict[str, Any] = {
            name: torch.cat([getattr(part, name) for part in parts]) for name in _TENSORS
        }
        found = cls(**texts, **tensors)
        gone = set(removed)
        kept = [place for place, id in enumerate(found.ids) if id not in gone]
        if not kept:
            raise InputError("nothing is left in the bank")
        return found if len(kept) == len(found) else found.select(kept)

    def select(self, places: Sequence[int]) -> Entries:
        """Some of the rows."""
        rows = torch.tensor(places)
        texts: dict[str, Any] = {
            name: tuple(getattr(self, name)[place] for place in places) for name in _TEXTS
        }
        return Entries(**texts, **{name: getattr(self, name)[rows] for name in _TENSORS})

    def to(self, device: torch.device) -> Entries:
        """With tensors on a device."""
        moved: dict[str, Any] = {name: getattr(self, name).to(device) for name in _TENSORS}
        return replace(self, **moved)

    def dense(self, places: Int[Tensor, " M"], count: int) -> Float[Tensor, "M K"]:
        """The weights of all channels of some rows; zero where none is kept."""
        kept = self.weights[places].float() * self.scales[places, None]
        return kept.new_zeros((len(places), count)).scatter_(1, self.channels[places].long(), kept)


def packed(
    embeddings: Float[Tensor, "N D"], weights: Float[Tensor, "N K"], top_k: int | None, recipe: Recipe
) -> list[dict[str, Any]]:
    """What a row keeps of each embedding and of its weights, of which at most `top_k` are not zero."""
    count = min(top_k or weights.shape[1], weights.shape[1])
    channels = weights.abs().topk(count, 1).indices.sort(1).values
    kept = weights.gather(1, channels)
    scales = torch.ones(len(kept)).to(kept) if recipe.weights == "float32" else kept.abs().amax(1)
    shares = kept / torch.where(scales > 0, scales, 1.0)[:, None]
    columns = (
        embeddings.float().cpu().numpy().astype("<f4"),
        channels.cpu().numpy().astype("<i4"),
        shares.cpu().numpy().astype("<f2" if recipe.weights == "float16" else "<f4"),
        scales.tolist(),
    )
    return [
        {"embedding": one.tobytes(), "channels": two.tobytes(), "weights": three.tobytes(), "scale": scale}
        for one, two, three, scale in zip(*columns, strict=True)
    ]


def spread(embeddings: Float[Tensor, "N D"]) -> dict[str, float]:
    """Quantiles of the distance from an entry to its nearest other one, of a sample; empty for a single entry."""
    if len(embeddings) < 2:
        return {}
    sample = sampled(embeddings)
    distances, places = ExactSearch(embeddings).search(embeddings[sample], 2)
    others = torch.where(places[:, 0] == sample, distances[:, 1], distances[:, 0])
    return quantiles(others)


def quantiles(distances: Float[Tensor, " N"]) -> dict[str, float]:
    """How far entries lie from what is nearest to them, by share."""
    shares = (0.5, 0.9, FAR, 1.0)
    ordered = distances.double().sort().values
    # Not torch.quantile, which takes 16 million numbers at most.
    return {str(share): float(f"{ordered[int(share * (len(ordered) - 1))]:.6g}") for share in shares}


def _rows(work: Work) -> Entries:
    table = work.table()
    table = table.filter(table.column("failed").is_null())
    count = len(table)

    def numbers(name: str, kind: str) -> Tensor:
        data = b"".join(table.column(name).to_pylist())
        values = np.frombuffer(data, kind) if count else np.empty(0, kind)
        return torch.from_numpy(values.reshape(count, -1 if count else 0).copy())

    def texts(name: str) -> tuple[str, ...]:
        return tuple(table.column(name).to_pylist())

    recipe = Recipe.model_validate(work.plan.settings["recipe"])
    return Entries(
        tuple(id[_PREFIX:] for id in texts("id")),
        texts("label"),
        texts("remark"),
        numbers("embedding", "<f4"),
        numbers("channels", "<i4"),
        numbers("weights", "<f2" if recipe.weights == "float16" else "<f4"),
        torch.tensor(table.column("scale").to_pylist(), dtype=torch.float32),
    )
