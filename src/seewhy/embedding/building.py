"""Building a bank: one forward and one backward of the head for each picture, in batches that the plan foresees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from seewhy.datasets import Item as Picture
from seewhy.datasets import Manifest
from seewhy.embedding.bank import HEAD, Head, WeightBank, bank_folder
from seewhy.embedding.batches import arranged, shuffled
from seewhy.embedding.clusters import clustered
from seewhy.embedding.embedding_grad_cam import strongest
from seewhy.embedding.entries import COLUMNS, Entries, packed, spread
from seewhy.embedding.gallery import Gallery
from seewhy.embedding.recipe import Recipe
from seewhy.embedding.triplets import Triplets
from seewhy.errors import InputError, NotApplicableError, TargetError
from seewhy.evaluation.evaluate import environment
from seewhy.evaluation.subjects import card, read_pictures
from seewhy.explainers.activation import check_finite
from seewhy.explainers.study import Study
from seewhy.network.images import Images
from seewhy.network.network import Network
from seewhy.store import Counts, Failed, Item, Plan, Store
from seewhy.store.commit import remove_leftovers

Progress = Callable[[Counts], object]
_SHARD = 5  # batches


def build_bank(
    network: Network,
    manifest: Manifest,
    folder: str | Path,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
) -> Counts:
    """Build a bank from the pictures of a dataset, or go on with one that was stopped.

    Args:
        network: the network; with preprocessing.
        manifest: the pictures, with labels.
        folder: of the bank; made if need be.
        recipe: how the weights are made.
        progress: called with the counts after each shard.

    Returns:
        How many pictures were asked for, done and failed.

    Raises:
        InputError: another bank is in the folder, or a picture has no label.
        NotApplicableError: the network takes several pictures.
        StoreError: what is kept is damaged, or cannot be written; the message names the file.
    """
    folder, recipe = Path(folder), recipe or Recipe()
    recipe = recipe.model_copy(update={"layer": _layer(network, recipe)})
    builder = _Builder(network, recipe, manifest.faultless, None)
    head = Head.read(folder) if (folder / HEAD).exists() else Head(works=(builder.plan.digest,))
    if head.works[0] != builder.plan.digest:
        raise InputError(f"{folder} holds another bank; choose another folder, or append to it")
    counts = builder.run(folder, progress)
    _finish(folder, head)
    return counts


def append_to_bank(
    network: Network, manifest: Manifest, folder: str | Path, progress: Progress | None = None
) -> Counts:
    """Add the pictures of a dataset; their triplets are chosen among themselves and all that the bank holds.

    Pictures whose ids the bank knows already are passed over, those that were removed, too.

    Raises:
        InputError: nothing is new.
        NotApplicableError: the bank was built with another network or other preprocessing.
        StoreError: what is kept is damaged, or cannot be written; the message names the file.
    """
    folder = bank_folder(folder)
    bank = WeightBank(folder)
    bank.check(network, network.digest)
    entries = _entries(folder, bank.head)
    known = {*entries.ids, *bank.head.removed}
    new = [each for each in manifest.faultless if each.id not in known]
    if not new:
        raise InputError(
            f"none of the {len(manifest.faultless)} pictures of {manifest.root} is new to {folder}"
        )
    builder = _Builder(network, bank.recipe, new, entries, (*bank.head.works, *bank.head.removed))
    counts = builder.run(folder, progress)
    _finish(folder, bank.head.model_copy(update={"works": (*bank.head.works, builder.plan.digest)}))
    return counts


def remove_from_bank(folder: str | Path, ids: Sequence[str]) -> int:
    """Let pictures no longer count; the files that hold them stay as they are.

    Returns:
        How many entries the bank has now.

    Raises:
        InputError: an id that it does not have, or nothing would be left.
        StoreError: what is kept is damaged.
    """
    folder = bank_folder(folder)
    head = Head.read(folder)
    known = set(_entries(folder, head).ids)
    if unknown := [each for each in ids if each not in known]:
        raise InputError(f"{folder} has no picture {unknown[0]!r}; its ids are such as {min(known)!r}")
    return _finish(folder, head.model_copy(update={"removed": tuple(sorted({*head.removed, *ids}))}))


def _finish(folder: Path, head: Head) -> int:
    """Make the clusters, if any, and write down what the bank consists of."""
    entries = _entries(folder, head)
    plan = Store(folder).open(head.works[0]).plan
    if plan.settings["recipe"]["clusters"] is None:
        head = head.model_copy(update={"spread": spread(entries.embeddings)})
    else:
        work, apart = clustered(folder, plan, entries, head)
        head = head.model_copy(update={"spread": apart, "clustered": work.plan.digest})
    remove_leftovers(folder)
    head.write(folder)
    return len(entries)


def _entries(folder: Path, head: Head) -> Entries:
    """The rows of pictures, whatever clusters stand for them."""
    return Entries.of(map(Store(folder).open, head.works), head.removed)


def _layer(network: Network, recipe: Recipe) -> str:
    """The name of the layer, chosen now where none was named, so that it is bound to the bank."""
    target = Triplets(output=recipe.output)
    with network.prepared(network.example_input()) as arguments:
        choice = Study(network, arguments, target, network.digest).layers(recipe.layer)
    if len(choice.calls) != 1:
        raise NotApplicableError(f"{network.name} has several maps there; a bank holds weights of one")
    return str(next(iter(choice.calls)))


@dataclass
class _Builder:
    """One work: the pictures to go through, and what they are compared with beside each other."""

    network: Network
    recipe: Recipe
    pictures: Sequence[Picture]
    known: Entries | None
    after: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.pictures:
            raise InputError("there are no pictures to build from")
        for each in self.pictures:
            if not each.labels:
                raise InputError(f"{each.id} has no label; triplets need to know who belongs together")
        names = sorted(
            {*(each.labels[0] for each in self.pictures), *(self.known.labels if self.known else ())}
        )
        self._numbers = {name: number for number, name in enumerate(names)}
        self._gallery = self._of_bank()
        self.plan = self._planned()

    def run(self, folder: Path, progress: Progress | None) -> Counts:
        """Compute what is missing."""
        return Store(folder).open(self.plan).run(self.rows, progress)

    def rows(self, items: Sequence[Item]) -> list[dict[str, Any] | Failed]:
        """The rows of one batch."""
        by_item = {item.id: self._by_place[item.id] for item in items}
        images, good, broken = read_pictures(self.network, list(by_item.values()))
        failed = dict(broken)
        made: dict[str, dict[str, Any]] = {}
        left = list(range(len(good)))
        while left and not made:
            own = self._with_partners([self._number(good[place]) for place in left])
            kept = [left[place] for place in own]
            for alone in (good[place] for place in left if place not in kept):
                label = alone.labels[0]
                failed[alone.id] = (
                    f"no other picture of {label!r}, or none of anything else, beside it in its batch"
                )
            left = kept
            try:
                made = self._weighed(images.select(kept), [good[place] for place in kept]) if kept else {}
            except TargetError as error:
                # What the bank holds of a class may be this very picture: the others go on without it.
                at_fault = kept if error.place is None else [kept[error.place]]
                failed |= {good[place].id: str(error) for place in at_fault}
                left = [place for place in kept if place not in at_fault]
        return [
            Failed(failed[picture.id]) if picture.id in failed else made[picture.id]
            for picture in by_item.values()
        ]

    def _planned(self) -> Plan:
        labels, recipe = [each.labels[0] for each in self.pictures], self.recipe
        if recipe.mining.tolerance is None:
            order, size = arranged(labels, recipe.batch_size, recipe.seed)
        else:
            order, size = shuffled(len(labels), recipe.batch_size, recipe.seed)
        pictures = [self.pictures[number] for number in order]
        self._by_place = {f"{place:08}/{each.id}": each for place, each in enumerate(pictures)}
        return Plan.model_validate(
            {
                "kind": "weight-bank",
                "items": [Item(id, each.sha256, label=each.labels[0]) for id, each in self._by_place.items()],
                "columns": COLUMNS,
                "settings": {
                    "recipe": recipe.model_dump(mode="json"),
                    "preprocess": card(self.network),
                    "after": list(self.after),
                },
                "network": self.network.digest,
                "environment": environment(self.network),
                "shard_size": _SHARD * size,
                "chunk_size": size,
            }
        )

    def _number(self, picture: Picture) -> float:
        return self._labelled(picture.labels[0])

    def _labelled(self, label: str) -> float:
        if self.recipe.mining.tolerance is None:
            return self._numbers[label]
        try:
            return float(label)
        except ValueError:
            raise InputError(f"the label {label!r} is no number, as a tolerance asks for") from None

    def _of_bank(self) -> Gallery | None:
        if self.known is None:
            return None
        numbers = torch.tensor([self._labelled(each) for each in self.known.labels])
        names = tuple(self._numbers) if self.recipe.mining.tolerance is None else ()
        return Gallery(self.known.embeddings, numbers, names)

    def _with_partners(self, labels: list[float]) -> list[int]:
        """The pictures of a batch that have a positive and a negative, among those and what the bank holds."""
        kept = list(range(len(labels)))
        while kept:
            own = torch.tensor([labels[place] for place in kept])
            others = own if self._gallery is None else torch.cat([self._gallery.labels, own])
            itself = torch.zeros(len(own), len(others), dtype=torch.bool)
            itself[:, len(others) - len(own) :] = torch.eye(len(own), dtype=torch.bool)
            found = [each.any(1) for each in self.recipe.mining.partners(own, others, itself)]
            fine = (found[0] & found[1]).tolist()
            if all(fine):
                break
            kept = [place for place, good in zip(kept, fine, strict=True) if good]
        return kept

    def _weighed(self, images: Images, pictures: Sequence[Picture]) -> dict[str, dict[str, Any]]:
        """One forward and one backward of the head."""
        recipe = self.recipe
        labels = torch.tensor([self._number(each) for each in pictures])
        target = Triplets(
            self._gallery, labels, True, recipe.mining, "for", recipe.normalize, output=recipe.output
        )
        with self.network.prepared(images) as arguments:
            study = Study(self.network, arguments, target, str(self.plan.network))
            choice = study.layers(recipe.layer)
            study.request(choice, True)
            feature = study.feature(next(iter(choice.calls)), True)
            check_finite(feature, study)
            assert feature.gradient is not None
            weights = feature.gradient.mean((-2, -1))[:, 0]
            embeddings = target.vectors_of(study.outputs)
            notes = study.question.notes
        top_k = None if recipe.clusters is not None else recipe.top_k
        if recipe.clusters is None:
            weights = strongest(weights, recipe.top_k, recipe.select)
        rows = packed(embeddings, weights, top_k, recipe)
        more = ({"label": each.labels[0], "remark": note} for each, note in zip(pictures, notes, strict=True))
        return {each.id: {**own, **said} for each, own, said in zip(pictures, rows, more, strict=True)}
