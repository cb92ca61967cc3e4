"""WeightBank: embeddings of training pictures with the channel weights of each, kept in the store."""

from __future__ import annotations

import json
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from seewhy.artifact import Artifact
from seewhy.embedding.entries import FAR, Entries
from seewhy.embedding.recipe import Recipe
from seewhy.embedding.search import ExactSearch, FaissSearch, Index
from seewhy.errors import InputError, NotApplicableError, StoreError
from seewhy.files import written_whole
from seewhy.network.network import Network
from seewhy.store import Store

HEAD = "bank.json"
"""The file that says which works a bank consists of."""


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
                f"{path} is damaged: it is not what was written; delete it, and the commands that built, appended and "
                "removed, in the same order, write it again; what had been removed comes back until it is removed again"
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


def _seal(body: dict[str, Any]) -> str:
    return sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
