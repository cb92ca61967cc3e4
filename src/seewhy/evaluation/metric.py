"""One protocol for all metrics: frozen settings, an accumulating measurement, a frozen result."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from seewhy.errors import InputError
from seewhy.evaluation.ranking import places
from seewhy.evaluation.result import Result
from seewhy.evaluation.table import Key, Table, weighted_mean
from seewhy.explainers.draws import Seed, picture_keys
from seewhy.explanation import Cost, Explanation, upsample
from seewhy.network.network import Network
from seewhy.settings import Settings
from seewhy.truth import Truth

M = TypeVar("M", bound="Metric")
R = TypeVar("R")
Better = Literal["higher", "lower", "neither"]

NOT_FINITE = "the map holds NaN or infinity"
_STATISTICS = {"name", "resamples", "confidence", "seed"}  # settings that change no row


@dataclass(frozen=True, eq=False)
class Batch:
    """Pictures, their maps and their truth, as a metric reads them.

    Attributes:
        network: the network that was explained.
        images: its inputs, as an explainer takes them.
        pixels: the first picture input (B, C, H, W).
        explanation: their maps.
        truths: one per picture; empty where nothing is known of them.
        names: what the pictures are called.
        remembered: what one metric computed and others of the same batch need, too.
        of_pictures: the same of what does not depend on the maps; batches of the same pictures can share it.
    """

    network: Network
    images: Any
    pixels: Float[Tensor, "B C H W"]
    explanation: Explanation
    truths: tuple[Truth, ...]
    names: tuple[str, ...]
    remembered: dict[Any, Any] = field(default_factory=dict)
    of_pictures: dict[Any, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        network: Network | nn.Module,
        images: Any,
        explanation: Explanation,
        truth: Sequence[Truth] | None = None,
        ids: Sequence[str] | None = None,
    ) -> Batch:
        """A batch that any number of metrics can measure; arguments as for `Measurement.update`.

        Raises:
            InputError: the arguments do not fit each other.
        """
        network = Network.of(network)
        with network.prepared(images) as arguments:
            pixels = arguments[arguments.pictures[0]]
            size = arguments.size
        count = len(explanation)
        if len(pixels) != count:
            raise InputError(f"{len(pixels)} pictures, but maps of {count}; select the same rows of both")
        if size != tuple(explanation.size):
            raise InputError(f"pictures of {size}, but maps for inputs of {tuple(explanation.size)}")
        if truth is not None and len(truth) != count:
            raise InputError(f"{len(truth)} truths for {count} pictures; one `Truth` per picture is needed")
        if explanation.images is None and hasattr(images, "frames"):
            explanation = replace(explanation, images=images)
        # A saved explanation is read onto the processor.
        maps = {site: each.to(pixels.device) for site, each in explanation.maps.items()}
        explanation = replace(explanation, maps=maps)
        if ids is None:
            source = images if hasattr(images, "paths") else explanation.images
            ids = source.paths if source is not None else [key.hex() for key in picture_keys(pixels)]
        if len(ids) != count:
            raise InputError(f"{len(ids)} ids for {count} pictures")
        return cls(network, images, pixels, explanation, tuple(truth or ()), tuple(ids))

    @property
    def rows(self) -> list[Key]:
        """The name of each picture and target, picture by picture."""
        labels = self.explanation.labels
        return [(name, label) for name, own in zip(self.names, labels, strict=True) for label in own]

    @cached_property
    def finite(self) -> Bool[Tensor, "B T"]:
        """Which maps hold numbers only."""
        return torch.isfinite(self.explanation.grid()).flatten(2).all(2)

    @cached_property
    def filled(self) -> Batch:
        """The batch with zeros for NaN and infinity, on copies."""
        if bool(self.finite.all()):
            return self
        maps = {site: torch.nan_to_num(each, 0, 0, 0) for site, each in self.explanation.maps.items()}
        return replace(self, explanation=replace(self.explanation, maps=maps), remembered={})

    def once(self, key: Any, compute: Callable[[], R]) -> R:
        """What was computed under this key, now or by another metric of this batch."""
        return _once(self.remembered, key, compute)

    def once_of_pictures(self, key: Any, compute: Callable[[], R]) -> R:
        """What does not depend on the maps, only on the pictures and the classes that are explained."""
        return _once(self.of_pictures, (key, self.explanation.labels), compute)

    @cached_property
    def evidence(self) -> Float[Tensor, "B T H W"]:
        """Rectified, upsampled, not normalised."""
        return self.explanation.evidence()

    @cached_property
    def magnitude(self) -> Float[Tensor, "B T H W"]:
        """The signed values' magnitude, upsampled."""
        return upsample(self.explanation.grid().abs(), self.explanation.size)

    @cached_property
    def keys(self) -> list[bytes]:
        """One per picture, from its pixels: what is drawn for a picture depends on nothing else."""
        return picture_keys(self.pixels)


def _once(kept: dict[Any, Any], key: Any, compute: Callable[[], R]) -> R:
    if key not in kept:
        kept[key] = compute()
    found: R = kept[key]
    return found


@dataclass(frozen=True, eq=False)
class Measured:
    """What a metric found in a batch.

    Attributes:
        data: (B, T, V); NaN throughout where the metric is undefined.
        remarks: per picture and target, why it is undefined or what to know of it.
    """

    data: Float[Tensor, "B T V"]
    remarks: Mapping[tuple[int, int], str] = field(default_factory=dict)


class Metric(Settings, ABC):
    """Base of all metrics: a frozen model of the settings.

    A metric holds no numbers. `start` gives a measurement, which takes batches; calling the metric measures one
    batch and is done. Subclasses give `name` a literal default, describe their fields, and implement `measure`;
    those whose value is no mean of per-picture numbers implement `aggregate`, too.
    """

    title: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    better: ClassVar[Better] = "higher"
    needs_truth: ClassVar[bool] = True
    pictures: ClassVar[int] = 300
    """How many an evaluation takes where nobody says: fewer where each costs hundreds of forwards."""
    tuned: ClassVar[str | None] = None
    """The setting that, where it is None, is chosen for the best value on the pictures themselves."""
    holds: ClassVar[tuple[str, ...]] = ()
    """Metrics whose values are among its details, each under its own name."""
    of_pictures: ClassVar[bool] = False
    """Whether all that it takes, `plan` says how much, is shared by the maps of the same pictures and classes."""

    resamples: int = Field(
        default=10_000, ge=100, le=1_000_000, description="Bootstrap resamples of the pictures."
    )
    confidence: float = Field(default=0.95, gt=0, lt=1, description="Of the interval.")
    seed: Seed = Field(default=0, description="Of the bootstrap and of how ties are ordered.")

    @property
    def preset(self) -> str:
        """The presets that these settings are, else `default` or `custom`."""
        own = self.model_dump(exclude=_STATISTICS)

        def same(settings: Mapping[str, Any]) -> bool:
            return type(self).model_validate(settings).model_dump(exclude=_STATISTICS) == own

        found = [name for name, settings in self.presets.items() if same(settings)]
        return " and ".join(found) or ("default" if same({}) else "custom")

    @property
    def protocol(self) -> str:
        """The settings behind a number, for printing beside it."""
        settings = self.model_dump(exclude=_STATISTICS)
        return ", ".join([self.preset, *(f"{key}={value}" for key, value in settings.items())])

    @property
    def brief(self) -> str:
        """The preset and whatever else differs from the defaults, for lines in which the protocol is too long."""
        usual = type(self).model_validate({}).model_dump()
        changed = {key: value for key, value in self.model_dump().items() if value != usual[key]}
        return ", ".join([self.preset, *(f"{key}={value}" for key, value in changed.items())])

    @abstractmethod
    def measure(self, batch: Batch) -> Measured:
        """What is kept of each picture and target; a picture's row depends on nothing but that picture."""

    def measured(self, batch: Batch) -> Measured:
        """The same of any batch: NaN where a map is not finite.

        Raises:
            InputError: the metric needs truth that is not there.
        """
        if self.needs_truth and not batch.truths:
            raise InputError(f"{self.name} compares maps with what is known of the pictures; pass truth=")
        found = self.measure(batch.filled)  # of maps that are not finite it makes something of zeros
        data = torch.where(batch.finite[..., None], found.data, math.nan).detach()
        return Measured(data, {**found.remarks, **dict.fromkeys(places(~batch.finite), NOT_FINITE)})

    def plan(self, size: tuple[int, int], explaining: Cost) -> Cost:
        """What measuring one map of an input of this size takes, where explaining it once more took so much."""
        return Cost()

    def per_row(self, data: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
        """The metric's number for each row."""
        return data[:, 0]

    def aggregate(self, table: Table, weights: Float[Tensor, "R N"]) -> Float[Tensor, " R"]:
        """The metric's value under each row of weights."""
        return weighted_mean(self.per_row(table.exact), weights)

    def details(self, table: Table) -> dict[str, Tensor]:
        """Further numbers: curves, classes, thresholds."""
        return {}

    @property
    def flatters(self) -> bool:
        """Whether a setting is chosen on the pictures that are reported on; `fixed` takes it from others."""
        return self.tuned is not None and getattr(self, self.tuned) is None

    def tune(self, table: Table) -> Any:
        """The best value of the setting that `tuned` names, on these pictures."""
        raise NotImplementedError

    def fixed(self: M, result: Result) -> M:
        """The same metric with what was best in another result, such as one of another split.

        Raises:
            InputError: nothing of this metric is chosen, or the result is of another one.
        """
        if self.tuned is None:
            raise InputError(f"{self.name} chooses nothing on the pictures")
        own, other = (each.model_dump(exclude={self.tuned}) for each in (self, result.metric))
        if own != other:
            raise InputError(
                f"what {self.name} ({self.protocol}) chooses cannot come from {result.metric.protocol}"
            )
        return self.model_copy(update={self.tuned: result.metric.tune(result.table)})

    def start(self) -> Measurement:
        """An empty measurement with these settings."""
        return Measurement(self)

    def __call__(
        self,
        network: Network | nn.Module,
        images: Any,
        explanation: Explanation,
        truth: Sequence[Truth] | None = None,
        *,
        ids: Sequence[str] | None = None,
    ) -> Result:
        """Measure one batch; arguments as for `Measurement.update`.

        Raises:
            InputError: the arguments do not fit each other.
        """
        measurement = self.start()
        measurement.update(network, images, explanation, truth, ids=ids)
        return measurement.compute()


class Measurement:
    """What was measured so far: rows by picture and target, in any order, from any number of batches or runs."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self._keys: list[Key] = []
        self._known: set[Key] = set()
        self._data: list[Float[Tensor, "N V"]] = []
        self._remarks: dict[Key, str] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def update(
        self,
        network: Network | nn.Module,
        images: Any,
        explanation: Explanation,
        truth: Sequence[Truth] | None = None,
        *,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Measure a batch; nothing is added where this fails.

        Args:
            network: the network that was explained.
            images: its B inputs: a tensor, `Images`, or what else an explainer takes.
            explanation: maps of these pictures (B, T, *grid) at one layer.
            truth: what is known of each picture, in its own pixels.
            ids: what the pictures are called; their paths, or a digest of their pixels, by default.

        Raises:
            InputError: the arguments do not fit each other, or a picture and target was measured already.
        """
        self.add(Batch.of(network, images, explanation, truth, ids))

    def add(self, batch: Batch) -> None:
        """Measure a batch that other metrics measure, too.

        Raises:
            InputError: the metric needs truth that is not there, or a picture and target was measured already.
        """
        keys = batch.rows
        self._refuse(keys)
        found = self.metric.measured(batch)
        width = found.data.shape[1]
        remarks = {keys[row * width + column]: text for (row, column), text in found.remarks.items()}
        self._add(keys, found.data.flatten(0, 1), remarks)

    def merge(self, other: Measurement) -> Measurement:
        """Take over what another measurement holds, such as one of a parallel run.

        Raises:
            InputError: it has other settings, or both measured the same picture and target.
        """
        if other.metric != self.metric:
            raise InputError(
                f"cannot merge {other.metric.name} ({other.metric.protocol}) into {self.metric.name} "
                f"({self.metric.protocol})"
            )
        self._refuse(other._keys)
        for data in other._data:
            self._fitting(data)
        for data in other._data:
            self._data.append(data.to(self._data[0].device) if self._data else data)
        self._keys += other._keys
        self._known |= other._known
        self._remarks |= other._remarks
        return self

    def compute(self) -> Result:
        """The value, its bootstrap interval, and the value of every picture and target.

        Raises:
            InputError: nothing was measured.
        """
        if not self._data:
            raise InputError(f"{self.metric.name}: nothing was measured yet; call `update` first")
        return Result(self.metric, Table.sorted(self._keys, torch.cat(self._data), self._remarks))

    def _refuse(self, keys: Sequence[Key]) -> None:
        """Refuse rows that are there already: a picture counted twice would be a silent error."""
        seen = set(self._known)
        for image, target in keys:
            if (image, target) in seen:
                raise InputError(
                    f"picture {image!r} was measured already for {target!r}; different pictures need different ids"
                )
            seen.add((image, target))

    def _fitting(self, data: Tensor) -> None:
        if self._data and self._data[0].shape[1] != data.shape[1]:
            raise InputError(
                f"{self.metric.name}: rows of {data.shape[1]} numbers beside rows of {self._data[0].shape[1]}; "
                "its pictures must all have one size"
            )

    def _add(self, keys: list[Key], data: Tensor, remarks: dict[Key, str]) -> None:
        self._fitting(data)
        self._data.append(data.to(self._data[0].device) if self._data else data)
        self._keys += keys
        self._known |= set(keys)
        self._remarks |= remarks
