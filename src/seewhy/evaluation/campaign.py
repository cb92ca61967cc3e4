"""A whole evaluation: which pictures, how many for what, which subsets; then values, ranks, comparisons, verdicts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from seewhy.datasets import Manifest
from seewhy.errors import InputError, TargetError
from seewhy.evaluation.controls import controls
from seewhy.evaluation.evaluate import Evaluation
from seewhy.evaluation.max_box_acc import MaxBoxAcc
from seewhy.evaluation.metric import Metric
from seewhy.evaluation.randomisation import Randomisation, randomise
from seewhy.evaluation.result import Result, compare, holm
from seewhy.evaluation.subjects import (
    Mosaics,
    Pictures,
    Question,
    class_of,
    draw_mosaics,
    sampled,
    share_of_picture,
)
from seewhy.explainers.base import Explainer, Workload
from seewhy.files import written_whole
from seewhy.network.network import Network

STRICT = (0.33, 0.2, 0.1)
"""Pictures whose boxes cover less than this: on others the centre is on the object anyway."""
SAMPLE = "random sample"
_FEWEST = 10  # pictures that a subset must have to get a table
_TUNED = 3  # of every so many pictures one chooses thresholds and is not reported on
_AFFORDABLE = 60  # forwards per map, above which maps of random networks are not looked at
_PER_MOSAIC = 4


@dataclass(frozen=True)
class Options:
    """What an evaluation is asked to do.

    Attributes:
        samples: pictures; where None, 300, and 30 for metrics that take hundreds of forwards each.
        seed: of all that is drawn.
        question: what is explained: labels, predictions, or labels where all are known.
        strict: take all pictures whose boxes cover less than a third, beside the sample.
        sanity: look at maps of networks with random weights, too.
        chunk: pictures per pass.
    """

    samples: int | None = None
    seed: int = 0
    question: Question | Literal["auto"] = "auto"
    strict: bool = False
    sanity: bool = False
    chunk: int = 16


@dataclass(frozen=True, eq=False)
class Part:
    """Metrics that are measured on the same pictures.

    Attributes:
        title: what it is called.
        evaluation: the work.
        subsets: some of its pictures, by name; the first ones are the random sample.
    """

    title: str
    evaluation: Evaluation
    subsets: Mapping[str, frozenset[str]]


@dataclass(eq=False)
class Campaign:
    """Methods and controls, measured on a dataset; everything long is kept in `folder` and resumed.

    Args:
        network: with preprocessing.
        manifest: the dataset.
        explainers: the methods.
        metrics: what is measured.
        folder: for what is kept.
        options: the rest.

    Raises:
        InputError: no pictures, or labels that are asked for and not known.
    """

    network: Network
    manifest: Manifest
    explainers: Sequence[Explainer]
    metrics: Sequence[Metric]
    folder: Path
    options: Options = Options()
    left_out: dict[str, str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if not self.manifest.faultless:
            raise InputError(f"{self.manifest.root} holds no picture that could be read")

    @cached_property
    def named(self) -> dict[str, Explainer]:
        """Methods, then controls, by what they are called in tables."""
        found: dict[str, Explainer] = {}
        for each in (*self.explainers, *controls(self.options.seed)):
            name, count = each.name, sum(name.partition("#")[0] == each.name for name in found)
            found[f"{name}#{count + 1}" if count else name] = each
        return found

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Those that are no controls."""
        return tuple(self.named)[: len(self.explainers)]

    @cached_property
    def question(self) -> Question:
        """What is explained: labels where every picture has one that the network knows."""
        if self.options.question != "auto":
            return self.options.question
        try:
            for each in self.manifest.faultless:
                class_of(each, self.manifest, self.network)
        except (InputError, TargetError):
            return "predicted"
        return "label"

    @cached_property
    def parts(self) -> list[Part]:
        """The works, planned; metrics that need truth that is not there are left out, with the reason."""
        everything = self.manifest.faultless
        shares = {each.id: share for each in everything if (share := share_of_picture(each)) is not None}
        wide: list[Metric] = []
        deep: list[Metric] = []
        mosaics: list[Metric] = []
        for each in self.metrics:
            if each.name == "grid-pointing":
                mosaics.append(each)
            elif each.needs_truth and not all(picture.objects for picture in everything):
                self.left_out[each.name] = "the dataset has pictures in which it marks no object"
            else:
                (wide if each.pictures >= 300 else deep).append(each)
        found = []
        for title, metrics, count in (
            ("pictures", wide, self.options.samples or 300),
            ("fewer pictures", deep, self.options.samples or 30),
        ):
            if metrics:
                strict = (
                    [id for id, share in shares.items() if share < STRICT[0]] if title == "pictures" else []
                )
                found.append(self._part(title, metrics, count, strict, shares))
        if mosaics and (part := self._mosaics(mosaics)):
            found.append(part)
        if not found:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.left_out.items())
            raise InputError(f"nothing can be measured: {reasons or 'no metric was asked for'}")
        return found

    def _part(
        self,
        title: str,
        metrics: list[Metric],
        count: int,
        strict: Sequence[str],
        shares: Mapping[str, float],
    ) -> Part:
        drawn = sampled(self.manifest, count, self.options.seed)
        always = strict if self.options.strict else ()
        chosen = sampled(self.manifest, count, self.options.seed, always)
        ids = {each.id for each in chosen}
        subsets = {SAMPLE: frozenset(each.id for each in drawn)}
        if len(chosen) > len(drawn):
            subsets[f"{SAMPLE} and every picture whose boxes cover less than {STRICT[0]:.0%}"] = frozenset(
                ids
            )
        if title == "pictures" and any(metric.needs_truth for metric in metrics):
            for limit in STRICT:
                some = frozenset(id for id in ids if shares.get(id, 1) < limit)
                if len(some) >= _FEWEST:
                    subsets[f"boxes below {limit:.0%} of the picture"] = some
        subjects = Pictures(self.network, self.manifest, chosen, self.question)
        return Part(title, self._evaluation(metrics, subjects), subsets)

    def _mosaics(self, metrics: list[Metric]) -> Part | None:
        count = max((self.options.samples or 300) // _PER_MOSAIC, 2)
        try:
            subjects = draw_mosaics(
                self.network, self.manifest, self.manifest.faultless, count, seed=self.options.seed
            )
        except InputError as error:
            self.left_out["grid-pointing"] = str(error)
            return None
        return Part(
            "mosaics", self._evaluation(metrics, subjects), {SAMPLE: frozenset(e.id for e in subjects.items)}
        )

    def _evaluation(self, metrics: list[Metric], subjects: Pictures | Mosaics) -> Evaluation:
        chunk = max(1, self.options.chunk // (_PER_MOSAIC if isinstance(subjects, Mosaics) else 1))
        return Evaluation(self.network, self.named, metrics, subjects, self.folder, chunk)

    def run(self, progress: Callable[[int], object] = lambda done: None) -> None:
        """Compute what is missing.

        Raises:
            SeewhyError: all methods are refused, or what is kept cannot be written.
        """
        for part in self.parts:
            part.evaluation.run(progress)

    @cached_property
    def sanity(self) -> Randomisation | None:
        """Maps under random weights, of methods that are affordable; None where that was not asked for.

        The others are in `left_out`, as `randomisation of METHOD`.
        """
        if not self.options.sanity:
            return None
        size = self._size
        methods = [self.named[name] for name in self.methods]
        for each in list(methods):
            forwards = each.plan(Workload(1, 1, (size,)), self.network).forwards
            if forwards > _AFFORDABLE or any(each.name in part.evaluation.refused for part in self.parts):
                methods.remove(each)
                if forwards > _AFFORDABLE:
                    self.left_out[f"randomisation of {each.name}"] = f"a map takes {forwards} forwards"
        if not methods:
            return None
        chosen = sampled(self.manifest, self.options.samples or 30, self.options.seed)[:30]
        images = self.network.read([each.path for each in chosen]).to(self.network.device)
        return randomise(methods, self.network, images, batch=self.options.chunk)

    @property
    def _size(self) -> tuple[int, int]:
        first = self.network.read([self.manifest.faultless[0].path])
        return (first.pixels.shape[-2], first.pixels.shape[-1])

    def results(self, part: Part, subset: str) -> dict[str, dict[str, Result]]:
        """By method and metric, of some pictures; thresholds are those of pictures that are not reported on."""
        chosen = part.subsets[subset]
        found: dict[str, dict[str, Result]] = {}
        for name, own in part.evaluation.results.items():
            found[name] = {each: _reported(result, chosen) for each, result in own.items()}
        return found

    def to_json(self) -> dict[str, Any]:
        """Everything that was found, as JSON values; null where undefined."""
        parts = []
        for part in self.parts:
            asked = len(part.evaluation.subjects.items)
            tables = {name: _table(self.results(part, name), self.methods) for name in part.subsets}
            parts.append(
                {
                    "title": part.title,
                    "asked": asked,
                    "explained": asked - len(part.evaluation.failed),
                    "failed": part.evaluation.failed,
                    "refused": part.evaluation.refused,
                    "metrics": [
                        {
                            "name": each.name,
                            "title": each.title,
                            "better": each.better,
                            "protocol": each.protocol,
                        }
                        for each in part.evaluation.metrics
                    ],
                    "tables": tables,
                }
            )
        sanity = self._kept_sanity()
        return {
            "network": self.network.name,
            "digest": self.network.digest,
            "dataset": str(self.manifest.root),
            "kind": self.manifest.kind,
            "faults": [str(each) for each in self.manifest.errors],
            "target": self.question,
            "seed": self.options.seed,
            "methods": {name: each.model_dump(mode="json") for name, each in self.named.items()},
            "controls": [name for name in self.named if name not in self.methods],
            "parts": parts,
            "sanity": sanity,
            "left_out": self.left_out,
        }

    def _kept_sanity(self) -> dict[str, Any] | None:
        """The randomisation's JSON, from the file where it was kept."""
        if not self.options.sanity:
            return None
        asked = json.dumps(
            [self.network.digest, self.options.samples, self.options.seed]
            + [self.named[name].model_dump(mode="json") for name in self.methods],
            sort_keys=True,
        )
        path = self.folder / f"sanity-{sha256(asked.encode()).hexdigest()[:16]}.json"
        if path.exists():
            kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            self.left_out |= kept["left_out"]
        else:
            found = self.sanity
            left = {name: why for name, why in self.left_out.items() if name.startswith("randomisation")}
            kept = {"left_out": left, **({} if found is None else found.to_json())}
            with written_whole(path) as file:
                file.write(json.dumps(kept).encode())
        return kept


def rows(results: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The values of `Campaign.to_json`, one per part, subset, method and metric: what the CSV holds."""
    for part in results["parts"]:
        for subset, table in part["tables"].items():
            for method, own in table.items():
                for metric, cell in own.items():
                    yield {
                        "part": part["title"], "subset": subset, "method": method, "metric": metric,
                        **{key: cell[key] for key in ("value", "low", "high", "rank", "pictures", "undefined")},
                    }  # fmt: skip


def tuning(id: str) -> bool:
    """Whether a picture chooses thresholds, rather than being reported on; of about every third that is true."""
    return int(sha256(id.encode()).hexdigest()[:8], 16) % _TUNED == 0


def _reported(result: Result, chosen: frozenset[str]) -> Result:
    table = result.table
    metric = result.metric
    if isinstance(metric, MaxBoxAcc) and metric.thresholds is None:
        others = [key for key in table.keys if tuning(key[0])]
        own = [key for key in table.keys if key[0] in chosen and not tuning(key[0])]
        if others and own:
            fixed = metric.fixed(Result(metric, table.only(others)))
            return Result(fixed, table.only(own))
    return replace(result, table=table.only([key for key in table.keys if key[0] in chosen]))


def _table(results: Mapping[str, Mapping[str, Result]], methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Values with intervals, ranks among the methods, and what they have more than the first method."""
    found: dict[str, dict[str, Any]] = {name: {} for name in results}
    names = list(dict.fromkeys(name for own in results.values() for name in own))
    for metric in names:
        cells = {name: _cell(own[metric]) for name, own in results.items()}
        better = next(iter(results.values()))[metric].metric.better
        ranked = [n for n in methods if n in cells and cells[n]["value"] is not None and better != "neither"]
        ranked.sort(key=lambda name: cells[name]["value"] * (-1 if better == "higher" else 1))
        for place, name in enumerate(ranked):
            cells[name]["rank"] = place + 1
        first = "grad-cam" if "grad-cam" in cells else next(iter(cells))
        compared = {}
        for name in cells:
            if name != first:
                try:
                    compared[name] = compare(results[name][metric], results[first][metric])
                except InputError:
                    continue
        adjusted = holm([each.p if math.isfinite(each.p) else 1.0 for each in compared.values()])
        for (name, each), p in zip(compared.items(), adjusted, strict=True):
            low, high = each.interval.tolist()
            cells[name]["against"] = {
                "method": first,
                "difference": _or_none(each.difference.item()),
                "low": _or_none(low),
                "high": _or_none(high),
                "p": p,
                "clear": each.clear,
            }
        for name, cell in cells.items():
            found[name][metric] = cell
    return found


def _cell(result: Result) -> dict[str, Any]:
    low, high = result.interval.tolist()
    return {
        "value": _or_none(result.value.item()),
        "low": _or_none(low),
        "high": _or_none(high),
        "rank": None,
        "pictures": len({image for image, _ in result.keys}),
        "undefined": result.undefined,
        "protocol": result.metric.protocol,
        "details": {
            key: [_or_none(each) for each in value.flatten().tolist()]
            for key, value in result.details.items()
            if value.numel() <= 256 and not key.endswith(("curves", "gains", "normalised"))
        },
    }


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
