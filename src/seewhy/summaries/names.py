"""What summaries might be called: by the parts that a dataset marks, by a file of tags, or by any tagger."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool
from PIL import Image

from seewhy.datasets import Manifest
from seewhy.errors import InputError
from seewhy.network.network import Network
from seewhy.summaries.result import Member, Subject, Summaries
from seewhy.summaries.visible import visible
from seewhy.truth import Mask

Tags = Sequence[tuple[str, float]]
"""What one region might be called, each name with a score from 0 to 1."""
COLUMNS = ("picture", "x0", "y0", "x1", "y1", "name", "score")
_MOST = 5  # names of a summary


@runtime_checkable
class Tagger(Protocol):
    """Whatever says of a region what it shows: a person's list, annotations, a network of pictures and words."""

    def __call__(self, subject: Subject, member: Member) -> Tags:
        """Names of one region of one picture, with scores from 0 to 1."""


@dataclass(frozen=True)
class PartNames:
    """Names from a dataset's masks of parts: the share of a region that lies on each.

    What lies on an object but on none of its parts bears the object's label; the rest is `elsewhere`.

    Args:
        network: that the summaries are of; its preprocessing brings masks to where regions are.
        manifest: of the pictures.
    """

    network: Network
    manifest: Manifest
    _known: dict[str, list[tuple[str, Mask]]] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, subject: Subject, member: Member) -> Tags:
        found: dict[str, float] = defaultdict(float)
        left = member.mask.copy()
        if subject.id not in self._known:
            self._known[subject.id] = self._marked(subject.id)
        for name, mask in self._known[subject.id]:
            on = left & mask
            found[name] += float(on.sum() / member.mask.sum())
            left &= ~on
        found["elsewhere"] = float(left.sum() / member.mask.sum())
        return [(name, share) for name, share in found.items() if share > 0]

    def _marked(self, id: str) -> list[tuple[str, Mask]]:
        """What is marked in a picture, parts first, as the network sees it."""
        objects = self.manifest[id].truth.objects
        named = [(part.name, part.mask) for each in objects for part in each.parts]
        named += [(each.label, each.mask) for each in objects if each.mask is not None]
        return [(name, self._seen(mask)) for name, mask in named]

    def _seen(self, mask: Bool[np.ndarray, "h w"]) -> Mask:
        """A mask of the picture as the network sees it."""
        levels = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).convert("RGB")
        (shown,) = visible(self.network, self.network.read([levels]).pixels)
        found: Mask = shown[..., 0] > 127
        return found


class TagFile:
    """Names from a CSV with the columns picture, x0, y0, x1, y1, name and score: those of `regions.parquet`, tagged.

    A region may have several rows, and a row without a box names all regions of its picture.

    Raises:
        InputError: the file cannot be read, or a row says no such thing; the message names the line.
    """

    def __init__(self, path: str | Path) -> None:
        self._tags: dict[tuple[str, tuple[int, ...] | None], list[tuple[str, float]]] = defaultdict(list)
        try:
            with Path(path).open(newline="", encoding="utf-8-sig") as file:
                rows = csv.DictReader(file)
                if missing := [each for each in COLUMNS if each not in (rows.fieldnames or ())]:
                    raise InputError(f"{path} has no column {missing[0]!r}; it needs {', '.join(COLUMNS)}")
                for row in rows:
                    self._add(row, f"{path}, line {rows.line_num}")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path} cannot be read: {error}") from error

    def __call__(self, subject: Subject, member: Member) -> Tags:
        return [*self._tags.get((subject.id, member.box), ()), *self._tags.get((subject.id, None), ())]

    def _add(self, row: dict[str, str], where: str) -> None:
        edges = [row[each] for each in ("x0", "y0", "x1", "y1")]
        try:
            box = tuple(map(int, edges)) if any(edges) else None
            score = float(row["score"]) if row["score"] else 1.0
        except (TypeError, ValueError):
            raise InputError(
                f"{where}: a box of four whole numbers or none, and a score, are needed"
            ) from None
        if not 0 <= score <= 1 or not row["name"]:
            raise InputError(f"{where}: a name with a score from 0 to 1 is needed")
        self._tags[row["picture"], box].append((row["name"], score))


def named(found: Summaries, tagger: Tagger) -> Summaries:
    """The same summaries with the names of their members: mean scores, the best five.

    Args:
        found: the summaries.
        tagger: says what a region shows.
    """
    return found.named([_names(found, each.members, tagger)[:_MOST] for each in found.summaries])


def entropies(found: Summaries, tagger: Tagger) -> tuple[float, float]:
    """How mixed the names are within summaries, and over all their members together, in bits.

    Summaries that a person could name have less within than over all.

    Args:
        found: the summaries.
        tagger: says what a region shows.
    """
    every = [member for each in found.summaries for member in each.members]
    if not every:
        return 0.0, 0.0
    within = sum(len(each.members) * _bits(_names(found, each.members, tagger)) for each in found.summaries)
    return within / len(every), _bits(_names(found, every, tagger))


def _names(found: Summaries, members: Sequence[Member], tagger: Tagger) -> list[tuple[str, float]]:
    """Mean scores over some regions, the best first."""
    scores: dict[str, float] = defaultdict(float)
    for each in members:
        for name, score in tagger(found.subjects[each.subject], each):
            scores[name] += score / len(members)
    return sorted(scores.items(), key=lambda each: (-each[1], each[0]))


def _bits(names: Tags) -> float:
    total = sum(score for _, score in names)
    return sum(-score / total * math.log2(score / total) for _, score in names if score > 0)
