"""Where a picture's truth says that the evidence should lie, in the frame in which maps are read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from seewhy.errors import InputError, TargetError
from seewhy.evaluation.metric import Batch, Metric
from seewhy.network.network import Network
from seewhy.truth import Mask, Object, Truth

Region = Literal["mask", "box", "mask-or-box"]
Match = Literal["explained", "main"]


class RegionMetric(Metric):
    """Base of the metrics that compare a map with the pixels of objects."""

    match: Match = Field(
        default="explained",
        description="Which objects count: those of the class that a map explains, or those of the picture's label.",
    )
    region: Region = Field(
        default="mask-or-box", description="Their masks, their filled boxes, or masks where there are any."
    )


@dataclass(frozen=True, eq=False)
class Framed:
    """What the network saw of some pictures, all of one size: maps and truths, in the pictures' own pixels.

    Attributes:
        rows: which of the batch (n).
        maps: evidence (n, T, H, W).
        truths: of these pixels; boxes may reach beyond them.
    """

    rows: list[int]
    maps: Float[Tensor, "n T H W"]
    truths: list[Truth]


@dataclass(frozen=True, eq=False)
class Located(Framed):
    """The same with the pixels of objects.

    Attributes:
        inside: the ground truth (n, T, H, W); empty where there is none.
        missing: by place in the batch (row, column), why there is none.
    """

    inside: Bool[Tensor, "n T H W"]
    missing: dict[tuple[int, int], str]


def framed(batch: Batch) -> Iterator[Framed]:
    """Evidence and truth, a size of pictures at a time.

    They are compared in the pictures' own pixels, but not beyond the crop that the network saw, where no map could
    have any evidence. Pictures that came as tensors are the network's input.

    Raises:
        InputError: a truth is of another size than its picture.
    """
    explanation = batch.explanation
    groups: dict[tuple[int, int], list[tuple[int, Tensor, Truth]]] = defaultdict(list)
    for row, truth in enumerate(batch.truths):
        frame = None if explanation.images is None else explanation.images.frames[row]
        size = explanation.size if frame is None else frame.original
        if tuple(truth.size) != tuple(size):
            raise InputError(
                f"picture {row} is read as {tuple(size)} pixels, but its truth is {tuple(truth.size)}; pass the "
                "`Images` that `Network.read` gave, or bring the truth to the network's input"
            )
        if frame is None:
            groups[size].append((row, batch.evidence[row], truth))
        else:
            seen = truth.within(*frame.window)
            evidence = explanation.original(row)[0][(..., *frame.window)]
            groups[seen.size].append((row, evidence.to(batch.pixels.device), seen))
    for group in groups.values():
        maps = torch.stack([maps for _, maps, _ in group])
        yield Framed([row for row, _, _ in group], maps, [truth for _, _, truth in group])


def located(batch: Batch, match: Match, region: Region) -> Iterator[Located]:
    """The same with the pixels of the objects that maps should point at."""
    for part in framed(batch):
        masks = np.zeros(part.maps.shape, bool)
        missing: dict[tuple[int, int], str] = {}
        for place, (row, truth) in enumerate(zip(part.rows, part.truths, strict=True)):
            for column, label in enumerate(batch.explanation.labels[row]):
                found = objects(truth, label, batch.network, match)
                masks[place, column] = union(found, truth.size, region)
                if not found:
                    missing[row, column] = f"the picture shows no {label!r}"
                elif not masks[place, column].any():
                    missing[row, column] = f"nothing of {label!r} is visible"
        inside = torch.from_numpy(masks).to(part.maps.device)
        yield Located(part.rows, part.maps, part.truths, inside, missing)


def objects(truth: Truth, label: str, network: Network, match: Match) -> list[Object]:
    """The objects that a map of this class should point at."""
    if match == "main":
        return [each for each in truth.objects if each.label == truth.label and not ignored(each)]
    return [each for each in truth.objects if same_class(each.label, label, network) and not ignored(each)]


def ignored(thing: Object) -> bool:
    """Whether an annotation marks a region that counts neither for nor against (`attributes["ignore"]`)."""
    return flagged(thing, "ignore")


def flagged(thing: Object, name: str) -> bool:
    """Whether an attribute is set: to anything but nothing, 0, no or false."""
    return thing.attributes.get(name, "").lower() not in ("", "0", "no", "false")


def same_class(label: str, name: str, network: Network) -> bool:
    """Whether a label of the truth is what the network calls by a name."""
    if label == name:
        return True
    if network.classes is None:
        return False
    try:
        return network.class_name(network.class_index(label, whole=True)) == name
    except TargetError:
        return False


def union(found: Sequence[Object], size: tuple[int, int], region: Region) -> Mask:
    """The pixels (H, W) of objects.

    Raises:
        InputError: an object has no mask, and boxes are not asked for.
    """
    pixels = np.zeros(size, bool)
    for each in found:
        if region == "mask" and each.mask is None:
            raise InputError(f"{each.label!r} has no mask; use region='box' or 'mask-or-box'")
        if region == "box" or each.mask is None:
            box = each.box
            pixels[max(box.y0, 0) : max(box.y1, 0), max(box.x0, 0) : max(box.x1, 0)] = True
        else:
            pixels |= each.mask
    return pixels
