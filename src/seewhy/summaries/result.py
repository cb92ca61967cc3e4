"""Summaries of a class: what was found, how far it can be trusted, and where it is in other pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seewhy.summaries.descriptors import Picture, Whitening
from seewhy.truth import run_lengths

SIGNIFICANT, STABLE = 0.05, 0.6
"""The chance below which an effect counts, and the stability from which on a cluster is a pattern (Hennig, 2007)."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A picture that summaries were looked for in.

    Attributes:
        id: its name.
        picture: as the network sees it, in RGB.
        mask: (H, W), 1 where the evidence is.
        probability: of the class.
        masked: of the class, when all of the mask is perturbed.
        path: of its file, where there is one.
    """

    id: str
    picture: Picture
    mask: Float[np.ndarray, "H W"]
    probability: float
    masked: float
    path: str = ""


@dataclass(frozen=True, eq=False)
class Member:
    """A region that takes part.

    Attributes:
        subject: place of its picture.
        box: x0, y0, x1, y1 in pixels of the network's input.
        mask: its pixels.
        similarity: to the exemplar of its summary; to itself it is 1.
        summary: place of its summary; None where it belongs to none.
    """

    subject: int
    box: tuple[int, int, int, int]
    mask: Bool[np.ndarray, "H W"]
    similarity: float = 0.0
    summary: int | None = None

    @property
    def area(self) -> float:
        """Share of the picture."""
        return float(self.mask.mean())


@dataclass(frozen=True)
class Effect:
    """What perturbing a summary's regions does, against regions of the same shapes at random places.

    Attributes:
        drop: mean share of the probability that is lost when they alone are perturbed.
        control: the same at random places.
        drop_p: chance of such a difference if their places were random.
        kept: mean share of the probability that is left when all else is perturbed.
        kept_control: the same at random places.
        kept_p: chance of such a difference.
        chance: twice the smaller of both, corrected for the number of stable summaries (Holm, 1979).
    """

    drop: float
    control: float
    drop_p: float
    kept: float
    kept_control: float
    kept_p: float
    chance: float = 1.0


@dataclass(frozen=True, eq=False)
class Summary:
    """A part that recurs in the pictures of a class and counts.

    Attributes:
        members: its regions, the exemplar first, then by their likeness to it.
        pictures: how many have one.
        importance: mean share of the probability lost by perturbing it, over all pictures; 0 where it is absent.
        effect: measured in the pictures that have it.
        stability: how much of it is found again when a fifth of the pictures is left out.
        quality: median structural similarity of its members, each warped to the exemplar; None where there is one.
        names: what it might be called, with scores.
    """

    members: tuple[Member, ...]
    pictures: int
    importance: float
    effect: Effect
    stability: float
    quality: float | None = None
    names: tuple[tuple[str, float], ...] = ()

    @property
    def significant(self) -> bool:
        """Whether it is found again, and does more than regions at random places."""
        return self.effect.chance < SIGNIFICANT and self.stability >= STABLE

    @property
    def exemplar(self) -> Member:
        """The member most like the others."""
        return self.members[0]


@dataclass(frozen=True, eq=False)
class Summaries:
    """The visual summaries of a class, the most important first.

    Attributes:
        label: the class.
        network: name of the network.
        digest: of its structure and weights.
        settings: how they were found.
        subjects: the pictures that took part.
        summaries: significant ones first, by importance.
        rest: regions in no summary.
        interval: 95 % interval of the number of clusters when pictures are left out.
        completeness: share of what the masks cost that the significant summaries' regions cost.
        skipped: pictures that the network takes for something else, by id with the reason.
        failed: pictures that could not be used, by id with the reason.
    """

    label: str
    network: str
    digest: str
    settings: Mapping[str, Any]
    subjects: tuple[Subject, ...]
    summaries: tuple[Summary, ...]
    rest: tuple[Member, ...]
    interval: tuple[int, int]
    completeness: float
    skipped: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    space: Space | None = None

    def __len__(self) -> int:
        return len(self.significant)

    @property
    def significant(self) -> tuple[Summary, ...]:
        """The summaries that are found again and have an effect."""
        return tuple(each for each in self.summaries if each.significant)

    @property
    def asked(self) -> int:
        """Pictures that were asked for: those that took part, were skipped, or failed."""
        return len(self.subjects) + len(self.skipped) + len(self.failed)

    def named(self, names: Sequence[Sequence[tuple[str, float]]]) -> Summaries:
        """The same summaries with names, in order."""
        pairs = zip(self.summaries, names, strict=True)
        return replace(self, summaries=tuple(replace(each, names=tuple(own)) for each, own in pairs))

    def to_json(self) -> dict[str, Any]:
        """As JSON values; masks as COCO's run lengths."""

        def region(each: Member) -> dict[str, Any]:
            return {
                "picture": self.subjects[each.subject].id,
                "box": list(each.box),
                "area": each.area,
                "similarity": each.similarity,
                "mask": run_lengths(each.mask),
            }

        return {
            "class": self.label,
            "network": self.network,
            "digest": self.digest,
            "asked": self.asked,
            "pictures": {
                each.id: {"probability": each.probability, "masked": each.masked} for each in self.subjects
            },
            "skipped": dict(self.skipped),
            "failed": dict(self.failed),
            "count": len(self),
            "count_interval": list(self.interval),
            "completeness": self.completeness,
            "settings": dict(self.settings),
            "summaries": [
                {
                    "number": place + 1,
                    "significant": each.significant,
                    "names": [list(name) for name in each.names],
                    "pictures": each.pictures,
                    "importance": each.importance,
                    "stability": each.stability,
                    "quality": each.quality,
                    "effect": vars(each.effect),
                    "members": [region(member) for member in each.members],
                }
                for place, each in enumerate(self.summaries)
            ],
            "rest": [region(each) for each in self.rest],
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row per region: its picture, summary (0 for none), box, area and likeness to the exemplar."""
        every = [
            (place + 1, each.significant, member)
            for place, each in enumerate(self.summaries)
            for member in each.members
        ]
        every += [(0, False, member) for member in self.rest]
        return [
            {
                "picture": self.subjects[member.subject].id,
                "summary": place,
                "significant": significant,
                "x0": member.box[0],
                "y0": member.box[1],
                "x1": member.box[2],
                "y1": member.box[3],
                "area": member.area,
                "similarity": member.similarity,
            }
            for place, significant, member in every
        ]


@dataclass(frozen=True, eq=False)
class Space:
    """What regions of other pictures are compared in.

    Attributes:
        whitening: of raw descriptors.
        vectors: per summary the whitened descriptors of its members.
        cut: mean similarity that a region must have to a summary's members.
    """

    whitening: Whitening
    vectors: tuple[Float[Tensor, "_ k"], ...]
    cut: float

    def assigned(self, raw: Float[Tensor, "R D"]) -> list[tuple[int | None, float]]:
        """Per region the summary that it is of, or None, and its mean similarity to the nearest one's members."""
        if not self.vectors or not len(raw):
            return [(None, 0.0)] * len(raw)
        own = self.whitening(raw.double())
        mean = torch.stack([(own @ each.T).mean(1) for each in self.vectors], 1)
        best = mean.max(1)
        return [
            (int(place) if value >= self.cut else None, float(value))
            for value, place in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
