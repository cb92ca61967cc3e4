"""WeightBank: embeddings of training pictures with the channel weights of each, kept in the store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from seewhy.artifact import Artifact
from seewhy.embedding.batches import LEAST
from seewhy.embedding.embedding_grad_cam import Select
from seewhy.embedding.mining import Mining
from seewhy.embedding.search import ExactSearch, FaissSearch, Index, sampled
from seewhy.errors import InputError, NotApplicableError, StoreError
from seewhy.files import written_whole
from seewhy.network.network import Network
from seewhy.store import Store, Work
from seewhy.store.plan import ColumnType

HEAD = "bank.json"
"""The file that says which works a bank consists of."""
FAR = 0.99
"""The share of a bank's own entries whose nearest other is nearer than what counts as far."""
COLUMNS: dict[str, ColumnType] = {
    "embedding": "binary", "channels": "binary", "weights": "binary", "scale": "float32", "label": "string",
    "remark": "string",
}  # fmt: skip
_PREFIX = 9  # of an item's id: its place in the order of building


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


class Head(BaseModel):
    """What `bank.json` says.

    Attributes:
        works: digests of the plans whose rows the bank holds: that of building, then of what was appended.
        clustered: digest of the plan of their clusters, where there are any.
        removed: ids of rows that no longer count.
        spread: quantiles of the distance from an entry to its nearest other one, by share.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    works: tuple[str, ...]
    clustered: str | None = None
    removed: tuple[str, ...] = ()
    spread: dict[str, float] = {}

    def write(self, folder: Path) -> None:
        """Write `bank.json`, whole, with a seal."""
        body = self.model_dump(mode="json")
        with written_whole(folder / HEAD) as file:
            file.write(json.dumps({**body, "sha256": _seal(body)}, indent=1).encode())

    @classmethod
    def read(cls, folder: Path) -> Head:
        """Read `bank.json`.

        Raises:
            InputError: there is no bank, or it is not finished.
            StoreError: the file is damaged.
        """
        path = folder / HEAD
        try:
            body = json.loads(path.read_bytes())
            if body.pop("sha256") != _seal(body):
                raise ValueError
            return cls.model_validate(body)
        except FileNotFoundError:
            begun = (
                "is not finished; the same `seewhy bank build` goes on"
                if folder.is_dir()
                else "does not exist"
            )
            raise InputError(f"the bank {folder} {begun}: there is no {path}") from None
        except (ValueError, KeyError, AttributeError, ValidationError):
            raise StoreError(
                f"{path} is damaged: it is not what was written; delete it, and the commands that built and appended "
                "write it again, from the weights that are kept"
            ) from None


class Neighbours(NamedTuple):
    """What a bank holds next to B embeddings, the nearest first.

    Attributes:
        places: of the entries.
        distances: to them; Euclidean, of unit vectors where the bank normalises.
        far: whether the nearest is farther than 99 % of the bank's own entries are from theirs.
    """

    places: Int[Tensor, "B n"]
    distances: Float[Tensor, "B n"]
    far: Bool[Tensor, " B"]


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


class WeightBank:
    """A bank that is built: what `TransferCAM` looks up.

    Args:
        folder: of the bank, or its `bank.json`.
        device: where it is searched.

    Raises:
        InputError: there is none.
        StoreError: a file of it is damaged; the message names it.
    """

    def __init__(self, folder: str | Path, device: torch.device | str = "cpu") -> None:
        self.folder = bank_folder(folder)
        self.head = Head.read(self.folder)
        store = Store(self.folder)
        plan = store.open(self.head.works[0]).plan
        self.network = plan.network
        self.recipe = Recipe.model_validate(plan.settings["recipe"])
        self.preprocess: dict[str, Any] = plan.settings["preprocess"]
        digests = (self.head.clustered,) if self.head.clustered else self.head.works
        removed = () if self.head.clustered else self.head.removed
        self.entries = Entries.of(map(store.open, digests), removed).to(torch.device(device))
        self._indexes: dict[str, Index] = {}

    def __repr__(self) -> str:
        return f"WeightBank({len(self.entries)} entries in {str(self.folder)!r})"

    @cached_property
    def far_from(self) -> float:
        """The distance from which an entry is far."""
        return self.head.spread.get(str(FAR), float("inf"))

    def check(self, network: Network, digest: str) -> str:
        """A note where it is not known how the pictures were prepared.

        Raises:
            NotApplicableError: the network, or its preprocessing, is not the one that the bank was built with.
        """
        if digest != self.network:
            raise NotApplicableError(
                f"the bank {self.folder} was built with a network of digest {(self.network or '')[:12]}…, this one's "
                f"is {digest[:12]}…: its weights mean nothing here; build a bank with this network"
            )
        if network.preprocess is None:
            return "it is not known whether these pictures were prepared as the bank's were"
        own = network.preprocess.model_dump(mode="json")
        if differing := sorted(key for key in own if own[key] != self.preprocess.get(key)):
            raise NotApplicableError(
                f"the bank {self.folder} was built with other preprocessing: {', '.join(differing)} differ"
            )
        return ""

    def nearest(self, embeddings: Float[Tensor, "B D"], count: int = 1, index: str = "exact") -> Neighbours:
        """The entries next to some embeddings.

        Args:
            embeddings: as the network gives them.
            count: how many.
            index: `exact`, or the factory text of a faiss index.

        Raises:
            InputError: embeddings of another width, or no such index.
            SeewhyError: the index misses too many neighbours.
        """
        entries = self.entries.embeddings
        if embeddings.shape[1] != entries.shape[1]:
            raise InputError(
                f"embeddings of {embeddings.shape[1]} numbers; the bank's are of {entries.shape[1]}"
            )
        queries = embeddings.detach().to(entries)
        if self.recipe.normalize:
            queries = torch.nn.functional.normalize(queries, dim=1)
        if index not in self._indexes:
            self._indexes[index] = ExactSearch(entries) if index == "exact" else FaissSearch(entries, index)
        distances, places = self._indexes[index].search(queries, count)
        return Neighbours(places, distances, distances[:, 0] > self.far_from)

    def weights(
        self, neighbours: Neighbours, channels: int, temperature: float = 1.0, shuffled: bool = False
    ) -> Float[Tensor, "B K"]:
        """The neighbours' weights, blended by a softmax over minus their distance.

        Args:
            neighbours: from `nearest`.
            channels: of the layer (K).
            temperature: in units of the median distance between an entry and its nearest other.
            shuffled: a control: those of entries drawn at random instead, always the same for each.
        """
        places = neighbours.places
        if shuffled:
            order = torch.randperm(len(self.entries), generator=torch.Generator().manual_seed(0))
            places = order.to(places.device)[places]
        unit = temperature * self.head.spread.get("0.5", 1.0)
        shares = (-neighbours.distances / max(unit, 1e-12)).softmax(1)
        each = self.entries.dense(places.flatten(), channels).view(*places.shape, channels)
        return (shares[:, :, None] * each).sum(1)


def bank_folder(path: str | Path) -> Path:
    """The folder of a bank, from itself or from its `bank.json`."""
    return Path(path).parent if Path(path).name == HEAD else Path(path)


def opened(artifact: Artifact, device: torch.device) -> WeightBank:
    """The bank that a setting names, kept open.

    Raises:
        InputError: `bank.json` has changed since it was chosen.
    """
    artifact.read()
    return _kept(artifact.path, artifact.sha256, str(device))


@lru_cache(maxsize=2)
def _kept(path: Path, _digest: str, device: str) -> WeightBank:
    return WeightBank(path, device)


def verify(folder: str | Path) -> list[Path]:
    """The files of a bank that are missing, or are not what was written.

    Raises:
        InputError: there is no bank.
        StoreError: `bank.json` or a plan is damaged; the message names it.
    """
    folder = bank_folder(folder)
    head, store = Head.read(folder), Store(folder)
    works = [store.open(digest) for digest in (*head.works, *filter(None, [head.clustered]))]
    return [path for work in works for path in (*map(work.path, work.missing()), *work.damaged())]


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


_TEXTS = ("ids", "labels", "remarks")
_TENSORS = ("embeddings", "channels", "weights", "scales")


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


def _seal(body: dict[str, Any]) -> str:
    return sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
