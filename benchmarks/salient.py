"""Salient Relevance beside the baseline that its paper lacks, relevance that is only blurred, on real pictures.

`python -m benchmarks.relevance_page blur masks --write` writes what it finds into docs/relevance-maps.md. It is kept
under out/salient and resumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from random import Random

from benchmarks import page
from benchmarks.subjects import data, trained_network
from seewhy import LRP, ContextAwareSaliency, Explainer, Network, SalientRelevance, make, registry
from seewhy.datasets import Annotation, Item, Manifest, read
from seewhy.datasets.masks import MaskFile
from seewhy.evaluation.campaign import STRICT, tuning
from seewhy.evaluation.controls import CentredGaussian, ConstantMap, RandomMap
from seewhy.evaluation.evaluate import Evaluation
from seewhy.evaluation.metric import Metric
from seewhy.evaluation.result import Result, compare, holm
from seewhy.evaluation.subjects import Pictures, share_of_picture
from seewhy.evaluation.table import Table
from seewhy.render.markdown import markdown_table

TUNED_ON, JUDGED_ON, SEED = 40, 80, 0
SIGMAS = 1.0, 3.0, 6.0, 12.0, 24.0, 48.0
SIDE = 160  # of the maps whose saliency is computed, at every second pixel: an evening's pictures in minutes
LOWER, ENERGY = "deletion", "energy-pointing-game"
METRICS = {"pointing-game": "average=picture", ENERGY: "", "insertion": "rows=16", LOWER: "rows=16"}
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
METHODS = FIRST, "lrp", BLURRED, PRODUCT, ALONE, PUBLIC
CONTROLS: Mapping[str, Explainer] = {"centred-gaussian": CentredGaussian(), "random-map": RandomMap()}
AREA = "constant"  # whose energy in a mask is the mask's share of what the network sees
CLAIMS = (
    (PRODUCT, BLURRED), (ALONE, BLURRED), (PUBLIC, BLURRED), (PRODUCT, "lrp"), (BLURRED, "lrp"), (PRODUCT, FIRST),
    (BLURRED, FIRST), ("lrp", FIRST), (PRODUCT, "centred-gaussian"), (BLURRED, "centred-gaussian"),
)  # fmt: skip
# Classes that are predicted for frames of DAVIS sequences and are of the object's kind, judged before any was measured.
_CARS = "ambulance", "beach wagon", "convertible", "minivan", "racer"
KINDS: Mapping[str, tuple[str, ...]] = {
    "blackswan": ("black swan",), "camel": ("Arabian camel",), "cows": ("ox",), "dog": ("English setter",),
    "libby": ("Walker hound",), "scooter-black": ("moped", "motor scooter"), "car-roundabout": _CARS,
    "car-shadow": _CARS, "drift-chicane": _CARS, "drift-straight": _CARS,
}  # fmt: skip


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
        metrics: what is measured, with settings as text.
    """

    folder: Path
    metrics: Mapping[str, str] = field(default_factory=lambda: METRICS)

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
        subjects = Pictures(self.network, self.manifest, self.pictures(for_tuning))
        return evaluated(methods, subjects, self.metrics, self.folder)

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
            for metric in self.metrics
        }

    def sigma(self, kind: str, metric: str) -> float:
        """The one that is best for a metric, on the pictures that choose; the smallest of equals."""
        values = self.tuned[kind, metric]
        return min(SIGMAS, key=values.__getitem__) if metric == LOWER else max(SIGMAS, key=values.__getitem__)

    @cached_property
    def results(self) -> dict[str, dict[str, Result]]:
        """On the pictures that judge; what has a sigma has in each column that which was chosen for it."""
        kinds = {(kind, self.sigma(kind, metric)) for kind in (BLURRED, PRODUCT) for metric in self.metrics}
        chosen = {f"{kind} {sigma}": smoothed(sigma, kind == PRODUCT) for kind, sigma in sorted(kinds)}
        found = self.measured({**_FIXED, **chosen, **CONTROLS}, for_tuning=False)
        own = {
            kind: {metric: found[f"{kind} {self.sigma(kind, metric)}"][metric] for metric in self.metrics}
            for kind in (BLURRED, PRODUCT)
        }
        return {name: dict({**found, **own}[name]) for name in (*METHODS, *CONTROLS)}


def evaluated(
    methods: Mapping[str, Explainer], subjects: Pictures, metrics: Mapping[str, str], folder: Path
) -> Mapping[str, Mapping[str, Result]]:
    """By method and metric."""
    chosen: list[Metric] = [registry.metric(name).from_text(text) for name, text in metrics.items()]
    evaluation = Evaluation(subjects.network, methods, chosen, subjects, folder)
    evaluation.run(lambda done: print(".", end="", flush=True))
    return evaluation.results


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


def in_masks(folder: Path = Path("out/salient")) -> Iterator[str]:
    """How much of the maps lies on the pixels of objects, by paragraphs."""
    boxes = Comparison(folder, {ENERGY: ""})
    sigmas = {kind: boxes.sigma(kind, ENERGY) for kind in (BLURRED, PRODUCT)}
    blurs = {kind: smoothed(sigma, kind == PRODUCT) for kind, sigma in sigmas.items()}
    controls: Mapping[str, Explainer] = {**CONTROLS, AREA: ConstantMap()}
    frames = davis_frames()
    subjects = Pictures(boxes.network, frames, frames.items, "predicted")
    found = evaluated({**_FIXED, **blurs, **controls}, subjects, {ENERGY: "match=main,region=mask"}, folder)
    every = {name: by_sequence(found[name][ENERGY]) for name in (*METHODS, *controls)}
    keys = every[AREA].keys
    fitting = [key for key in keys if key[1].rpartition(": ")[2] in KINDS.get(key[0], ())]
    columns = {f"all {len(keys)} frames": keys, f"{len(fitting)} of the object's kind": fitting}
    results = {
        name: {column: replace(own, table=own.table.only(some)) for column, some in columns.items()}
        for name, own in every.items()
    }
    whole = float(every[AREA].details["area"])
    yield (
        f"The share of a map's positive evidence that lies on the object's pixels, `{ENERGY}` with masks instead of "
        f"boxes, of the methods above: {len(keys)} frames of {len({sequence for sequence, _ in keys})} DAVIS "
        f"sequences, MobileNetV2. Objects of DAVIS need not be ImageNet classes, so the maps are of the class that "
        f"the network predicts. In {len(fitting)} frames of {len({sequence for sequence, _ in fitting})} sequences "
        "that is, judged by its name, of the object's kind, such as `English setter` for a dog; in the others, such as "
        "`unicycle` for a dancer, evidence may rightly lie elsewhere. The sigmas are those chosen for energy in boxes "
        f"on {len(boxes.pictures(True))} ImageNet pictures, in pixels {sigmas[BLURRED]:g} of `{BLURRED}` and "
        f"{sigmas[PRODUCT]:g} of `{PRODUCT}`. `{AREA}` has the mask's share of what the network sees, a crop of the "
        f"middle; of the whole frame that is {whole:.3f}. 95 % bootstrap intervals over sequences, whose frames are "
        f"drawn together; † clearly differs from {FIRST} (paired, Holm-adjusted)."
    )
    yield page.standings_table(results, controls, dict.fromkeys(columns, "↑"))
    yield "What one has more than the other, paired, over sequences; p is Holm-adjusted over the column:"
    yield _claims(results)


def davis_frames() -> Manifest:
    """Frames of DAVIS with their object's mask; the sequence stands for its class, which is not known."""
    root = data() / "davis-frames"
    items = []
    for path in sorted((root / "images").glob("*.jpg")):
        drawn = Annotation(_sequence(path.stem), mask=MaskFile(root / "masks" / f"{path.stem}.png"))
        bare = Item(path.stem, path, objects=(drawn,))
        items.append(replace(bare, size=bare.image.size[::-1]))
    return Manifest("davis", root, tuple(items))


def by_sequence(result: Result) -> Result:
    """The same rows as if of one picture per sequence, so that intervals draw sequences instead of frames."""
    table = result.table
    keys = {(id, label): (_sequence(id), f"{id}: {label}") for id, label in table.keys}
    remarks = {keys[each]: remark for each, remark in table.remarks.items()}
    return replace(result, table=Table.sorted([*keys.values()], table.data, remarks))


def _sequence(id: str) -> str:
    return id.rpartition("_")[0]


def _claims(results: Mapping[str, Mapping[str, Result]]) -> str:
    columns: dict[str, list[str]] = {}
    for metric in results[FIRST]:
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
        ["one − other", *columns],
        [
            [f"{one} − {other}", *(cells[row] for cells in columns.values())]
            for row, (one, other) in enumerate(CLAIMS)
        ],
    )
