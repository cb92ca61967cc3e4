"""What methods share that follow a layer's activations and gradients on the way from a baseline to a picture."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from seewhy.explainers.base import Computed, Explainer, Workload
from seewhy.explainers.baseline import BEGINNINGS, Beginning, Noise, baselines
from seewhy.explainers.pixels import remarks
from seewhy.explainers.stieltjes import Stretch
from seewhy.explainers.study import Study
from seewhy.explanation import Cost
from seewhy.network.inputs import Arguments
from seewhy.network.layers import Choice, Site
from seewhy.network.precision import in_chunks

State = TypeVar("State")

MOST_STEPS = 4096
_BATCH = 16  # pictures whose head has a graph at once
_GAP = 0.05
_ROUNDING = 1e-5  # of the score, which is no gap


@dataclass(frozen=True)
class Ways:
    """W straight ways, each from a baseline to one of the B pictures under study.

    Attributes:
        arguments: the call with the pictures themselves.
        rows: which picture each way leads to.
        begins: per picture input, where they begin (W, C, H, W).
    """

    arguments: Arguments
    rows: Int[Tensor, " W"]
    begins: Mapping[int | str, Tensor]

    @classmethod
    def to(cls, study: Study, kind: Beginning) -> Ways:
        """The ways to all pictures under study, those to the same picture together."""
        arguments = study.arguments
        found = {key: baselines(study.network, arguments[key], kind) for key in arguments.pictures}
        draws = next(iter(found.values())).shape[1]
        rows = torch.arange(arguments.batch, device=study.scores.device).repeat_interleave(draws)
        return cls(arguments, rows, {key: each.flatten(0, 1) for key, each in found.items()})

    def select(self, ways: Int[Tensor, " N"]) -> Ways:
        """Some of the ways."""
        return Ways(self.arguments, self.rows[ways], {key: each[ways] for key, each in self.begins.items()})

    def at(self, points: Float[Tensor, " S"]) -> tuple[Arguments, Int[Tensor, " N"]]:
        """The call at S points of every way, way by way, and which picture each of the N = W S is made from."""
        count = len(points)
        rows = self.rows.repeat_interleave(count)
        along = points.repeat(len(self.rows))[:, None, None, None]
        shown = {}
        for key, each in self.begins.items():
            begin = each.repeat_interleave(count, 0)
            # Not `lerp`, which rounds otherwise beyond the middle: from a baseline of zero this is t x to the bit.
            shown[key] = begin + (self.arguments[key][rows] - begin) * along.to(begin.dtype)
        return self.arguments.showing(shown, rows), rows

    @property
    def nowhere(self) -> list[bool]:
        """Per way, whether the picture is its own baseline."""
        same = [
            (self.arguments[key][self.rows] == each).flatten(1).all(1) for key, each in self.begins.items()
        ]
        return [bool(each) for each in torch.stack(same).all(0)]


@dataclass(frozen=True)
class Walked:
    """What W ways gave.

    Attributes:
        maps: per site (W, T, h, w), float32.
        gaps: per site by how much the sum along a way misses the change of the score, in shares of the sum of its
            magnitudes (W, T); infinite where one point says nothing about it.
        cost: what it took.
        aside: per site the change of the score that does not go through the layer, in the same shares; where known.
    """

    maps: Mapping[Site, Float[Tensor, "W T h w"]]
    gaps: Mapping[Site, Float[Tensor, "W T"]]
    cost: Cost
    aside: Mapping[Site, Float[Tensor, "W T"]] = field(default_factory=dict)


class LayerPath(Explainer):
    """Base of the methods that integrate over a way from a baseline, at a layer."""

    needs: ClassVar[str] = "a layer with feature maps"

    layer: str | tuple[str, ...] | None = Field(
        default=None, description="Layer or layers, by dotted name. None: the last feature map that counts."
    )
    steps: int = Field(
        default=50, ge=1, le=MOST_STEPS, description="Steps of the way, or how many there are at first."
    )
    tolerance: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Double the steps until the sum along the way misses the change of the score by at most this share "
        f"of the sum of its magnitudes, or there are {MOST_STEPS}; None: as many as said.",
    )
    baseline: Beginning = Field(default="zero", description=f"Where the way begins: {BEGINNINGS}.")

    @abstractmethod
    def points(self, steps: int) -> int:
        """At how many points of the way so many steps look."""

    def ways(self, work: Workload) -> int:
        """How many ways there are at most."""
        return work.pictures * (self.baseline.draws if isinstance(self.baseline, Noise) else 1)

    def visits(self) -> Iterator[int]:
        """Points of one way in each round, if no round is fine enough."""
        steps = self.steps
        yield self.points(steps)
        while self.tolerance is not None and steps < MOST_STEPS:
            steps = min(2 * steps, MOST_STEPS)
            yield self.points(steps)

    def follow(
        self, study: Study, choice: Choice, walk: Callable[[Ways, int], Walked], cost: Cost
    ) -> Computed:
        """Walk all ways, with more steps where they are too few, and average over those to the same picture.

        Args:
            study: the pictures and the question.
            choice: the layers.
            walk: goes some ways in so many steps.
            cost: what was spent before.
        """
        ways = Ways.to(study, self.baseline)
        count = len(ways.rows)
        unknown = study.scores.new_full((count, study.scores.shape[1]), math.inf)
        gaps = {site: unknown.clone() for site in choice.calls}
        aside = {site: torch.zeros_like(unknown) for site in choice.calls}
        maps: dict[Site, Tensor] = {}
        left = torch.arange(count, device=unknown.device)
        steps = self.steps
        while len(left):
            part = left

            def run(start: int, stop: int, part: Tensor = part, steps: int = steps) -> Walked:
                return walk(ways.select(part[start:stop]), steps)

            parts = in_chunks(run, len(left), max(1, _BATCH // steps))
            for site in choice.calls:
                # Where the steps sufficed the map stays, so that it does not depend on what else is asked about.
                coarse = self._coarse(gaps[site][left])
                found = torch.cat([each.maps[site] for each in parts])
                maps.setdefault(site, found.new_zeros((count, *found.shape[1:])))
                maps[site][left] = torch.where(coarse[:, :, None, None], found, maps[site][left])
                gap = torch.cat([each.gaps[site] for each in parts])
                gaps[site][left] = torch.where(coarse, gap, gaps[site][left])
                if site in parts[0].aside:
                    aside[site][left] = torch.cat([each.aside[site] for each in parts])
            cost = sum((each.cost for each in parts), cost)
            if self.tolerance is None or steps == MOST_STEPS:
                break
            left = left[torch.stack([self._coarse(each[left]).any(1) for each in gaps.values()]).any(0)]
            steps = min(2 * steps, MOST_STEPS)
        batch = study.arguments.batch
        means = {site: each.view(batch, -1, *each.shape[1:]).mean(1) for site, each in maps.items()}
        notes = _notes(means, ways, list(gaps.values()), list(aside.values()))
        return Computed(means, notes, choice.reason, cost)

    def _coarse(self, gap: Tensor) -> Tensor:
        """Where more steps are needed; NaN asks for none, it is refused later."""
        return gap > (self.tolerance or 0.0)


def walk(
    study: Study,
    choice: Choice,
    ways: Ways,
    points: Float[Tensor, " S"],
    states: Mapping[Site, State],
    take: Callable[[Site, State, slice, Stretch], State],
    probability: bool = False,
) -> tuple[dict[Site, State], Float[Tensor, "W S T"], Cost]:
    """Visit points of some ways in order, in chunks of them.

    Args:
        study: the question.
        choice: the layers.
        ways: W of them.
        points: S, from 0 to 1.
        states: per site what is known before.
        take: what is known after a chunk of points; it must change nothing, as a chunk that does not fit in memory
            is begun anew.
        probability: differentiate the probability of the classes instead.

    Returns:
        What is known in the end, the scores at the points, and what it took.
    """
    known, scores, count = dict(states), list[Tensor](), len(ways.rows)

    def run(start: int, stop: int) -> Cost:
        arguments, rows = ways.at(points[start:stop])
        reading = study.read(arguments, rows, choice, probability=probability)
        after = {}
        for site, feature in reading.features.items():
            assert feature.gradient is not None
            activation, gradient = (
                each.reshape(count, stop - start, *each.shape[1:])
                for each in (feature.activation, feature.gradient)
            )
            after[site] = take(site, known[site], slice(start, stop), Stretch(activation, gradient))
        known.update(after)
        scores.append(reading.scores.view(count, stop - start, -1))
        return reading.cost

    costs = in_chunks(run, len(points), even(len(points), count))
    return known, torch.cat(scores, 1), sum(costs, Cost())


def even(points: int, ways: int) -> int:
    """Points per chunk, so that chunks are about as large as one another."""
    most = max(1, _BATCH // ways)
    return math.ceil(points / math.ceil(points / most))


def gap_of(
    total: Float[Tensor, "W T"], magnitude: Float[Tensor, "W T"], change: Float[Tensor, "W T"], scores: Tensor
) -> Float[Tensor, "W T"]:
    """By how much a sum misses a change of the score, in shares of the sum of its magnitudes.

    Not of the change, which can be small where large parts cancel.

    Args:
        total: the sum.
        magnitude: the sum of its magnitudes.
        change: of the score.
        scores: (W, T), whose rounding is no gap.
    """
    share = (total - change).abs() / magnitude.clamp_min(1e-30).maximum(_ROUNDING * scores.abs())
    return share.clamp_max(1e6).float()


def gaps_of(
    choice: Choice, together: bool, sums: Mapping[Site, tuple[Tensor, Tensor]], scores: Float[Tensor, "W S T"]
) -> dict[Site, Float[Tensor, "W T"]]:
    """By how much the sums over the points that were visited miss the change of the score between them.

    Args:
        choice: the layers.
        together: the sites share the change, as the layers of several picture inputs do that were chosen; layers
            that were named have all of it each.
        sums: per site the sum and the sum of magnitudes (W, T).
        scores: at the points.
    """
    change, largest = scores[:, -1] - scores[:, 0], scores.abs().amax(1)
    found = {}
    for site in choice.calls:
        if scores.shape[1] < 2:
            found[site] = torch.full_like(change, math.inf)
            continue
        group = [sums[each] for each in choice.calls if together or each.layer == site.layer]
        total, magnitude = (torch.stack(each).sum(0) for each in zip(*group, strict=True))
        found[site] = gap_of(total, magnitude, change, largest)
    return found


def _notes(
    maps: Mapping[Site, Tensor],
    ways: Ways,
    gaps: Sequence[Float[Tensor, "W T"]],
    aside: Sequence[Float[Tensor, "W T"]],
) -> tuple[tuple[str, ...], ...]:
    """Per picture what to know before trusting its maps."""
    batch = ways.arguments.batch
    largest, beside = (
        torch.stack([torch.where(each.isfinite(), each, 0) for each in shares], 2)
        .view(batch, -1)
        .amax(1)
        .tolist()
        for shares in (gaps, aside)
    )
    known = torch.stack([each.isfinite().any(1) for each in gaps], 1).view(batch, -1).any(1).tolist()
    nowhere = torch.tensor(ways.nowhere).view(batch, -1).any(1).tolist()
    found = []
    for row, (told, missed, past, still) in enumerate(zip(known, largest, beside, nowhere, strict=True)):
        own = list(remarks(list(maps.values()), row))
        if still:
            own.append("the picture is its own baseline: there is no way to go")
        if told and not still:
            advice = ": more steps would help, or some of the change does not go through this layer"
            own.append(
                f"the sum along the way misses the change of the score by {_percent(missed)} of its magnitudes"
                + (advice if missed > _GAP else "")
            )
        if past > _GAP:
            own.append(
                f"some of the change of the score does not go through this layer: {_percent(past)} of the magnitudes"
            )
        found.append(tuple(own))
    return tuple(found)


def _percent(share: float) -> str:
    return f"{share:.2%}" if share < 10 else "more than 1000%"
