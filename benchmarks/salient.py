"""Salient Relevance beside the baseline that its paper lacks, relevance that is only blurred: real pictures, boxes.

`python -m benchmarks.relevance_page blur --write` writes what it finds into docs/relevance-maps.md. It is kept under
out/salient and resumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

from benchmarks import page
from benchmarks.subjects import data, trained_network
from seewhy import LRP, ContextAwareSaliency, Explainer, Network, SalientRelevance, make, registry
from seewhy.datasets import Item, Manifest, read
from seewhy.evaluation.campaign import STRICT, tuning
from seewhy.evaluation.controls import CentredGaussian, RandomMap
from seewhy.evaluation.evaluate import Evaluation
from seewhy.evaluation.metric import Metric
from seewhy.evaluation.result import Result, compare, holm
from seewhy.evaluation.subjects import Pictures, share_of_picture
from seewhy.render.markdown import markdown_table

TUNED_ON, JUDGED_ON, SEED = 40, 80, 0
SIGMAS = 1.0, 3.0, 6.0, 12.0, 24.0, 48.0
SIDE = 160  # of the maps whose saliency is computed, at every second pixel: an evening's pictures in minutes
METRICS = {
    "pointing-game": "average=picture", "energy-pointing-game": "", "insertion": "rows=16", "deletion": "rows=16",
}  # fmt: skip
LOWER = "deletion"
BLURRED, PRODUCT, ALONE, PUBLIC = "lrp, blurred", "product", "saliency alone", "as public code"
FIRST = "grad-cam"
_SALIENCY = ContextAwareSaliency.from_preset("relevance", longest_side=SIDE, query_stride=2)
_FIXED: Mapping[str, Explainer] = {
    FIRST: make(FIRST),
    "lrp": LRP(),
    ALONE: SalientRelevance(combine="saliency", saliency=_SALIENCY),
    PUBLIC: SalientRelevance.from_preset(
        "reference",
        saliency=ContextAwareSaliency.from_preset("reference", longest_side=SIDE, query_stride=2),
    ),
}
CONTROLS: Mapping[str, Explainer] = {"centred-gaussian": CentredGaussian(), "random-map": RandomMap()}
CLAIMS = (
    (PRODUCT, BLURRED), (ALONE, BLURRED), (PUBLIC, BLURRED), (PRODUCT, "lrp"), (BLURRED, "lrp"), (PRODUCT, FIRST),
    (BLURRED, FIRST), ("lrp", FIRST), (PRODUCT, "centred-gaussian"), (BLURRED, "centred-gaussian"),
)  # fmt: skip


def smoothed(sigma: float, with_saliency: bool) -> Explainer:
    """Relevance blurred by so many pixels, weighed by its saliency or alone."""
    return SalientRelevance(
        combine="multiply" if with_saliency else "blurred", sigma=sigma, saliency=_SALIENCY
    )


@dataclass(eq=False)
class Comparison:
    """Methods on some pictures, after their sigmas were chosen on others.

    Args:
        folder: for what is kept.
    """

    folder: Path

    @cached_property
    def network(self) -> Network:
        return trained_network()

    @cached_property
    def manifest(self) -> Manifest:
        return read(data() / "imagenet-val")

    def pictures(self, for_tuning: bool) -> tuple[Item, ...]:
        """Pictures whose boxes cover less than a third, to choose sigmas on or to judge on."""
        small = [
            each
            for each in self.manifest.faultless
            if (share_of_picture(each) or 1) < STRICT[0] and tuning(each.id) == for_tuning
        ]
        Random(SEED).shuffle(small)
        return tuple(small[: TUNED_ON if for_tuning else JUDGED_ON])

    def measured(
        self, methods: Mapping[str, Explainer], for_tuning: bool
    ) -> Mapping[str, Mapping[str, Result]]:
        """By method and metric."""
        metrics: list[Metric] = [registry.metric(name).from_text(text) for name, text in METRICS.items()]
        subjects = Pictures(self.network, self.manifest, self.pictures(for_tuning))
        evaluation = Evaluation(self.network, methods, metrics, subjects, self.folder)
        evaluation.run(lambda done: print(".", end="", flush=True))
        return evaluation.results

    @cached_property
    def tuned(self) -> Mapping[tuple[str, str], Mapping[float, float]]:
        """By kind and metric: every sigma's value on the pictures that choose."""
        methods = {
            f"{kind} {sigma}": smoothed(sigma, kind == PRODUCT)
            for kind in (BLURRED, PRODUCT)
            for sigma in SIGMAS
        }
        found = self.measured(methods, for_tuning=True)
        return {
            (kind, metric): {sigma: float(found[f"{kind} {sigma}"][metric].value) for sigma in SIGMAS}
            for kind in (BLURRED, PRODUCT)
            for metric in METRICS
        }

    def sigma(self, kind: str, metric: str) -> float:
        """The one that is best for a metric, on the pictures that choose; the smallest of equals."""
        values = self.tuned[kind, metric]
        return min(SIGMAS, key=values.__getitem__) if metric == LOWER else max(SIGMAS, key=values.__getitem__)

    @cached_property
    def results(self) -> dict[str, dict[str, Result]]:
        """On the pictures that judge; what has a sigma has in each column that which was chosen for it."""
        kinds = {(kind, self.sigma(kind, metric)) for kind in (BLURRED, PRODUCT) for metric in METRICS}
        chosen = {f"{kind} {sigma}": smoothed(sigma, kind == PRODUCT) for kind, sigma in sorted(kinds)}
        found = self.measured({**_FIXED, **chosen, **CONTROLS}, for_tuning=False)
        own = {
            kind: {metric: found[f"{kind} {self.sigma(kind, metric)}"][metric] for metric in METRICS}
            for kind in (BLURRED, PRODUCT)
        }
        return {
            **{name: dict(found[name]) for name in (FIRST, "lrp")},
            **own,
            **{name: dict(found[name]) for name in (ALONE, PUBLIC, *CONTROLS)},
        }


def text(folder: Path = Path("out/salient")) -> Iterator[str]:
    """What the comparison says, by paragraphs."""
    found = Comparison(folder)
    results = found.results
    yield (
        f"MobileNetV2 with trained weights on {len(found.pictures(False))} ImageNet pictures whose boxes cover less "
        f"than {STRICT[0]:.0%} of them; maps of the label. `{BLURRED}` is |R| of `lrp` under a Gaussian, `{PRODUCT}` "
        f"the default of `salient-relevance`, `{ALONE}` its preset `relevance`, `{PUBLIC}` its preset `reference`; all "
        f"of them of `epsilon-plus` but the last. Saliency is computed at {SIDE} pixels, every second one. The sigmas "
        f"of the first two were chosen, for every column by itself, on {len(found.pictures(True))} other pictures. "
        f"95 % bootstrap intervals over pictures; † clearly differs from {FIRST} (paired, Holm-adjusted)."
    )
    yield page.standings_table(results, CONTROLS, {name: "↓" if name == LOWER else "↑" for name in METRICS})
    yield "What one has more than the other, paired; p is Holm-adjusted over the column:"
    yield _claims(results)
    yield "The sigmas, in pixels of 224, and what each gave on the pictures that chose:"
    yield markdown_table(
        ["kind", "metric", *(f"{sigma:g}" for sigma in SIGMAS), "chosen"],
        [
            [
                kind,
                metric,
                *(f"{value:.3f}" for value in values.values()),
                f"{found.sigma(kind, metric):g}",
            ]
            for (kind, metric), values in found.tuned.items()
        ],
    )


def _claims(results: Mapping[str, Mapping[str, Result]]) -> str:
    columns = {}
    for metric in METRICS:
        compared = [compare(results[one][metric], results[other][metric]) for one, other in CLAIMS]
        ps = holm([each.p for each in compared])
        cells = []
        for each, p in zip(compared, ps, strict=True):
            low, high = each.interval.tolist()
            verdict = " better" if (high < 0 if metric == LOWER else low > 0) else " worse"
            said = verdict if each.clear and p < 0.05 else ""
            cells.append(f"{float(each.difference):+.3f} [{low:+.3f}, {high:+.3f}]{said}")
        columns[metric] = cells
    return markdown_table(
        ["one − other", *METRICS],
        [
            [f"{one} − {other}", *(columns[metric][row] for metric in METRICS)]
            for row, (one, other) in enumerate(CLAIMS)
        ],
    )
