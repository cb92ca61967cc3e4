"""Which composites ignore what a network has learned: cascading randomisation of the bundled network.

`python -m benchmarks.relevance_page sanity --write` writes what it finds into docs/relevance-maps.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import seewhy
from seewhy import LRP, ContextAwareSaliency, Explainer, SalientRelevance
from seewhy.evaluation.randomisation import DIES, IGNORES, Randomisation, randomise
from seewhy.relevance.composites import CompositeName
from seewhy.render.markdown import markdown_table

PICTURES, SEED, SEEDS = 30, 9, 3
STAGES = "classifier", "stage2.conv1"  # and the last, at the input
_SIDE = 64
_SALIENCY = ContextAwareSaliency.from_preset("relevance", longest_side=_SIDE, query_stride=2)
METHODS: dict[str, Explainer] = {
    **{f"lrp, {name}": LRP(composite=name) for name in get_args(CompositeName)},
    "lrp, epsilon-plus, contrast": LRP(contrast=True),
    "salient-relevance": SalientRelevance(saliency=_SALIENCY),
    "salient-relevance, saliency alone": SalientRelevance(saliency=_SALIENCY, combine="saliency"),
    "salient-relevance, blurred": SalientRelevance(combine="blurred"),
}


def measure() -> Randomisation:
    """Similarities before and after each stage's weights are random."""
    network = seewhy.load("demo")
    images = network.read([scene.image for scene in seewhy.Scenes(PICTURES, seed=SEED)])
    return randomise(list(METHODS.values()), network, images, seeds=SEEDS)


def text() -> Iterator[str]:
    """What it says, by paragraphs."""
    found = measure()
    columns = [*STAGES, found.stages[-1]]
    yield (
        f"The bundled network, {PICTURES} scenes of seed {SEED}, {SEEDS} seeds: mean Spearman of the signed maps "
        f"(magnitudes in brackets) after its weights are drawn anew from the classifier down to a stage, as "
        f"[sanity checks](sanity.md) have it. A map *dies* where that is {DIES} or less in magnitude with all random, "
        f"and *ignores the head* where it stays above {IGNORES} with the classifier alone random. Saliency is computed "
        f"at {_SIDE} pixels."
    )
    rows = []
    for title, method in zip(METHODS, found.methods, strict=True):
        verdict = found.verdict(method)
        cells = [
            f"{found.estimate(method, 'spearman', stage).value:.2f} "
            f"({float(found.estimate(method, 'spearman-absolute', stage).value):.2f})"
            for stage in columns
        ]
        floor = f"{float(found.floor(method).value):.2f} ({float(found.floor(method, 'spearman-absolute').value):.2f})"
        says = "dies" if verdict.dies else "stays" if verdict.dies is False else "undefined"
        doubt = "" if verdict.clear else ", not beyond doubt"
        head = "; ignores the head" if verdict.ignores_head else ""
        rows.append([title, *cells, floor, f"{says}{doubt}{head}"])
    yield markdown_table(["method", *columns, "different pictures", "verdict"], rows)
