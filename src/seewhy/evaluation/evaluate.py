"""Evaluate methods on a dataset: planned first, kept in shards, resumed by the same call, every method alike."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from seewhy.errors import InputError, MissingExtraError, NotApplicableError, SeewhyError
from seewhy.evaluation.metric import Batch, Metric
from seewhy.evaluation.result import Result
from seewhy.evaluation.subjects import Loaded, Subjects
from seewhy.evaluation.table import Key, Table
from seewhy.explainers.base import Explainer, Workload, explain_all
from seewhy.explanation import Cost, Explanation, joined
from seewhy.network.network import Network
from seewhy.network.precision import fast_in_bfloat16
from seewhy.store import Failed, Item, Plan, Store, Work

_LARGEST = 56  # side of the maps that are kept for looking at
_CHUNK = 16


@dataclass
class Evaluation:
    """Some methods, measured on the same things by the same metrics.

    Each method is a work of its own in the store: adding one computes that one, and those that are there stay. The
    methods of a shard that are missing are computed together, so that they share the pictures, the pass up to the
    layer, and what the metrics compute of the pictures alone.

    Args:
        network: the network.
        explainers: the methods, by the names they get in the results.
        metrics: what is measured of each; their names must differ.
        subjects: pictures or mosaics.
        folder: of the store.
        chunk: pictures per pass, which belongs to the plan.
    """

    network: Network
    explainers: Mapping[str, Explainer]
    metrics: Sequence[Metric]
    subjects: Subjects
    folder: Path
    chunk: int = _CHUNK
    refused: dict[str, str] = field(default_factory=dict, init=False)

    @cached_property
    def works(self) -> dict[str, Work]:
        """What is kept of each method.

        Raises:
            InputError: a metric is asked for twice, or a picture cannot be read.
            StoreError: what is kept is damaged.
        """
        names = [each.name for each in self.metrics]
        if doubled := {name for name in names if names.count(name) > 1}:
            raise InputError(f"{', '.join(sorted(doubled))}: ask for a metric once")
        store, items = Store(self.folder), self.subjects.items
        columns = {
            "labels": "string[]",
            "scores": "float64[]",
            "map": "map",
            "layer": "string",
            "cost": "string",
        }
        for name in names:
            columns |= {name: "float64[]", f"{name}: remarks": "string[]"}
        return {
            name: store.open(
                Plan.model_validate(
                    {
                        "kind": "evaluation",
                        "items": items,
                        "columns": columns,
                        "settings": {
                            "method": each.model_dump(mode="json"),
                            "metrics": [metric.model_dump(mode="json") for metric in self.metrics],
                            "subjects": self.subjects.described,
                        },
                        "network": self.network.digest,
                        "environment": environment(self.network),
                        "shard_size": self.chunk,
                        "chunk_size": self.chunk,
                    }
                )
            )
            for name, each in self.explainers.items()
        }

    @property
    def left(self) -> int:
        """Pictures times methods that are not computed yet."""
        return sum(len(work.plan.shard(number)) for work in self.works.values() for number in work.missing())

    def cost(self, size: tuple[int, int], targets: int = 1) -> dict[str, Cost]:
        """What one picture takes at most, by method; metrics included, what all methods share with the first."""
        found: dict[str, Cost] = {}
        for name, each in self.explainers.items():
            explaining = each.plan(Workload(1, targets, (size,)), self.network)
            once = each.plan(Workload(1, 1, (size,)), self.network)
            own = [metric for metric in self.metrics if not (found and metric.of_pictures)]
            measuring = sum((metric.plan(size, once) for metric in own), Cost())
            found[name] = explaining + measuring.times(targets)
        return found

    def run(self, progress: Callable[[int], object] = lambda done: None) -> None:
        """Compute what is missing; `progress` is told how many pictures times methods were done since.

        A method that is not defined for the network is left out, and `refused` says why. A package that is not
        installed is no fault of a picture: nothing is kept then.

        Raises:
            MissingExtraError: a package is not installed.
            SeewhyError: all methods are refused, or the store cannot be written.
        """
        for work in self.works.values():
            work.remove_leftovers()
        missing = {name: set(work.missing()) for name, work in self.works.items()}
        for number in sorted(set().union(*missing.values())):
            names = [name for name in self.explainers if number in missing[name] and name not in self.refused]
            shared = _Shard(self, names)
            for name in names:
                if name in self.refused:
                    continue
                try:
                    self.works[name].complete(number, partial(shared.rows, name))
                except NotApplicableError:
                    if name not in self.refused:
                        raise
                progress(len(self.works[name].plan.shard(number)))
        if self.explainers and len(self.refused) == len(self.explainers):
            raise SeewhyError("; ".join(f"{name}: {why}" for name, why in self.refused.items()))

    def rows(self, name: str) -> Iterator[dict[str, Any]]:
        """What is kept of one method, picture by picture."""
        if name not in self.refused:
            yield from self.works[name].rows()

    @cached_property
    def failed(self) -> dict[str, str]:
        """Pictures without results, and why: for all methods, or for those that are named."""
        found: dict[str, dict[str, str]] = {}
        for name in self.explainers:
            for row in self.rows(name):
                if row["failed"] is not None:
                    found.setdefault(row["id"], {})[name] = row["failed"]
        asked = len(self.explainers) - len(self.refused)
        return {
            id: next(iter(reasons.values()))
            if len(reasons) == asked and len(set(reasons.values())) == 1
            else "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
            for id, reasons in found.items()
        }

    @cached_property
    def results(self) -> dict[str, dict[str, Result]]:
        """By method and metric; methods without any row are left out."""
        found: dict[str, dict[str, Result]] = {}
        for name in self.explainers:
            rows = [row for row in self.rows(name) if row["failed"] is None]
            if rows:
                found[name] = {each.name: Result(each, _table(each.name, rows)) for each in self.metrics}
        return found


class _Shard:
    """The pictures of one shard, read once, and explained by all methods that still miss it."""

    def __init__(self, evaluation: Evaluation, names: Sequence[str]) -> None:
        self.evaluation = evaluation
        self.names = names
        self.failed: Mapping[str, str] = {}
        self.groups: list[_Group] | None = None

    def rows(self, name: str, items: Sequence[Item]) -> list[dict[str, Any] | Failed]:
        """One method's rows.

        Raises:
            NotApplicableError: the method is not defined for the network.
        """
        if self.groups is None:
            loaded = self.evaluation.subjects.read([item.id for item in items])
            self.failed = loaded.failed
            self.groups = [_Group(self.evaluation, self.names, each) for each in loaded.alike()]
        if name in self.evaluation.refused:
            raise NotApplicableError(self.evaluation.refused[name])
        made: dict[str, dict[str, Any] | Failed] = {id: Failed(why) for id, why in self.failed.items()}
        for group in self.groups:
            made |= group.rows(name)
        return [made[item.id] for item in items]


class _Group:
    """Pictures with as many targets each, and their maps by several methods."""

    def __init__(self, evaluation: Evaluation, names: Sequence[str], loaded: Loaded) -> None:
        self.evaluation = evaluation
        self.names = names
        self.loaded = loaded
        self.explanations: dict[str, Explanation] = {}
        self.wrong: dict[str, dict[str, str]] = {}
        self.of_pictures: dict[tuple[str, ...], dict[Any, Any]] = {}
        self._explain()

    def rows(self, name: str) -> dict[str, dict[str, Any] | Failed]:
        """One method's rows, by picture."""
        wrong = self.wrong.get(name, {})
        made: dict[str, dict[str, Any] | Failed] = {id: Failed(why) for id, why in wrong.items()}
        if (explanation := self.explanations.pop(name, None)) is not None:
            kept = [row for row, id in enumerate(self.loaded.ids) if id not in wrong]
            loaded = self.loaded.select(kept) if wrong else self.loaded
            made |= zip(loaded.ids, self._measured(explanation, loaded), strict=True)
        return made

    def _explain(self) -> None:
        """All methods at once; where one fails, each alone, and where that fails, picture by picture."""
        evaluation = self.evaluation
        names = [name for name in self.names if name not in evaluation.refused]
        try:
            self.explanations = self._maps(names, self.loaded)
        except NotApplicableError as error:
            if error.place is None:
                raise
            evaluation.refused[names[error.place]] = str(error)
            self._explain()
        except MissingExtraError:
            raise
        except SeewhyError:
            for name in names:
                self._alone(name)

    def _alone(self, name: str) -> None:
        try:
            self.explanations |= self._maps([name], self.loaded)
        except NotApplicableError as error:
            self.evaluation.refused[name] = str(error)
        except SeewhyError:
            singles = []
            for row, id in enumerate(self.loaded.ids):
                try:
                    singles.append(self._maps([name], self.loaded.select([row]))[name])
                except SeewhyError as error:
                    self.wrong.setdefault(name, {})[id] = str(error)
            if singles:
                self.explanations[name] = joined(singles)

    def _maps(self, names: Sequence[str], loaded: Loaded) -> dict[str, Explanation]:
        if not names:
            return {}
        methods = [self.evaluation.explainers[name] for name in names]
        found = explain_all(self.evaluation.network, loaded.images, methods, target=loaded.targets)
        return dict(zip(names, found.values(), strict=True))

    def _measured(self, explanation: Explanation, loaded: Loaded) -> list[dict[str, Any]]:
        ids = loaded.ids
        batch = Batch.of(self.evaluation.network, loaded.images, explanation, loaded.truths, ids)
        batch = replace(batch, of_pictures=self.of_pictures.setdefault(ids, {}))
        made: list[dict[str, Any]] = [
            {
                "labels": list(labels),
                "scores": scores,
                "map": kept,
                "layer": ", ".join(map(str, explanation.maps)),
                "cost": explanation.cost_per_picture,
            }
            for labels, scores, kept in zip(
                explanation.labels, explanation.scores.double().tolist(), _small(batch.filled), strict=True
            )
        ]
        for metric in self.evaluation.metrics:
            try:
                found = metric.measured(batch)
            except InputError as error:
                raise InputError(
                    f"{metric.name} cannot be measured of these maps, leave it out: {error}"
                ) from error
            for row, own in enumerate(made):
                own[metric.name] = found.data[row].double().flatten().tolist()
                remarks = [found.remarks.get((row, column), "") for column in range(found.data.shape[1])]
                own[f"{metric.name}: remarks"] = remarks
        return made


def environment(network: Network) -> dict[str, str]:
    """What the last bits of results depend on."""
    from seewhy import __version__

    found = {
        "seewhy": __version__,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(network.device)
        if network.device.type == "cuda"
        else network.device.type,
        "machine": platform.machine(),
    }
    if not fast_in_bfloat16(network.device.type):
        found["auto"] = "float32"  # what settings that ask for the quicker number format get here
    return found


def _small(batch: Batch) -> list[Any]:
    """Evidence (T, h, w) of each picture for looking at, no larger than it needs to be."""
    explanation = batch.explanation
    grid = explanation.grid().float()
    if explanation.rectifies == "grid":
        grid = grid.clamp_min(0)
    size = (min(grid.shape[-2], _LARGEST), min(grid.shape[-1], _LARGEST))
    if size != grid.shape[-2:]:
        grid = torch.nn.functional.adaptive_avg_pool2d(grid, size)
    return list(grid.cpu().numpy())


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    keys: list[Key] = []
    data: list[list[float]] = []
    remarks: dict[Key, str] = {}
    for row in rows:
        values = row[name]
        each = len(values) // len(row["labels"])
        for column, label in enumerate(row["labels"]):
            key = row["id"], label
            keys.append(key)
            data.append([math.nan if v is None else v for v in values[column * each : (column + 1) * each]])
            if remark := row[f"{name}: remarks"][column]:
                remarks[key] = remark
    return Table.sorted(keys, torch.tensor(data, dtype=torch.float64), remarks)
