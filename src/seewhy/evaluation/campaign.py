"""A whole evaluation: which pictures, how many for what, which subsets; then values, ranks, comparisons, verdicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from seewhy.datasets import Manifest
from seewhy.errors import InputError, TargetError
from seewhy.evaluation.controls import controls
from seewhy.evaluation.evaluate import Evaluation
from seewhy.evaluation.metric import Metric
from seewhy.evaluation.mosaics import Mosaics, draw_mosaics
from seewhy.evaluation.result import Result
from seewhy.evaluation.sanity import SanityPlan
from seewhy.evaluation.standings import standings
from seewhy.evaluation.subjects import (
    Pictures,
    Question,
    Subjects,
    class_of,
    sampled,
    share_of_picture,
)
from seewhy.explainers.base import Explainer
from seewhy.network.images import Images
from seewhy.network.network import Network
from seewhy.registry import numbered

STRICT = (0.33, 0.2, 0.1)
"""Pictures whose boxes cover less than this: on others the centre is on the object anyway."""
SAMPLE = "random sample"
_MANY, _FEW = 300, 30  # pictures, where nothing else is asked for
# Pictures, at least and per mosaic, among which those are sought that a network is sure of.
_LOOKED_AT, _PER_MOSAIC = 1000, 16
_FEWEST = 10  # pictures that a subset must have to get a table
_TUNED = 3  # of every so many pictures one chooses thresholds and is not reported on


@dataclass(frozen=True)
class Options:
    """What an evaluation is asked to do.

    Attributes:
        samples: pictures; where None, 300, and 30 for metrics that take hundreds of forwards each.
        seed: of all that is drawn.
        question: what is explained; `auto` is the first label where all pictures have one that the network knows,
            else the prediction.
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

    def __post_init__(self) -> None:
        if not self.manifest.faultless:
            raise InputError(f"{self.manifest.root} holds no picture that could be read")

    @cached_property
    def named(self) -> dict[str, Explainer]:
        """Methods, then controls, by what they are called in tables."""
        all_of_them = (*self.explainers, *controls(self.options.seed))
        return dict(zip(numbered(each.name for each in all_of_them), all_of_them, strict=True))

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Those that are no controls."""
        return tuple(self.named)[: len(self.explainers)]

    @cached_property
    def question(self) -> Question:
        """What is explained, where that was asked to be found out."""
        if self.options.question != "auto":
            return self.options.question
        try:
            for each in self.manifest.faultless:
                class_of(each, self.manifest, self.network)
        except (InputError, TargetError):
            return "predicted"
        return "label"

    @cached_property
    def example(self) -> Images:
        """One picture that can be read, for what must be known of inputs beforehand.

        Raises:
            InputError: there is none.
        """
        for each in self.manifest.faultless:
            if len(images := self.network.read([each.path])):
                return images.to(self.network.device)
        raise InputError(f"{self.manifest.root} holds no picture that could be read")

    @property
    def parts(self) -> list[Part]:
        """The works, planned; metrics that need truth that is not there are in `left_out` instead."""
        return self._planned[0]

    @property
    def left_out(self) -> dict[str, str]:
        """Metrics that are not measured, methods whose maps are not looked at under random weights, and why."""
        return self._planned[1]

    @cached_property
    def _planned(self) -> tuple[list[Part], dict[str, str]]:
        marked = self.manifest.marks_objects
        wide: list[Metric] = []
        deep: list[Metric] = []
        mosaics: list[Metric] = []
        left_out = {}
        for each in self.metrics:
            if each.name == "grid-pointing":
                mosaics.append(each)
            elif each.needs_truth and not marked:
                left_out[each.name] = "the dataset marks no object in any picture"
            else:
                (wide if each.pictures >= _MANY else deep).append(each)
        parts = []
        if wide:
            parts.append(self._part("pictures", wide, self.options.samples or _MANY, STRICT))
        if deep:
            parts.append(self._part("fewer pictures", deep, self.options.samples or _FEW, ()))
        if mosaics:
            try:
                parts.append(self._mosaics(mosaics, self.options.samples or _MANY))
            except InputError as error:
                left_out["grid-pointing"] = str(error)
        if (plan := self.sanity_plan) is not None:
            left_out |= plan.left_out
        if not parts and not (plan and plan.costs):
            reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
            raise InputError(f"nothing can be measured: {reasons or 'no metric was asked for'}")
        return parts, left_out

    def _part(self, title: str, metrics: list[Metric], count: int, strict: Sequence[float]) -> Part:
        """Metrics on a random sample, and on pictures whose boxes cover less than each share in `strict`."""
        known = {each.id: share_of_picture(each) for each in self.manifest.faultless} if strict else {}
        shares = {id: share for id, share in known.items() if share is not None}
        always = [id for id, share in shares.items() if self.options.strict and share < strict[0]]
        drawn, chosen = (sampled(self.manifest, count, self.options.seed, more) for more in ((), always))
        ids = frozenset(each.id for each in chosen)
        subsets = {SAMPLE: frozenset(each.id for each in drawn)}
        if len(chosen) > len(drawn):
            subsets[f"{SAMPLE} and every picture whose boxes cover less than {strict[0]:.0%}"] = ids
        for limit in strict if any(metric.needs_truth for metric in metrics) else ():
            some = frozenset(id for id in ids if shares.get(id, 1) < limit)
            if len(some) >= _FEWEST:
                subsets[f"boxes below {limit:.0%} of the picture"] = some
        subjects = Pictures(self.network, self.manifest, chosen, self.question)
        return Part(title, self._evaluation(metrics, subjects, self.options.chunk), subsets)

    def _mosaics(self, metrics: list[Metric], maps: int) -> Part:
        seed, count = self.options.seed, max(maps // Mosaics.targets, 2)
        pictures = sampled(self.manifest, max(_LOOKED_AT, _PER_MOSAIC * count), seed)
        subjects = draw_mosaics(self.network, self.manifest, pictures, count, seed=seed)
        chunk = max(1, self.options.chunk // Mosaics.targets)  # four pictures large, four classes each
        subsets = {SAMPLE: frozenset(each.id for each in subjects.items)}
        return Part("mosaics", self._evaluation(metrics, subjects, chunk), subsets)

    def _evaluation(self, metrics: list[Metric], subjects: Subjects, chunk: int) -> Evaluation:
        return Evaluation(self.network, self.named, metrics, subjects, self.folder, chunk)

    def run(self, progress: Callable[[int], object] = lambda done: None) -> None:
        """Compute what is missing.

        Raises:
            SeewhyError: all methods are refused, or what is kept cannot be written.
        """
        for part in self.parts:
            part.evaluation.run(progress)

    @cached_property
    def sanity_plan(self) -> SanityPlan | None:
        """What maps under random weights will take; None where they were not asked for."""
        if not self.options.sanity:
            return None
        count = min(self.options.samples or _FEW, _FEW)
        pictures = sampled(self.manifest, count, self.options.seed)
        methods = {name: self.named[name] for name in self.methods}
        return SanityPlan.of(self.network, methods, pictures, self.example, self.folder)

    @cached_property
    def sanity(self) -> dict[str, Any] | None:
        """Maps under random weights, as `SanityPlan.result` has them; None where they were not asked for."""
        if self.sanity_plan is None:
            return None
        refused = {name for part in self.parts for name in part.evaluation.refused}
        return self.sanity_plan.result(refused, self.options.chunk, optional=bool(self.parts))

    def results(self, part: Part, subset: str) -> dict[str, dict[str, Result]]:
        """By method and metric, of some pictures; thresholds are those of pictures that are not reported on."""
        chosen = part.subsets[subset]
        found: dict[str, dict[str, Result]] = {}
        for name, own in part.evaluation.results.items():
            found[name] = {each: reported(result, chosen) for each, result in own.items()}
        return found

    def to_json(self) -> dict[str, Any]:
        """Everything that was found, as JSON values; null where undefined."""
        parts = []
        for part in self.parts:
            asked = len(part.evaluation.subjects.items)
            tables = {name: standings(self.results(part, name), self.methods) for name in part.subsets}
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
                            "brief": each.brief,
                        }
                        for each in part.evaluation.metrics
                    ],
                    "tables": tables,
                }
            )
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
            "sanity": self.sanity,
            "left_out": {**self.left_out, **(self.sanity or {}).get("left_out", {})},
        }


def tuning(id: str) -> bool:
    """Whether a picture chooses thresholds, rather than being reported on; of about every third that is true."""
    return int(sha256(id.encode()).hexdigest()[:8], 16) % _TUNED == 0


def reported(result: Result, chosen: frozenset[str]) -> Result:
    """A result on some of its pictures; what its metric chooses on pictures comes from others, not reported on."""
    table = result.table
    metric = result.metric
    if metric.flatters:
        others = [key for key in table.keys if tuning(key[0])]
        own = [key for key in table.keys if key[0] in chosen and not tuning(key[0])]
        if others and own:
            fixed = metric.fixed(Result(metric, table.only(others)))
            return Result(fixed, table.only(own))
    return replace(result, table=table.only([key for key in table.keys if key[0] in chosen]))
