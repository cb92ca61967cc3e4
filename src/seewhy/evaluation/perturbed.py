"""Scores of pictures that are changed where a map says so, for the class that the map explains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seewhy.errors import InputError
from seewhy.evaluation.metric import Batch
from seewhy.explainers.baseline import baseline, blurred, convolved
from seewhy.explainers.masking import Masking, answers, fitting, outputs_of, score_masked
from seewhy.explainers.study import Study
from seewhy.network.inputs import Arguments
from seewhy.network.network import Network, main_output
from seewhy.network.precision import Precision, chunked
from seewhy.targets import BoundTarget, Logit, Predicted, Target

Substrate = Literal["zero", "blur", "blur-11", "blur-51"]
SUBSTRATES = (
    "`zero` in the network's input (the mean colour); `blur-11`, RISE's 11 x 11 of sigma 5, zeros outside; `blur-51`, "
    "Group-CAM's 51 x 51 of sigma 50, reflected; `blur`, sigma 10 on 224 pixels, the border repeated"
)
Score = Literal["probability", "logit"]
PRECISION = (
    "Number format of the forwards. `auto`: bfloat16 where it is faster; numbers then differ by up to 5e-3."
)
Keep = Callable[[Int[Tensor, " M"], Int[Tensor, " M"], Int[Tensor, " M"]], Tensor]
"""From picture, target and step numbers to masks (M, H, W): 1 keeps a pixel, 0 puts the substrate there."""


Changed = Callable[[Int[Tensor, " M"], Int[Tensor, " M"]], Tensor]
"""From picture numbers and numbers of changes to the changed pictures (M, C, H, W)."""
Ask = Callable[[BoundTarget], BoundTarget]


def scores(
    batch: Batch, steps: int, keep: Keep, substrate: Substrate, score: Score, precision: Precision
) -> Float[Tensor, "B T S"]:
    """The score of each map's class under S masks of its own.

    Raises:
        InputError: the maps explain no classes, or the pictures are too small for the blur.
    """
    count, targets = len(batch.pixels), len(batch.explanation.labels[0])
    found = torch.zeros(count, targets * steps, device=batch.pixels.device)

    def masks(rows: Tensor, numbers: Tensor) -> Tensor:
        return keep(rows, numbers // steps, numbers % steps)

    def collect(rows: Tensor, numbers: Tensor, scored: Tensor, shown: Tensor) -> None:
        own = scored.gather(1, (numbers // steps)[:, None])[:, 0]
        found[rows, numbers] = own.to(found)

    with batch.network.prepared(batch.images) as arguments:
        study = _asking(batch, arguments, precision)
        key = arguments.pictures[0]
        background = substituted(batch.network, arguments[key], substrate)
        how = Masking(background, "probability" if score == "probability" else "target", precision)
        score_masked(study, key, targets * steps, masks, collect, how)
    return found.view(count, targets, steps)


def untouched(batch: Batch, score: Score, precision: Precision) -> Float[Tensor, "B T"]:
    """The score of each map's class for the picture as it is, once for all metrics.

    Raises:
        InputError: the maps explain no classes.
    """
    with batch.network.prepared(batch.images) as arguments:
        study = _asking(batch, arguments, precision)
        question = study.question.as_probability() if score == "probability" else study.question
        return question(study.outputs)


def changed_scores(
    batch: Batch, count: int, changed: Changed, ask: Ask, precision: Precision
) -> Float[Tensor, "B N T"]:
    """The scores of each map's classes for N pictures made from each picture, many per forward.

    Args:
        batch: the pictures and the classes.
        count: pictures made from each (N).
        changed: makes those of a chunk; it may be called again for a chunk that did not fit.
        ask: from the question about the classes' logits to what is asked, as `BoundTarget.as_probability`.
        precision: number format of the forwards.

    Raises:
        InputError: the maps explain no classes.
    """
    with batch.network.prepared(batch.images) as arguments:
        study = _asking(batch, arguments, precision)
        question, key = ask(study.question), arguments.pictures[0]

        def run(start: int, stop: int) -> Tensor:
            flat = torch.arange(start, stop, device=batch.pixels.device)
            rows, numbers = flat // count, flat % count
            shown = changed(rows, numbers).to(batch.pixels)
            return answers(study, question, {key: shown}, rows, precision)

        total = len(batch.pixels) * count
        found = torch.cat(list(chunked(run, total, fitting(study))))
    return found.view(len(batch.pixels), count, -1)


def _asking(batch: Batch, arguments: Arguments, precision: Precision) -> Study:
    """The question that the maps answer, and one pass over the pictures themselves for all metrics."""
    study = Study(batch.network, arguments, Explained(batch.explanation.labels), "")
    study.offer(
        batch.once_of_pictures(("outputs", precision), lambda: outputs_of(study, arguments, precision))
    )
    return study


def substituted(
    network: Network, pictures: Float[Tensor, "B C H W"], substrate: Substrate
) -> Float[Tensor, "B C H W"]:
    """What stands where a picture is taken away.

    Raises:
        InputError: the pictures are too small to be reflected that far.
    """
    if substrate == "blur-11":
        kernel = rise_kernel().to(pictures)
        padded = torch.nn.functional.pad(pictures, (5, 5, 5, 5))
        return convolved(convolved(padded, kernel, upright=True), kernel, upright=False)
    if substrate == "blur-51":
        if min(pictures.shape[-2:]) <= 25:
            raise InputError(
                f"the 51 x 51 blur reflects 25 pixels; pictures of {tuple(pictures.shape[-2:])} are too small for it"
            )
        return blurred(pictures, sigma=50, reach=25, border="reflect")
    return baseline(network, pictures, substrate)


def rise_kernel() -> Float[Tensor, "11"]:
    """One side of RISE's kernel: a Gaussian filter's answer to a point in 11 pixels, reflected at their ends."""
    reach, sigma, side = 20, 5.0, 11
    away = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-(away**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    places = (torch.arange(side)[:, None] + torch.arange(-reach, reach + 1)) % (2 * side)
    reflected = torch.where(places < side, places, 2 * side - 1 - places)
    return (weights * (reflected == side // 2)).sum(1)


@dataclass(frozen=True)
class Explained(Target):
    """The classes that maps explain, found again by their names.

    Args:
        labels: per picture the T names.
    """

    labels: tuple[tuple[str, ...], ...] = ()

    def pick(self, rows: Sequence[int], batch: int) -> Target:
        return replace(self, labels=tuple(self.labels[row] for row in rows))

    def bind(self, outputs: Any, network: Network) -> BoundTarget:
        output = main_output(outputs)
        if output.ndim == 1 or (output.ndim == 2 and output.shape[1] == 1):
            # A single logit: what would be predicted of one that is positive, and of one that is not.
            yes, no = (Predicted().bind(torch.full_like(output, sign), network).labels for sign in (1, -1))
            if all(label in pair for label, *pair in zip(self.labels, yes, no, strict=True)):
                signs = [
                    1 if label == positive else -1 for label, positive in zip(self.labels, yes, strict=True)
                ]
                return Predicted().bind(torch.tensor(signs).to(output).view_as(output), network)
        elif output.ndim == 2:
            predicted = Predicted().bind(outputs, network)
            if predicted.labels == self.labels:
                return predicted
            numbers = {network.class_name(index): index for index in range(output.shape[1])}
            if all(label in numbers for row in self.labels for label in row):
                return Logit([[numbers[label] for label in row] for row in self.labels]).bind(
                    outputs, network
                )
        raise InputError(
            f"the maps explain {', '.join(sorted({label for row in self.labels for label in row}))}, which are no "
            f"classes of {network.name}; what pictures lose by being changed is measured for classes"
        )
