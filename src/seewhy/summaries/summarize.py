"""From the pictures of a class to its summaries: masks, regions, clusters, and what each is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from seewhy.datasets import Manifest
from seewhy.errors import InputError
from seewhy.evaluation.evaluate import environment
from seewhy.explainers.crisp_mask import CrispMask
from seewhy.network.network import Network
from seewhy.store import Store
from seewhy.summaries.clustering import Clustering, Clusters, clustered
from seewhy.summaries.descriptors import Descriptors, Whitening, background, described
from seewhy.summaries.display import one_per_picture
from seewhy.summaries.importance import Asked, completeness, effects
from seewhy.summaries.masks import SKIPPED, mask_work, of_class
from seewhy.summaries.matching import Matching, compared
from seewhy.summaries.proposals import Proposals, proposed
from seewhy.summaries.pruning import distinct, worth
from seewhy.summaries.quality import filtered, likeness, quality
from seewhy.summaries.result import STABLE, Member, Space, Subject, Summaries, Summary
from seewhy.summaries.visible import visible

Progress = Callable[[str, int, int], object]
"""Takes the name of a stage, how many of its steps are done, and how many there are."""


class Recipe(BaseModel):
    """How summaries are made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mask: CrispMask = Field(default_factory=CrispMask, description="What finds the evidence in each picture.")
    proposals: Proposals = Field(
        default_factory=Proposals, description="Which regions of a mask are compared."
    )
    descriptors: Descriptors = Field(default_factory=Descriptors, description="What is compared of them.")
    matching: Matching = Field(default_factory=Matching, description="What makes two regions alike.")
    clustering: Clustering = Field(default_factory=Clustering, description="How regions become summaries.")
    filtered: bool = Field(
        default=False,
        description="Leave out clusters and members that look unlike the rest, as the paper does.",
    )
    seed: int = Field(default=0, description="Of the random places that summaries are compared with.")

    @model_validator(mode="after")
    def _comparable(self) -> Recipe:
        if self.clustering.method == "linkage" and self.matching.kind != "appearance":
            raise ValueError(
                f"clustering 'linkage' is cut at a likeness of appearance that chance seldom gives; "
                f"{self.matching.kind} confidences have no such scale, so choose another clustering"
            )
        return self

    @classmethod
    def paper(cls) -> Recipe:
        """As Godi et al., BMVC 2018, but for their Selective Search: windows within the masks."""
        return cls(
            mask=CrispMask.from_preset("reference"),
            proposals=Proposals(kind="windows", smooth=0.0),
            descriptors=Descriptors(kind="hog"),
            matching=Matching(kind="offsets"),
            clustering=Clustering(method="affinity-propagation", recurring=0.0),
            filtered=True,
        )


def summarize(
    network: Network,
    manifest: Manifest,
    label: str,
    folder: str | Path,
    recipe: Recipe | None = None,
    *,
    target: int | str | None = None,
    pictures: int | None = None,
    batch: int = 4,
    other: Network | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Summaries:
    """The visual summaries of a class (Godi et al., BMVC 2018); masks are kept in a store and computed once.

    Args:
        network: a classifier with preprocessing.
        manifest: a dataset with labels.
        label: the class, as the dataset names it.
        folder: where masks are kept.
        recipe: how.
        target: the class, as the network names or numbers it; `label` by default.
        pictures: how many at most; all of the class by default.
        batch: pictures whose masks are looked for at once.
        other: the network whose feature maps describe regions, where they do; should be another one.
        progress: called as it goes on.

    Raises:
        InputError: no pictures of the class, or none that the network takes for it.
        TargetError: the network has no such class.
        StoreError: what is kept is damaged, or cannot be written.
    """
    recipe = recipe or Recipe()
    wanted = label.replace("_", " ") if target is None else target
    index = network.class_index(wanted) if isinstance(wanted, str) else wanted
    chosen = of_class(manifest, label, pictures)
    work = mask_work(
        network, chosen, index, recipe.mask, Store(folder), batch, environment(network),
        lambda counts: progress("masks", counts.done + counts.failed, counts.asked),
    )  # fmt: skip
    kept = {row["id"]: row for row in work.rows()}
    left_out = {id: row["failed"] for id, row in kept.items() if row["failed"]}
    right = [each for each in chosen if each.id not in left_out]
    if not right:
        reasons = "; ".join(f"{id}: {why}" for id, why in list(left_out.items())[:3])
        raise InputError(f"none of the {len(chosen)} pictures of {label!r} can be summarised: {reasons}")
    images = network.read([each.path for each in right])
    subjects = [
        Subject(each.id, picture, kept[each.id]["mask"], kept[each.id]["probability"], kept[each.id]["masked"],
                str(each.path))
        for each, picture in zip(right, visible(network, images.pixels), strict=True)
    ]  # fmt: skip
    found = summarized(network, images.pixels, subjects, index, recipe, other, progress)
    return replace(
        found,
        label=label,
        skipped={id: why for id, why in left_out.items() if why.startswith(SKIPPED)},
        failed={id: why for id, why in left_out.items() if not why.startswith(SKIPPED)},
    )


def summarized(
    network: Network,
    pixels: Float[Tensor, "B C H W"],
    subjects: Sequence[Subject],
    index: int,
    recipe: Recipe,
    other: Network | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Summaries:
    """The summaries of pictures whose masks are known; their order changes nothing.

    Args:
        network: a classifier.
        pixels: its inputs.
        subjects: the same pictures with their masks.
        index: number of the class.
        recipe: how.
        other: the network whose feature maps describe regions.
        progress: called as it goes on.
    """
    order = sorted(range(len(subjects)), key=lambda place: subjects[place].id)
    subjects, pixels = [subjects[place] for place in order], pixels[order]
    progress("regions", 0, len(subjects))
    regions = _compared(subjects, recipe, other)
    members, similarity, owner = regions.members, regions.similarity, regions.owner
    progress("regions", len(subjects), len(subjects))
    clusters = clustered(similarity, owner, recipe.clustering, regions.cut)
    asked = Asked(network, pixels.to(network.device), index, recipe.seed, recipe.mask.baseline)
    if recipe.filtered:
        clusters = _good(clusters, subjects, members)
    groups = [np.flatnonzero(clusters.labels == number) for number in range(len(clusters))]
    joint = [_joint([members[n] for n in group]) for group in groups]
    progress("importance", 0, len(groups) + 1)
    measured = effects(asked, joint, [each >= STABLE for each in clusters.stability])
    progress("importance", len(groups), len(groups) + 1)
    made = []
    for number, (group, (effect, drops)) in enumerate(zip(groups, measured, strict=True)):
        likeness = similarity[clusters.exemplars[number], group]
        ranked = sorted(range(len(group)), key=lambda n: (-likeness[n], int(group[n])))
        own = tuple(replace(members[group[n]], similarity=float(likeness[n]), summary=number) for n in ranked)
        importance = float(np.clip(drops, 0, None).sum() / len(subjects))
        pictures_with = len(np.unique(owner[group]))
        like = quality(_likeness(subjects, own))
        made.append(Summary(tuple(own), pictures_with, importance, effect, clusters.stability[number], like))
    places = sorted(range(len(made)), key=lambda n: (not made[n].significant, -made[n].importance))
    ranked_made = tuple(
        replace(made[n], members=tuple(replace(each, summary=place) for each in made[n].members))
        for place, n in enumerate(places)
    )
    significant = [each for each in ranked_made if each.significant]
    covered = _joint([member for each in significant for member in each.members])
    everything = dict(_joint(members))
    whole = [everything.get(row, np.zeros_like(each.mask, bool)) for row, each in enumerate(subjects)]
    explained = completeness(asked, whole, covered)
    progress("importance", len(groups) + 1, len(groups) + 1)
    return Summaries(
        label=network.class_name(index),
        network=network.name,
        digest=network.digest,
        settings=_settings(recipe, other),
        subjects=tuple(subjects),
        summaries=ranked_made,
        rest=tuple(each for each, label in zip(members, clusters.labels, strict=True) if label < 0),
        interval=clusters.interval(),
        completeness=explained,
        space=Space(
            regions.whitening,
            tuple(regions.vectors[torch.from_numpy(groups[n])] for n in places),
            regions.cut,
        ),
    )


def transform(
    found: Summaries,
    network: Network,
    pixels: Float[Tensor, "B C H W"],
    index: int,
    recipe: Recipe,
    other: Network | None = None,
) -> list[list[Member]]:
    """Which summaries unseen pictures have, and where: their regions, each with its summary or None.

    Args:
        found: the summaries.
        network: the classifier that they are of.
        pixels: its inputs for the pictures.
        index: number of the class.
        recipe: by which they were found.
        other: the network whose feature maps describe regions.

    Raises:
        InputError: the summaries are of another network.
    """
    if found.space is None or network.digest != found.digest:
        raise InputError(
            f"these are summaries of {found.network}, sha256 {found.digest[:12]}; pass that network"
        )
    masks = recipe.mask(network, pixels, index).grid()[:, 0].cpu().numpy()
    parts = [proposed(each, recipe.proposals) for each in masks]
    raw = described(visible(network, pixels), [boxes for boxes, _ in parts], recipe.descriptors, other)
    return [
        [
            Member(row, _corners(box), mask, likeness, place)
            for box, mask, (place, likeness) in zip(boxes, regions, found.space.assigned(own), strict=True)
        ]
        for row, ((boxes, regions), own) in enumerate(zip(parts, raw, strict=True))
    ]


@dataclass(frozen=True, eq=False)
class _Regions:
    """The regions of all pictures, and how alike they are."""

    members: list[Member]
    owner: np.ndarray
    vectors: Float[Tensor, "N k"]
    similarity: Float[np.ndarray, "N N"]
    whitening: Whitening
    cut: float


def _compared(subjects: Sequence[Subject], recipe: Recipe, other: Network | None) -> _Regions:
    """Propose, describe and compare; of windows that show the same the best matched is kept."""
    parts = [proposed(each.mask, recipe.proposals) for each in subjects]
    boxes = [each for each, _ in parts]
    pictures = [each.picture for each in subjects]
    whitening = background(pictures, recipe.descriptors, other)
    vectors = [whitening(each.double()) for each in described(pictures, boxes, recipe.descriptors, other)]
    height, width = subjects[0].mask.shape
    similarity = compared(vectors, boxes, (height, width), recipe.matching)
    owner = np.concatenate([np.full(len(own), row) for row, own in enumerate(boxes)]).astype(np.int64)
    kept = np.arange(len(owner))
    if recipe.proposals.kind == "windows":
        kept = _pruned(similarity, owner, np.concatenate(boxes))
    members = [
        Member(row, _corners(box), mask)
        for row, (own, masks) in enumerate(parts)
        for box, mask in zip(own, masks, strict=True)
    ]
    return _Regions(
        [members[place] for place in kept],
        owner[kept],
        torch.cat(vectors)[torch.from_numpy(kept)],
        similarity[np.ix_(kept, kept)],
        whitening,
        whitening.bound(recipe.clustering.chance),
    )


def _corners(box: Int[np.ndarray, " 4"]) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = box.tolist()
    return x0, y0, x1, y1


def _good(clusters: Clusters, subjects: Sequence[Subject], members: Sequence[Member]) -> Clusters:
    """Clusters that look no worse than usual, without members that look strange."""
    groups = [np.flatnonzero(clusters.labels == number) for number in range(len(clusters))]
    groups = [
        np.array([first, *(n for n in own if n != first)])
        for own, first in zip(groups, clusters.exemplars, strict=True)
    ]
    alike = [_likeness_of_all(subjects, [members[int(n)] for n in own]) for own in groups]
    labels = np.full_like(clusters.labels, -1)
    kept: list[int] = []
    for number, stay in enumerate(filtered(alike)):
        if stay is not None:
            labels[groups[number][[0, *(n for n in stay if n)]]] = len(kept)
            kept.append(number)
    return Clusters(
        labels,
        tuple(clusters.exemplars[n] for n in kept),
        tuple(clusters.stability[n] for n in kept),
        clusters.counts,
    )


def _pruned(similarity: Float[np.ndarray, "N N"], owner: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The regions of each picture that do not show the same as one that other pictures match better."""
    kept: list[int] = []
    for picture in np.unique(owner):
        own, rest = np.flatnonzero(owner == picture), np.flatnonzero(owner != picture)
        values = worth([similarity[np.ix_(own, rest)]]) if len(rest) else np.zeros(len(own))
        kept += sorted(own[distinct(boxes[own], values)].tolist())
    return np.array(kept, np.int64)


def _likeness(subjects: Sequence[Subject], members: Sequence[Member]) -> np.ndarray:
    """The structural similarity of members, one of each picture, each box brought to the exemplar's."""
    return _likeness_of_all(subjects, one_per_picture(members))


def _likeness_of_all(subjects: Sequence[Subject], shown: Sequence[Member]) -> np.ndarray:
    x0, y0, x1, y1 = shown[0].box
    size = max(8, x1 - x0), max(8, y1 - y0)
    tiles = [
        np.asarray(Image.fromarray(subjects[each.subject].picture).crop(each.box).resize(size))
        for each in shown
    ]
    return likeness(tiles)


def _joint(members: Sequence[Member]) -> list[tuple[int, np.ndarray]]:
    """Per picture the pixels of some regions together."""
    found: dict[int, np.ndarray] = {}
    for each in members:
        found[each.subject] = found[each.subject] | each.mask if each.subject in found else each.mask
    return sorted(found.items())


def _settings(recipe: Recipe, other: Network | None) -> Mapping[str, Any]:
    """How the summaries were made, with the network whose feature maps described regions."""
    settings: dict[str, Any] = recipe.model_dump(mode="json")
    if recipe.descriptors.kind == "features" and other is not None:
        settings["descriptors"] |= {"network": other.name, "digest": other.digest}
    return settings
