"""What of a network's outputs filters are judged by, and whether the head makes it of the layer by a matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.errors import TargetError
from seewhy.explainers.attention_filter.asked import Against, coefficients, contrasted
from seewhy.explainers.attention_filter.embedding import BeforeNormalisation, normalised
from seewhy.explainers.attention_filter.linear_head import LinearHead, learned
from seewhy.explainers.attention_filter.objectives import Run
from seewhy.explainers.linearity import probed
from seewhy.explainers.study import Study
from seewhy.explanation import Cost
from seewhy.network.layers import Site
from seewhy.network.network import main_output
from seewhy.network.replay import Head
from seewhy.network.surveys import remember, remembered

BEFORE = "the embedding is normalised; what it was before that is matched"
NO_CLASS = "the target is no class's own score: nothing is held down"

_NO_MATRIX = "none"


@dataclass(frozen=True)
class Reading:
    """What is read.

    Attributes:
        kind: `outputs`, what they were `before` they were normalised, or the target's `scores`.
        outputs: it, of the pictures themselves.
        run: it, of filtered activations, by a head.
        coefficients: how much of it is raised; None to keep it.
        note: what to know about it.
    """

    kind: str
    outputs: Float[Tensor, "B D"]
    run: Callable[[Head], Run]
    coefficients: Float[Tensor, "B T D"] | None = None
    note: str = ""


def raised(study: Study, head: Head, against: Against, count: int) -> Reading:
    """The target, and which other classes it is raised above.

    Raises:
        TargetError: there is no class of such a number to be held down.
    """
    leaf = study.target.output
    found = coefficients(study.question, head.outputs, leaf)
    if found is None:
        each = torch.eye(study.scores.shape[1], device=study.scores.device)
        each = each.expand(len(study.scores), -1, -1)
        return Reading("scores", study.scores, _scores(study), each, NO_CLASS if against != "none" else "")
    clean = _flat(head.outputs, leaf).detach()
    if isinstance(against, tuple) and not all(0 <= each < clean.shape[1] for each in against):
        raise TargetError(f"contrast={against}: the network has {clean.shape[1]} outputs, from 0")
    above = contrasted(found, clean, against, count)
    if above is None:
        return Reading("outputs", clean, _outputs(leaf), found, NO_CLASS)
    return Reading("outputs", clean, _outputs(leaf), above)


def kept(study: Study, head: Head, before_normalisation: bool) -> Reading:
    """All outputs; what they were before they were normalised, if that is wanted and found."""
    leaf = study.target.output
    clean = _flat(head.outputs, leaf).detach()
    if before_normalisation and normalised(clean):
        with torch.no_grad(), BeforeNormalisation() as watch:
            outputs = head(head.activation)
        before = watch.of(_flat(outputs, leaf))
        if before is not None:
            return Reading("before", before.float(), _before(leaf), None, BEFORE)
    return Reading("outputs", clean, _outputs(leaf))


def matrix(study: Study, site: Site, reading: Reading) -> LinearHead | None:
    """The head as a matrix, where it is one; measured and learned once per network, layer, size and weights."""
    if reading.kind == "scores":
        return None
    asked = reading.kind, study.target.output, study.arguments.signature
    key = ("head matrix", str(site), *asked, study.digest)
    found: LinearHead | str | None = remembered(study.network, key)
    if found is None:
        head = study.head(site, slice(0, 1))
        run = reading.run(head)
        shape = probed(lambda maps: run(maps, _first(maps)), head.maps)
        known = None if shape.not_affine else learned(run, head.maps, not shape.not_pooled)
        study.cost += Cost(setup=head.forwards + head.replays)
        found = known or _NO_MATRIX
        remember(study.network, key, found)
    return found if isinstance(found, LinearHead) else None


def _outputs(leaf: str | int | None) -> Callable[[Head], Run]:
    return lambda head: lambda maps, rows: _flat(head(head.holding(maps, rows), rows), leaf)


def _before(leaf: str | int | None) -> Callable[[Head], Run]:
    def of(head: Head) -> Run:
        def run(maps: Tensor, rows: Tensor) -> Tensor:
            with BeforeNormalisation() as watch:
                outputs = head(head.holding(maps, rows), rows)
            before = watch.of(_flat(outputs, leaf))
            # Of a filter that leaves nothing to normalise the output is as good.
            return (_flat(outputs, leaf) if before is None else before).float()

        return run

    return of


def _scores(study: Study) -> Callable[[Head], Run]:
    def of(head: Head) -> Run:
        return lambda maps, rows: study.question.select(rows.cpu())(head(head.holding(maps, rows), rows))

    return of


def _flat(outputs: Any, leaf: str | int | None) -> Float[Tensor, "M D"]:
    return main_output(outputs, leaf).float().flatten(1)


def _first(maps: Tensor) -> Tensor:
    return torch.zeros(len(maps), dtype=torch.long, device=maps.device)
