"""What a metric says of a method, with its uncertainty, and how two methods compare on the same pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seewhy.errors import InputError
from seewhy.evaluation.table import Key, Table

if TYPE_CHECKING:
    from seewhy.evaluation.metric import Metric


@dataclass(frozen=True, eq=False)
class Result:
    """A metric's value on some pictures.

    Attributes:
        metric: its settings.
        table: its rows, from which all else follows.
    """

    metric: Metric
    table: Table

    @property
    def keys(self) -> tuple[Key, ...]:
        """Picture and target of each of the N rows, sorted."""
        return self.table.keys

    @cached_property
    def values(self) -> Float[Tensor, " N"]:
        """The number of each picture and target; NaN where it is undefined, and `remarks` says why."""
        return self.metric.per_row(self.table.exact)

    @property
    def defined(self) -> Bool[Tensor, " N"]:
        """Which rows have a value."""
        return torch.isfinite(self.values)

    @property
    def undefined(self) -> int:
        """How many rows have none; no mean counts them."""
        return int((~self.defined).sum())

    @property
    def remarks(self) -> Mapping[Key, str]:
        """Why rows are undefined, or what to know of them."""
        return self.table.remarks

    @cached_property
    def value(self) -> Float[Tensor, ""]:
        """The metric's value over all rows that have one; NaN where none has."""
        return self.metric.aggregate(self.table, _once(self.table))[0]

    @cached_property
    def interval(self) -> Float[Tensor, "2"]:
        """Percentile bootstrap over pictures, seeded; NaN below two pictures with a value."""
        if _pictures(self.keys, self.defined) < 2:
            return torch.full((2,), math.nan, dtype=self.value.dtype, device=self.value.device)
        drawn = self.table.resampled(self.metric.resamples, self.metric.seed)
        return _interval(torch.cat([self.metric.aggregate(self.table, each) for each in drawn]), self.metric)

    @cached_property
    def details(self) -> dict[str, Tensor]:
        """Further numbers of this metric: curves, classes, thresholds."""
        return self.metric.details(self.table)

    def __str__(self) -> str:
        """The value with its interval, its protocol, and how many rows stand behind it."""
        low, high = self.interval.tolist()
        better = (
            "no better direction" if self.metric.better == "neither" else f"{self.metric.better} is better"
        )
        counted = f"{len(self.keys) - self.undefined} of {len(self.keys)} rows"
        number = f"{self.value:.4f} ({low:.4f} to {high:.4f})"
        return f"{self.metric.title} [{self.metric.protocol}]: {number}, {better}, {counted}"

    def __repr__(self) -> str:
        return f"Result({self})"

    def to_json(self) -> dict[str, Any]:
        """Value, interval, settings and rows as JSON values; null where undefined."""
        low, high = self.interval.tolist()
        return {
            "metric": self.metric.name,
            "preset": self.metric.preset,
            "settings": self.metric.model_dump(mode="json"),
            "better": self.metric.better,
            "value": finite_or_none(self.value.item()),
            "interval": [finite_or_none(low), finite_or_none(high)],
            "undefined": self.undefined,
            "rows": [
                {
                    "image": image,
                    "target": target,
                    "value": finite_or_none(value),
                    "remark": self.remarks.get((image, target)),
                }
                for (image, target), value in zip(self.keys, self.values.tolist(), strict=True)
            ],
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """How much more one method has than another, on the pictures where both are defined.

    Attributes:
        difference: first minus second.
        interval: of the difference, by the paired bootstrap.
        p: two-sided bootstrap p, at least one over the number of resamples; NaN below two pictures.
        pictures: how many were compared.
        left_out: rows that only one has, or that are undefined for one.
    """

    difference: Float[Tensor, ""]
    interval: Float[Tensor, "2"]
    p: float
    pictures: int
    left_out: int

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero; only then is one called better."""
        low, high = self.interval.tolist()
        return bool(low > 0 or high < 0)


def compare(first: Result, second: Result) -> Comparison:
    """The paired difference of two methods on the same pictures and targets, first minus second.

    The same resamples of pictures serve both; what a metric chooses from the data, such as a threshold, is chosen
    anew in each.

    Raises:
        InputError: the metrics' settings differ, or no row is defined for both.
    """
    metric, other = first.metric, second.metric
    # Each method may have its own threshold from other pictures; that is part of what is compared.
    chosen = {metric.tuned} if metric.tuned else set()
    if metric.model_dump(exclude=chosen) != other.model_dump(exclude=chosen):
        raise InputError(
            f"only equal protocols compare: {metric.name} ({metric.protocol}) is not {other.name} ({other.protocol})"
        )
    mine, theirs = (
        {key for key, good in zip(each.keys, each.defined.tolist(), strict=True) if good}
        for each in (first, second)
    )
    keys = sorted(mine & theirs)
    if not keys:
        raise InputError(
            "no picture and target is defined for both; were the same pictures explained for the same?"
        )
    tables = [each.table.only(keys) for each in (first, second)]
    whole = [
        each.aggregate(table, _once(table))[0] for each, table in zip((metric, other), tables, strict=True)
    ]
    difference = whole[0] - whole[1].to(whole[0].device)
    pictures = len({image for image, _ in keys})
    left_out = len(set(first.keys) | set(second.keys)) - len(keys)
    if pictures < 2:
        return Comparison(
            difference, torch.full_like(difference, math.nan).expand(2), math.nan, pictures, left_out
        )
    drawn = tables[0].resampled(metric.resamples, metric.seed)
    differences = torch.cat(
        [
            metric.aggregate(tables[0], each)
            - other.aggregate(tables[1], each.to(tables[1].data.device)).to(each.device)
            for each in drawn
        ]
    )
    found = differences[torch.isfinite(differences)]
    shares = [float((found <= 0).double().mean()), float((found >= 0).double().mean())]
    p = min(1.0, max(2 * min(shares), 1 / metric.resamples))
    return Comparison(difference, _interval(differences, metric), p, pictures, left_out)


def holm(p: Sequence[float]) -> list[float]:
    """Holm-adjusted p of several comparisons (Holm, 1979), in their order."""
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=lambda place: p[place])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = highest
    return adjusted


def _once(table: Table) -> Float[Tensor, "1 N"]:
    return torch.ones_like(table.exact[:, :1]).T


def _pictures(keys: Sequence[Key], defined: Bool[Tensor, " N"]) -> int:
    return len({image for (image, _), good in zip(keys, defined.tolist(), strict=True) if good})


def _interval(values: Float[Tensor, " R"], metric: Metric) -> Float[Tensor, "2"]:
    tail = (1 - metric.confidence) / 2
    found = torch.tensor([tail, 1 - tail], dtype=values.dtype, device=values.device)
    return torch.nanquantile(values, found)


def finite_or_none(value: float, digits: int | None = None) -> float | None:
    """A number as JSON has it, rounded where digits are given; None for NaN and infinity."""
    if not math.isfinite(value):
        return None
    return value if digits is None else round(value, digits)
