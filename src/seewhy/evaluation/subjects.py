"""What an evaluation explains: the pictures of a dataset, or mosaics of them, with their targets and their truth."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from seewhy.datasets import Item as Picture
from seewhy.datasets import Manifest
from seewhy.errors import InputError, MissingExtraError, SeewhyError, TargetError
from seewhy.network.images import Images
from seewhy.network.network import Network
from seewhy.store import Item
from seewhy.truth import Truth

Question = Literal["label", "labels", "predicted"]
"""Of a picture: its first label, each of its labels, or what the network predicts."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """Pictures that could be read, and those that could not.

    Attributes:
        ids: of the B pictures that were read.
        images: their inputs.
        targets: of each the numbers of the classes to explain, of one perhaps more than of another; None for the
            predicted one.
        truths: what is known of each; None where the dataset marks objects in none of its pictures.
        failed: the others, with reasons.
    """

    ids: tuple[str, ...]
    images: Images | Tensor
    targets: list[list[int]] | None
    truths: tuple[Truth, ...] | None
    failed: Mapping[str, str]

    def alike(self) -> Iterator[Loaded]:
        """Those that were read, in groups of as many targets each."""
        rows: dict[int, list[int]] = {}
        for row in range(len(self.ids)):
            rows.setdefault(1 if self.targets is None else len(self.targets[row]), []).append(row)
        for own in rows.values():
            yield self if len(own) == len(self.ids) else self.select(own)

    def select(self, rows: Sequence[int]) -> Loaded:
        """Some of those that were read."""
        return Loaded(
            tuple(self.ids[row] for row in rows),
            self.images[list(rows)] if isinstance(self.images, Tensor) else self.images.select(rows),
            None if self.targets is None else [self.targets[row] for row in rows],
            None if self.truths is None else tuple(self.truths[row] for row in rows),
            self.failed,
        )


@runtime_checkable
class Subjects(Protocol):
    """Things to explain, planned before the first is read."""

    @property
    def targets(self) -> int:
        """Classes that each is explained for; the mean, rounded up, where they have not all as many."""

    @property
    def area(self) -> int:
        """How many times as large as a picture each is."""

    @property
    def items(self) -> tuple[Item, ...]:
        """One per row of results."""

    @property
    def described(self) -> dict[str, Any]:
        """How they are made and what is asked of them, as JSON: it belongs to the plan."""

    def read(self, ids: Sequence[str]) -> Loaded:
        """Some of them."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures of a dataset.

    Args:
        network: what will explain them; with preprocessing.
        manifest: the dataset they are from.
        chosen: some of its pictures.
        question: what is explained.
    """

    network: Network
    manifest: Manifest
    chosen: tuple[Picture, ...]
    question: Question = "label"
    area: ClassVar[int] = 1
    _by_id: dict[str, Picture] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_id", {each.id: each for each in self.chosen})

    @property
    def targets(self) -> int:
        if self.question != "labels":
            return 1
        return math.ceil(sum(len(each.labels) for each in self.chosen) / max(len(self.chosen), 1)) or 1

    @property
    def items(self) -> tuple[Item, ...]:
        return tuple(Item(each.id, each.sha256, label=next(iter(each.labels), None)) for each in self.chosen)

    @cached_property
    def described(self) -> dict[str, Any]:
        known = [[each.labels, each.marks] for each in self.chosen]
        return {
            "question": self.question,
            **reading_of(self.network),
            "truth": digest_of(known, self.manifest.classes),
        }

    def path(self, id: str) -> Path:
        """Of one picture's file."""
        return self._by_id[id].path

    def read(self, ids: Sequence[str]) -> Loaded:
        pictures = [self._by_id[each] for each in ids]
        failed: dict[str, str] = {}
        known: dict[str, tuple[list[int], Truth | None]] = {}
        for each in pictures:
            try:
                known[each.id] = self._asked(each), named(each, self.manifest, self.network)
            except MissingExtraError:
                raise  # a fault of the installation, not of the picture
            except SeewhyError as error:
                failed[each.id] = str(error)
        images, good, broken = read_pictures(self.network, [each for each in pictures if each.id in known])
        failed |= broken
        truths = tuple(
            known[each.id][1] or Truth(frame.original)
            for each, frame in zip(good, images.frames, strict=True)
        )
        return Loaded(
            tuple(each.id for each in good),
            images,
            None if self.question == "predicted" else [known[each.id][0] for each in good],
            truths if self.manifest.marks_objects else None,
            failed,
        )

    def _asked(self, picture: Picture) -> list[int]:
        """The network's numbers of the labels to explain; none where its prediction is."""
        if self.question == "predicted":
            return []
        first = class_of(picture, self.manifest, self.network)
        more = picture.labels[1:] if self.question == "labels" else ()
        return list(dict.fromkeys([first, *(_class(each, self.manifest, self.network) for each in more)]))


def digest_of(*values: object) -> str:
    """SHA-256 of JSON values."""
    return sha256(json.dumps(values).encode()).hexdigest()


def sampled(
    manifest: Manifest, count: int | None, seed: int, always: Iterable[str] = ()
) -> tuple[Picture, ...]:
    """So many pictures at random, and some in any case, sorted by id.

    The first pictures of a larger sample with the same seed are those of a smaller one.
    """
    order = list(manifest.faultless)
    Random(seed).shuffle(order)
    chosen = {each.id: each for each in order[:count]}
    wanted = set(always)
    chosen |= {each.id: each for each in order if each.id in wanted}
    return tuple(sorted(chosen.values(), key=lambda each: each.id))


def share_of_picture(picture: Picture) -> float | None:
    """How much of a picture its boxes cover together, in [0, 1]; None where none is known."""
    if picture.size is None or not picture.boxes:
        return None
    covered = torch.zeros(picture.size, dtype=torch.bool)
    for box in picture.boxes:
        covered[max(box.y0, 0) : box.y1, max(box.x0, 0) : box.x1] = True
    return float(covered.double().mean())


def class_of(picture: Picture, manifest: Manifest, network: Network) -> int:
    """The network's number of a picture's label.

    Labels are looked up among the network's class names, then by the readable names that the dataset gives. Where that
    finds none, a label's place in the dataset counts if network and dataset have as many classes, or the network
    names none; and a number, of a dataset that names no classes, is the class's.

    Raises:
        InputError: the picture has no label.
        TargetError: the network has no such class.
    """
    if not picture.labels:
        raise InputError(f"{picture.id} has no label; explain predictions instead (--target predicted)")
    return _class(picture.labels[0], manifest, network)


def named(picture: Picture, manifest: Manifest, network: Network) -> Truth | None:
    """What is known of a picture, its objects called as the network calls their classes; None where nothing is."""
    if picture.size is None or not picture.objects:
        return None
    truth = picture.truth
    objects = tuple(replace(each, label=_name(each.label, manifest, network)) for each in truth.objects)
    return replace(truth, objects=objects)


def _name(label: str, manifest: Manifest, network: Network) -> str:
    try:
        return network.class_name(_class(label, manifest, network))
    except TargetError:
        return label  # something that the network does not know may well be in the picture


def _class(label: str, manifest: Manifest, network: Network) -> int:
    known = network.classes
    if known is not None:
        for name in dict.fromkeys((label, manifest.classes.get(label, label))):
            try:
                return network.class_index(name, whole=True)
            except TargetError:
                continue
    place: int | None
    try:
        place = manifest.index(label)
    except InputError:
        place = None
    ordered_alike = known is None or len(manifest.classes) in (0, len(known))
    if place is None or not ordered_alike or (known is not None and place >= len(known)):
        raise TargetError(
            f"{network.name} has no class {label!r}, and the dataset's order of classes is not that of its outputs; "
            "pass the class names (--classes), or explain predictions instead (--target predicted)"
        )
    return place


def read_pictures(
    network: Network, pictures: Sequence[Picture]
) -> tuple[Images, list[Picture], dict[str, str]]:
    """Inputs of those that can be read, which these are, and why the others cannot."""
    images = network.read([each.path for each in pictures]).to(network.device)
    failed = {failure.path: failure.reason for failure in images.failed}
    good = [each for each in pictures if str(each.path) not in failed]
    broken = {each.id: failed[str(each.path)] for each in pictures if str(each.path) in failed}
    return images, good, broken


def reading_of(network: Network) -> dict[str, Any]:
    """What a network's answers depend on beside its weights, as JSON: its preprocessing, and how outputs are read.

    Raises:
        InputError: it is not known how pictures become its input.
    """
    return {"preprocess": card(network), "head": network.head, "classes": digest_of(network.classes)}


def card(network: Network) -> dict[str, Any]:
    """How pictures become the input of a network, as JSON values.

    Raises:
        InputError: that is not known.
    """
    if network.preprocess is None:
        raise InputError(f"it is not known how pictures become the input of {network.name}; pass preprocess=")
    card: dict[str, Any] = network.preprocess.model_dump(mode="json")
    return card
