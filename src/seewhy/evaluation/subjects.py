"""What an evaluation explains: the pictures of a dataset, or mosaics of them, with their targets and their truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from seewhy.datasets import Item as Picture
from seewhy.datasets import Manifest
from seewhy.errors import InputError, SeewhyError, TargetError
from seewhy.network.images import Images
from seewhy.network.network import Network, main_output
from seewhy.store import Item
from seewhy.truth import Box, Object, Truth

Question = Literal["label", "predicted"]


@dataclass(frozen=True, eq=False)
class Loaded:
    """Pictures that could be read, and those that could not.

    Attributes:
        ids: of the B pictures that were read.
        images: their inputs.
        targets: of each the numbers of the T classes to explain; None for the predicted one.
        truths: what is known of each; None where of one nothing is.
        failed: the others, with reasons.
    """

    ids: tuple[str, ...]
    images: Images | Tensor
    targets: list[list[int]] | None
    truths: tuple[Truth, ...] | None
    failed: Mapping[str, str]


@runtime_checkable
class Subjects(Protocol):
    """Things to explain, planned before the first is read."""

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
        question: whether a picture's label is explained, or what the network predicts.
    """

    network: Network
    manifest: Manifest
    chosen: tuple[Picture, ...]
    question: Question = "label"
    _by_id: dict[str, Picture] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_id", {each.id: each for each in self.chosen})

    @property
    def items(self) -> tuple[Item, ...]:
        return tuple(Item(each.id, each.sha256, label=next(iter(each.labels), None)) for each in self.chosen)

    @property
    def described(self) -> dict[str, Any]:
        return {"question": self.question, "preprocess": _card(self.network)}

    def path(self, id: str) -> Path:
        """Of one picture's file."""
        return self._by_id[id].path

    def read(self, ids: Sequence[str]) -> Loaded:
        pictures = [self._by_id[each] for each in ids]
        failed: dict[str, str] = {}
        known: dict[str, tuple[int, Truth | None]] = {}
        for each in pictures:
            try:
                index = class_of(each, self.manifest, self.network) if self.question == "label" else -1
                known[each.id] = index, named(each, self.manifest, self.network)
            except SeewhyError as error:
                failed[each.id] = str(error)
        images, good, broken = _read(self.network, [each for each in pictures if each.id in known])
        failed |= broken
        truths = [known[each.id][1] for each in good]
        all_known = tuple(each for each in truths if each is not None)
        return Loaded(
            tuple(each.id for each in good),
            images,
            [[known[each.id][0]] for each in good] if self.question == "label" else None,
            all_known if len(all_known) == len(good) else None,
            failed,
        )


@dataclass(frozen=True)
class Mosaic:
    """Four pictures of different classes, two by two.

    Attributes:
        parts: the four, left to right and top to bottom.
        classes: what the network is sure that each shows.
    """

    parts: tuple[Picture, Picture, Picture, Picture]
    classes: tuple[int, int, int, int]

    @property
    def id(self) -> str:
        return " + ".join(each.id for each in self.parts)


@dataclass(frozen=True, eq=False)
class Mosaics:
    """Mosaics (grid pointing): each of the four classes has its evidence in its own quarter, or elsewhere.

    Args:
        network: with preprocessing.
        mosaics: those to explain, each for its four classes.
        resize: enlarge nothing: bring the mosaic to the size of one picture, for networks of a fixed size.
    """

    network: Network
    mosaics: tuple[Mosaic, ...]
    resize: bool = False

    @property
    def items(self) -> tuple[Item, ...]:
        return tuple(
            Item(each.id, sha256("".join(part.sha256 for part in each.parts).encode()).hexdigest())
            for each in self.mosaics
        )

    @property
    def described(self) -> dict[str, Any]:
        classes = {each.id: list(each.classes) for each in self.mosaics}
        return {"mosaics": classes, "resize": self.resize, "preprocess": _card(self.network)}

    def read(self, ids: Sequence[str]) -> Loaded:
        by_id = {each.id: each for each in self.mosaics}
        good, inputs, truths = [], [], []
        failed: dict[str, str] = {}
        for each in (by_id[id] for id in ids):
            images, _, broken = _read(self.network, each.parts)
            if broken:
                failed[each.id] = "; ".join(f"{name}: {reason}" for name, reason in broken.items())
                continue
            good.append(each)
            inputs.append(tiled(images.pixels, self.resize))
            truths.append(self._truth(each, (inputs[-1].shape[-2], inputs[-1].shape[-1])))
        pixels = torch.stack(inputs) if inputs else torch.zeros(0, 3, 1, 1)
        return Loaded(
            tuple(each.id for each in good),
            pixels.to(self.network.device),
            [list(each.classes) for each in good],
            tuple(truths),
            failed,
        )

    def _truth(self, mosaic: Mosaic, size: tuple[int, int]) -> Truth:
        height, width = size[0] // 2, size[1] // 2
        objects = tuple(
            Object(self.network.class_name(index), Box(x, y, x + width, y + height))
            for index, (y, x) in zip(
                mosaic.classes, ((0, 0), (0, width), (height, 0), (height, width)), strict=True
            )
        )
        return Truth(size, objects)


def draw_mosaics(
    network: Network,
    manifest: Manifest,
    pictures: Sequence[Picture],
    count: int,
    *,
    sure: float = 0.9,
    seed: int = 0,
    batch: int = 16,
) -> Mosaics:
    """Mosaics of pictures that the network is sure of, and right about where their label is known.

    Each draws four of them at random, all of different classes; a picture may be in several mosaics.

    Args:
        network: with preprocessing.
        manifest: the dataset of the pictures.
        pictures: to choose from.
        count: how many mosaics.
        sure: the least probability of the best class.
        seed: of the draws.
        batch: pictures per pass.

    Raises:
        InputError: the network is sure of fewer than four classes.
    """
    by_class: dict[int, list[Picture]] = {}
    for start in range(0, len(pictures), batch):
        images, good, _ = _read(network, pictures[start : start + batch])
        if not good:
            continue
        with network.prepared(images) as arguments, torch.inference_mode():
            output = main_output(arguments.call(network.module)).float()
            best = network.probabilities(output).max(1)
        for each, probability, index in zip(good, best.values.tolist(), best.indices.tolist(), strict=True):
            if probability >= sure and _right(each, manifest, network, index):
                by_class.setdefault(index, []).append(each)
    if len(by_class) < 4:
        raise InputError(
            f"{network.name} is sure (p >= {sure}) of pictures of {len(by_class)} classes; mosaics take four"
        )
    chance = Random(seed)
    found: dict[str, Mosaic] = {}
    for _ in range(20 * count):
        if len(found) == count:
            break
        classes = chance.sample(sorted(by_class), 4)
        parts = [chance.choice(by_class[each]) for each in classes]
        mosaic = Mosaic(tuple(parts), tuple(classes))  # type: ignore[arg-type]
        found.setdefault(mosaic.id, mosaic)
    mosaics = Mosaics(network, tuple(found.values()))
    return mosaics if _takes(network, mosaics) else replace(mosaics, resize=True)


def tiled(pixels: Tensor, resize: bool) -> Tensor:
    """Four inputs (4, C, H, W) as one (C, 2H, 2W), or (C, H, W)."""
    rows = [torch.cat(list(pixels[start : start + 2]), dim=2) for start in (0, 2)]
    whole = torch.cat(rows, dim=1)
    if not resize:
        return whole
    size = (pixels.shape[-2] // 2 * 2, pixels.shape[-1] // 2 * 2)
    shrunk = torch.nn.functional.interpolate(whole[None], size, mode="bilinear", antialias=True)
    return shrunk[0]


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

    Labels are looked up among the network's class names, then by the readable names that the dataset gives; a
    number counts as the class's where the network has no such name.

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
    if network.classes is not None:
        for name in dict.fromkeys((label, manifest.classes.get(label, label))):
            try:
                return network.class_index(name)
            except TargetError:
                continue
    try:
        return manifest.index(label)
    except InputError:
        raise TargetError(
            f"{network.name} has no class {label!r}, and the dataset does not number it; pass the class names "
            "(--classes), or explain predictions instead (--target predicted)"
        ) from None


def _right(picture: Picture, manifest: Manifest, network: Network, index: int) -> bool:
    try:
        return not picture.labels or class_of(picture, manifest, network) == index
    except TargetError:
        return True


def _takes(network: Network, mosaics: Mosaics) -> bool:
    """Whether a network takes pictures of twice the size."""
    try:
        loaded = mosaics.read([mosaics.mosaics[0].id])
        with network.prepared(loaded.images) as arguments, torch.inference_mode():
            arguments.call(network.module)
    except (RuntimeError, ValueError, AssertionError, SeewhyError):
        return False
    return True


def _read(network: Network, pictures: Sequence[Picture]) -> tuple[Images, list[Picture], dict[str, str]]:
    """Inputs of those that can be read, which these are, and why the others cannot."""
    images = network.read([each.path for each in pictures]).to(network.device)
    failed = {failure.path: failure.reason for failure in images.failed}
    good = [each for each in pictures if str(each.path) not in failed]
    broken = {each.id: failed[str(each.path)] for each in pictures if str(each.path) in failed}
    return images, good, broken


def _card(network: Network) -> dict[str, Any]:
    if network.preprocess is None:
        raise InputError(f"it is not known how pictures become the input of {network.name}; pass preprocess=")
    card: dict[str, Any] = network.preprocess.model_dump(mode="json")
    return card
