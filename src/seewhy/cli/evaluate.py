"""`seewhy evaluate`: how far maps can be trusted, measured on pictures whose truth is known."""

from __future__ import annotations

import json as to_json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from seewhy.cli.options import Model, made_by, read_dataset
from seewhy.cli.progress import resumable
from seewhy.errors import SeewhyError, UsageError
from seewhy.settings import Settings, listed

if TYPE_CHECKING:
    from seewhy.evaluation.campaign import Campaign
    from seewhy.evaluation.metric import Metric
    from seewhy.explainers.base import Explainer
    from seewhy.explanation import Cost
    from seewhy.registry import Entry

S = TypeVar("S", bound=Settings)
_SANITY = "randomisation"
_QUICK = "grad-cam,grad-cam++,layer-cam,hires-cam,eigen-cam,group-cam,integrated-grad-cam"
_USUAL = "insertion-deletion,average-drop,energy-pointing-game,bbox-share,pointing-game,max-box-acc"
_REQUIREMENT = re.compile(
    r"(?:(?P<method>[^:<>=]+):)?(?P<metric>[^:<>=]+)(?P<sign>>=|<=|>|<)(?P<bound>[-+.\deE]+)"
)


def evaluate(
    data: Path,
    *,
    model: Model,
    out: Path,
    methods: list[str] | None = None,
    metrics: list[str] | None = None,
    samples: int | None = None,
    seed: int = 0,
    target: Literal["auto", "label", "labels", "predicted"] = "auto",
    strict: bool = False,
    kind: str = "auto",
    split: str | None = None,
    pictures: Path | None = None,
    precision: Literal["auto", "float32", "bfloat16"] | None = None,
    require: list[str] | None = None,
    batch_size: int = 16,
    json: bool = False,
) -> int:
    """Measure methods on a dataset: faithfulness, localisation, sanity, beside maps that know nothing.

    DIR/report.html has tables with intervals and ranks, curves, best and worst pictures; DIR/evaluation.json and
    DIR/table.csv hold the numbers, DIR/store/ every picture's. The same command again goes on where it was stopped.

    Args:
        data: A folder of classes, a CSV, or a dataset: ImageNet, VOC, COCO, CUB, the WSOL lists, scenes.
        out: Folder for the report and all that is kept; made if need be.
        methods: Methods, with settings after a colon, separated by commas (grad-cam,rise:masks=500); all, or
            the quick ones by default.
        metrics: Metrics, likewise; all, or by default insertion-deletion, and what the dataset's boxes or masks allow.
            `randomisation`, with others or alone, looks at maps of networks with random weights.
        samples: Pictures; by default 300, and 30 for metrics that take hundreds of forwards a picture.
        seed: Of the sample and of all that is drawn.
        target: What is explained: a picture's first label, each of its labels, or what the network predicts; by default
            the first label where all are known.
        strict: Also take every picture whose boxes cover less than a third of it.
        kind: How to read the dataset: auto, folder, csv, imagenet, wsol, voc, coco, houses, cub, scenes.
        split: Such as val, where the dataset has splits.
        pictures: The folder of the pictures, where it is not where the layout puts it.
        precision: Number format of forwards without a gradient, for methods and metrics that do not say.
        require: A bound that every method must hold, or one (insertion>=0.5, grad-cam:bbox-share>0.6); repeat for
            several. Exit code 4 where one does not.
        batch_size: Pictures per pass.
        json: Print the results as JSON.
    """
    from seewhy import registry
    from seewhy.evaluation.campaign import Campaign, Options
    from seewhy.evaluation.report import comma_separated, left_out, markdown, report
    from seewhy.files import written_whole

    if batch_size < 1 or (samples is not None and samples < 2):
        raise UsageError("--batch-size must be at least 1 and --samples at least 2")
    explainers = _explainers(methods, precision)
    measured, sanity = _metrics(metrics, precision)
    names = registry.numbered(each.name for each in explainers)
    bounds = [_Bound.parse(text, measured, names) for text in require or []]
    manifest = read_dataset(data, kind, split, pictures)
    network = model.load_for_pictures()
    options = Options(samples, seed, target, strict, sanity, batch_size)
    campaign = Campaign(network, manifest, explainers, measured, out / "store", options)
    for line in _planned(campaign):
        print(line, file=sys.stderr)
    total = sum(len(each.evaluation.subjects.items) for each in campaign.parts) * len(campaign.named)
    left = sum(each.evaluation.left for each in campaign.parts)
    with resumable("evaluating", total) as advance:
        advance(total - left)
        campaign.run(advance)
    results = campaign.to_json()
    for name, reason in left_out(results).items():
        if name not in campaign.left_out:  # those were named before it began
            print(f"{name} left out: {reason}", file=sys.stderr)
    results["requirements"] = [each.checked(results) for each in bounds]
    page = report(campaign, results, made_by())
    for name, text in (
        ("evaluation.json", to_json.dumps(results, indent=1)),
        ("table.csv", comma_separated(results)),
    ):
        with written_whole(out / name) as file:
            file.write(text.encode())
    page.save(out / "report.html")
    print(to_json.dumps(results, indent=1) if json else markdown(results) + _said(results, out))
    if any(not each["holds"] for each in results["requirements"]):
        return 4
    failed = any(each.get("failed") for each in (*results["parts"], results["sanity"] or {}))
    return 3 if failed or results["faults"] else 0


def _explainers(specs: list[str] | None, precision: str | None) -> list[Explainer]:
    from seewhy import registry

    names = _names(specs or [_QUICK], registry.explainers())
    return [_made(registry.explainer, each, precision) for each in names]


def _metrics(specs: list[str] | None, precision: str | None) -> tuple[list[Metric], bool]:
    """The metrics, and whether maps under random weights were asked for."""
    from seewhy import registry

    names = _names(specs or [_USUAL], registry.metrics(), _SANITY)
    return [_made(registry.metric, each, precision) for each in names if each != _SANITY], _SANITY in names


def _names(specs: list[str], entries: Iterable[Entry], *more: str) -> list[str]:
    """What was asked for, with settings; `all` are those of the registry, and more."""
    names = listed(specs)
    return [*(entry.name for entry in entries), *more] if names == ["all"] else names


def _made(kind: Callable[[str], type[S]], spec: str, precision: str | None) -> S:
    """A method or a metric with its settings; the number format goes to what has one and does not say itself."""
    name, _, text = spec.partition(":")
    try:
        found = kind(name)
        wanted = precision is not None and "precision" in found.model_fields and "precision=" not in text
        return found.from_text(text, **({"precision": precision} if wanted else {}))
    except SeewhyError as error:
        raise UsageError(str(error)) from error


def _planned(campaign: Campaign) -> Iterator[str]:
    """What it will take, before it begins.

    Minutes are those of passes through the network: nothing else can be told in advance.
    """
    import torch

    network = campaign.network
    images = campaign.example.select([0] * 4)
    size = (images.pixels.shape[-2], images.pixels.shape[-1])
    with network.prepared(images) as arguments, torch.inference_mode():
        arguments.call(network.module)
        began = time.perf_counter()
        arguments.call(network.module)
        once = (time.perf_counter() - began) / 4
    yield f"a forward of one picture takes {1000 * once:.1f} ms"
    besides = [f"{name} takes {each.besides}" for name, each in campaign.named.items() if each.besides]
    yield "; ".join(
        ["times are those of passes through the network, and all other work comes on top", *besides]
    )
    for part in campaign.parts:
        evaluation = part.evaluation
        subjects = evaluation.subjects
        items = len(subjects.items)
        costs = evaluation.cost(size, subjects.targets)
        yield (
            f"{part.title}: {items} x {len(costs)} methods and controls, "
            f"{', '.join(each.name for each in evaluation.metrics)}; {_passes(costs, items, once * subjects.area)}; "
            f"{evaluation.left} of {items * len(costs)} left to do"
        )
    if (plan := campaign.sanity_plan) is not None and plan.costs:
        pictures, often = len(plan.pictures), plan.networks
        costs = {name: cost.times(often) for name, cost in plan.costs.items()}
        yield (
            f"randomisation: {pictures} x {len(costs)} methods x {often} networks, the clean one and {plan.stages} "
            f"stages with {plan.seeds} seeds each; {_passes(costs, pictures, once)}; "
            + ("none left to do" if plan.kept.exists() else "all left to do")
        )
    for name, reason in campaign.left_out.items():
        yield f"{name} left out: {reason}"


def _passes(costs: Mapping[str, Cost], pictures: int, once: float) -> str:
    """How long passes take where a forward of one picture takes so many seconds, and what takes most of them."""
    passes = {name: cost.forwards + 2 * cost.backwards + cost.replays for name, cost in costs.items()}
    minutes = once * sum(passes.values()) * pictures / 60
    dearest = max(passes, key=lambda name: passes[name])
    most = f"most of them for {dearest} ({passes[dearest]} a picture)"
    return f"up to about {minutes:.0f} min of passes in float32, {most}"


@dataclass(frozen=True)
class _Bound:
    """One `--require`: `metric` is what is bounded, `measured` the metric that has it, maybe among its details."""

    text: str
    method: str | None
    metric: str
    measured: str
    sign: str
    bound: float

    @classmethod
    def parse(cls, text: str, metrics: Sequence[Metric], methods: Sequence[str]) -> _Bound:
        found = _REQUIREMENT.fullmatch(text.replace(" ", ""))
        if found is None:
            raise UsageError(
                f"--require {text!r}: write METRIC>=NUMBER or METHOD:METRIC>=NUMBER (also <=, <, >)"
            )
        method, metric = found["method"], found["metric"]
        if method is not None and method not in methods:
            raise UsageError(
                f"--require {text!r}: {method} is not among the methods asked for: {', '.join(methods)}"
            )
        # What is measured by itself goes before what another metric holds.
        holders = {name: each.name for each in metrics for name in each.holds}
        holders |= {each.name: each.name for each in metrics}
        if metric not in holders:
            known = f"there are {', '.join(holders)}; " if holders else ""
            raise UsageError(f"--require {text!r}: {metric} is not measured; {known}--metrics says what is")
        try:
            return cls(text, method, metric, holders[metric], found["sign"], float(found["bound"]))
        except ValueError:
            raise UsageError(f"--require {text!r}: {found['bound']!r} is not a number") from None

    def checked(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Whether it holds on the random sample, and for whom it does not: undefined, or left out, does not hold."""
        from seewhy.evaluation.campaign import SAMPLE

        methods = [name for name in results["methods"] if name not in results["controls"]]
        asked = [name for name in methods if self.method in (None, name)]
        values = dict.fromkeys(asked) | {
            name: self._value(own[self.measured])
            for part in results["parts"]
            for name, own in part["tables"][SAMPLE].items()
            if self.measured in own and name in asked
        }
        broken = {name: value for name, value in values.items() if value is None or not self._holds(value)}
        return {
            "require": self.text,
            "holds": not broken,
            "values": values,
            "broken": broken,
        }

    def _value(self, cell: Mapping[str, Any]) -> float | None:
        """Of a cell's metric, or of the one among its details."""
        value: float | None = (
            cell["value"] if self.measured == self.metric else cell["details"][self.metric][0]
        )
        return value

    def _holds(self, value: float) -> bool:
        return {
            ">=": value >= self.bound, "<=": value <= self.bound, ">": value > self.bound, "<": value < self.bound,
        }[self.sign]  # fmt: skip


def _said(results: Mapping[str, Any], out: Path) -> str:
    lines = []
    for each in results["requirements"]:
        broken = each["broken"].items()
        who = ", ".join(f"{name} {'undefined' if value is None else value}" for name, value in broken)
        lines.append(f"required {each['require']}: {'holds' if each['holds'] else f'does not hold: {who}'}")
    for part in results["parts"]:
        lines.append(
            f"{part['title']}: {part['asked']} asked = {part['explained']} explained + {len(part['failed'])} failed"
        )
        lines += [f"failed: {id}: {reason}" for id, reason in list(part["failed"].items())[:10]]
    sanity = results["sanity"] or {}
    known = {id for part in results["parts"] for id in part["failed"]}
    failed = {id: reason for id, reason in sanity.get("failed", {}).items() if id not in known}
    lines += [f"failed: {id}: {reason}" for id, reason in failed.items()]
    for name, own in sanity.get("methods", {}).items():
        lines.append(f"sanity of {name}: {own['verdict']['text']}")
    return "\n".join([*lines, f"report: {out / 'report.html'}"])
