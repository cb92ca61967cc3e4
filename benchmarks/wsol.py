"""Boxes from maps of a trained classifier: `python -m benchmarks.wsol --write` writes docs/localisation.md.

L2-CAF under all its constraints beside CAM, Grad-CAM, LayerCAM and Group-CAM, on ImageNet pictures with boxes; kept
under `--out` and resumed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import page
from benchmarks.subjects import data, trained_network
from seewhy import L2CAF, Explainer, LocalisationError, MaxBoxAcc, MaxBoxAccV2, make
from seewhy.datasets import read
from seewhy.evaluation.campaign import STRICT, reported, tuning
from seewhy.evaluation.controls import CentredGaussian, MeanActivation, RandomMap
from seewhy.evaluation.evaluate import Evaluation
from seewhy.evaluation.result import Result
from seewhy.evaluation.subjects import Pictures, sampled, share_of_picture
from seewhy.render.markdown import markdown_table

SAMPLE, SEED = 40, 0
IDENTITY = (
    7.0  # the root of the 49 positions of the last layer: the norm at which a filter may change nothing
)
FIRST = "grad-cam"
METHODS: Mapping[str, Explainer] = {
    "cam": make("cam"),
    FIRST: make(FIRST),
    "layer-cam": make("layer-cam"),
    "group-cam": make("group-cam"),
    "l2-caf": L2CAF(),
}
ABLATION: Mapping[str, Explainer] = {
    **{
        f"{constraint}, norm {norm:g}": L2CAF(constraint=constraint, rho=norm)
        for constraint in ("non-negative", "sphere", "simplex", "gaussian")
        for norm in (1.0, IDENTITY)
    },
    "box, a quarter of the area": L2CAF(constraint="box"),
    "contrast with all, sphere, magnitudes": L2CAF(contrast="all", constraint="sphere", magnitude=True),
    "contrast with all": L2CAF(contrast="all"),
    "contrast with none": L2CAF(contrast="none"),
    "contrast with the five strongest": L2CAF(contrast="top-k"),
    "oblivious": L2CAF(mode="oblivious"),
    "reference-pt": L2CAF.from_preset("reference-pt"),
    "reference-tf": L2CAF.from_preset("reference-tf"),
}
CONTROLS: Mapping[str, Explainer] = {
    "centred-gaussian": CentredGaussian(), "mean-activation": MeanActivation(), "random-map": RandomMap(),
}  # fmt: skip
METRICS = MaxBoxAcc(), MaxBoxAccV2(), LocalisationError(threshold=None)
ERRORS = ("gt-known", "top-1", "top-5")


@dataclass(frozen=True, eq=False)
class Found:
    """Everything that was measured.

    Attributes:
        results: by method and column.
        subsets: pictures by what they have in common.
        cost: of each method, as counted, per picture.
    """

    results: Mapping[str, Mapping[str, Result]]
    subsets: Mapping[str, frozenset[str]]
    cost: Mapping[str, str]


def measure(out: Path) -> Found:
    """Evaluate all methods on the pictures of the page, or go on with it."""
    network = trained_network()
    manifest = read(data() / "imagenet-val")
    shares = {each.id: share_of_picture(each) for each in manifest.faultless}
    small = [id for id, share in shares.items() if share is not None and share < STRICT[0]]
    chosen = sampled(manifest, SAMPLE, SEED, small)
    methods = {**METHODS, **{f"l2-caf, {name}": each for name, each in ABLATION.items()}, **CONTROLS}
    evaluation = Evaluation(network, methods, METRICS, Pictures(network, manifest, chosen), out / "store")
    evaluation.run(lambda done: print(".", end="", flush=True))
    ids = frozenset(each.id for each in chosen)
    return Found(
        {name: dict(_columns(own)) for name, own in evaluation.results.items()},
        {
            "all": ids,
            f"boxes below {STRICT[1]:.0%} of the picture": ids & {i for i in small if _under(shares[i])},
        },
        {name: next(evaluation.rows(name))["cost"] for name in methods if name not in evaluation.refused},
    )


def _under(share: float | None) -> bool:
    return share is not None and share < STRICT[1]


def _columns(own: Mapping[str, Result]) -> Iterator[tuple[str, Result]]:
    """The metrics' results; the localisation error as each of its three kinds."""
    for name, result in own.items():
        if isinstance(result.metric, LocalisationError):
            for kind in ERRORS:
                metric = result.metric.model_copy(update={"error": kind})
                yield f"{kind} error", replace(result, metric=metric)
        else:
            yield name, result


def text(found: Found) -> Iterator[str]:
    """The page, by paragraphs."""
    pictures = found.subsets["all"]
    judged = sum(not tuning(id) for id in pictures)
    yield "# Boxes from maps: L2-CAF beside the CAM family"
    yield (
        f"MobileNetV2 with trained weights on {len(pictures)} ImageNet pictures with boxes: {SAMPLE} at random "
        f"and all whose boxes cover less than {STRICT[0]:.0%}. Maps of the label. Thresholds are chosen per method on "
        f"{len(pictures) - judged} of the pictures and used on the other {judged}. `max-box-acc-v2` takes the best of "
        "all boxes, the others the largest contour's. 95 % bootstrap intervals over pictures; #1 is best; "
        f"† clearly differs from {FIRST} (paired, Holm-adjusted p below 0.05 in its column)."
    )
    yield page.provenance("python -m benchmarks.wsol --write", ["torch", "torchvision", "seewhy"])
    own = [*METHODS]
    variants = [f"l2-caf, {name}" for name in ABLATION]
    for subset, ids in found.subsets.items():
        judged = sum(not tuning(id) for id in ids)
        for title, methods in (
            ("Methods", [*own, *CONTROLS]),
            ("Constraints and norms", ["l2-caf", FIRST, *variants]),
        ):
            yield f"## {title}, {subset} ({judged})"
            yield _table(found, ids, methods)
    yield "## What a map costs"
    yield markdown_table(
        ["method", "counted, per picture"], [[name, cost] for name, cost in found.cost.items()]
    )


def _table(found: Found, ids: frozenset[str], methods: list[str]) -> str:
    results = {
        name: {each: reported(result, ids) for each, result in found.results[name].items()}
        for name in methods
        if name in found.results
    }
    columns = next(iter(results.values()))
    arrows = {each: "↑" if each.startswith("max") else "↓" for each in columns}
    return page.standings_table(results, CONTROLS, arrows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wsol", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/wsol"), help="where all is kept")
    parser.add_argument("--write", action="store_true", help="write docs/localisation.md")
    chosen = parser.parse_args()
    made = "\n\n".join(text(measure(chosen.out))) + "\n"
    if chosen.write:
        page.write(page.DOCS / "localisation.md", made)
    else:
        print(made)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
