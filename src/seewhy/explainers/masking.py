"""Scores of masked pictures: where every method that covers parts of the input gets its numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seewhy.errors import NotApplicableError
from seewhy.explainers.baseline import Baseline, baseline
from seewhy.explainers.study import Study
from seewhy.explanation import Cost, upsample
from seewhy.network.inputs import Arguments
from seewhy.network.layers import Site
from seewhy.network.memory import is_kept
from seewhy.network.precision import Precision, autocast, chunked, free_memory
from seewhy.network.preserve import kept_attributes
from seewhy.network.structures import map_tensors
from seewhy.network.survey import Call
from seewhy.targets import BoundTarget

Score = Literal["target", "probability", "log-probability"]
Masks = Callable[[Int[Tensor, " M"], Int[Tensor, " M"]], Float[Tensor, "M h w"]]
"""From picture numbers and mask numbers to masks on their own grid: 1 keeps a pixel, 0 replaces it."""
Collect = Callable[[Int[Tensor, " M"], Int[Tensor, " M"], Float[Tensor, "M T"], Float[Tensor, "M H W"]], None]
"""Takes picture numbers, mask numbers, scores, and the masks at the picture's size."""

_SHARE = 0.25  # of the free memory that one chunk may need
# Pictures per forward beyond which nothing gets faster: elsewhere, and on processors. There many share what a forward
# costs besides; but the C library maps the memory of large outputs anew, unless it is kept.
_MOST, _MOST_ON_CPU, _MOST_KEPT = 256, 16, 48


@dataclass(frozen=True)
class Masking:
    """How pictures are masked and scored.

    Attributes:
        baseline: what replaces a covered pixel, in the network's input; the pictures (B, C, H, W) themselves where
            the method needs them too.
        score: the target itself, or the probability of its classes, or the logarithm of that.
        precision: the number format of the forwards; scores are float32.
        batch: pictures per forward; from free memory by default.
    """

    baseline: Baseline | Tensor = "zero"
    score: Score = "target"
    precision: Precision = "auto"
    batch: int | None = None


def score_masked(
    study: Study,
    key: int | str,
    count: int,
    masks: Masks,
    collect: Collect,
    how: Masking,
    wanted: Bool[Tensor, "B count"] | None = None,
) -> Cost:
    """Score every picture under `count` masks, many pictures and masks per forward.

    Masks are made, brought to the picture's size and blended chunk by chunk, in one reused channels-last buffer;
    chunks are halved where memory runs out.

    Args:
        study: the pictures and the question.
        key: which picture input is masked; the others stay as they are.
        count: masks per picture.
        masks: makes the masks of a chunk on their own grid.
        collect: takes the scores of a chunk; called in order, once per chunk that fitted.
        how: baseline, score, number format.
        wanted: which masks of each picture are scored; all by default.

    Returns:
        The forwards counted.
    """
    arguments = study.arguments
    pictures: Tensor = arguments[key]
    device, size = pictures.device, (pictures.shape[-2], pictures.shape[-1])
    background = _background(study, pictures, how.baseline)
    difference = pictures if background is None else pictures - background
    question = _asked(study.question, how.score)
    if wanted is None:
        wanted = torch.ones((arguments.batch, count), dtype=torch.bool, device=device)
    every = wanted.flatten().nonzero().flatten()
    total = len(every)
    chunk = max(1, min(how.batch or fitting(study), total))
    buffer = torch.empty((chunk, *pictures.shape[1:]), dtype=pictures.dtype, device=device)
    buffer = buffer.to(memory_format=torch.channels_last)

    def run(start: int, stop: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows, numbers = every[start:stop] // count, every[start:stop] % count
        full = upsample(masks(rows, numbers)[:, None].to(pictures.dtype), size)
        shown = buffer[: stop - start]
        last = 0
        for row, many in enumerate(rows.bincount().tolist()):
            part = slice(last, last + many)
            torch.mul(difference[row], full[part], out=shown[part])
            if background is not None:
                shown[part] += background[row]
            last += many
        return rows, numbers, answers(study, question, {key: shown}, rows, how.precision), full[:, 0]

    for part in chunked(run, total, chunk):
        collect(*part)
    cost = Cost(forwards=total)
    study.cost += cost
    return cost


def answers(
    study: Study,
    question: BoundTarget,
    shown: Mapping[int | str, Float[Tensor, "M C H W"]],
    rows: Int[Tensor, " M"],
    precision: Precision,
) -> Float[Tensor, "M T"]:
    """What a question makes of M other pictures, without a graph.

    Args:
        study: the pictures under study.
        question: about them.
        shown: per picture input the M pictures.
        rows: which picture under study each is made from.
        precision: the number format of the forwards.
    """
    outputs = outputs_of(study, study.arguments.showing(shown, rows), precision)
    with torch.no_grad():
        return question.select(rows.cpu())(outputs)


def outputs_of(study: Study, arguments: Arguments, precision: Precision) -> Any:
    """What the network makes of a call, without a graph; in float32 at least, whatever it was computed in."""
    module, folding = study.network.module, study.folding
    with (
        kept_attributes(module.modules()),  # a grid that it keeps now would be of no use in a graph later
        torch.inference_mode(),
        autocast(precision, arguments[arguments.pictures[0]].device),
    ):
        outputs = folding.run(lambda: arguments.call(module))
    return map_tensors(_plain, outputs)


def _background(study: Study, pictures: Tensor, kind: Baseline | Tensor) -> Tensor | None:
    """What shows where a mask is 0; None for zeros, which need not be added."""
    if isinstance(kind, Tensor):
        return kind
    return None if kind == "zero" else baseline(study.network, pictures, kind)


def _asked(question: BoundTarget, score: Score) -> BoundTarget:
    if score == "target":
        return question
    return question.as_probability() if score == "probability" else question.as_log_probability()


def _plain(tensor: Tensor) -> Tensor:
    """A tensor outside inference mode, in float32 at least."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor.clone()


def others_whole(call: Call, site: Site) -> tuple[str, ...]:
    """A note where a layer sees several picture inputs: one of them is masked, the others stay whole."""
    if len(call.inputs) < 2:
        return ()
    others = ", ".join(str(key) for key in call.inputs if key != site.input)
    return (f"only input {site.input} is masked; input {others}, which the layer sees too, stays whole",)


def fitting(study: Study) -> int:
    """Pictures per forward, from the free memory and the largest layers of the network.

    One where these cannot be learned, as the network takes one picture at a time or cannot be differentiated.
    """
    device = study.arguments[study.arguments.pictures[0]].device
    try:
        calls = study.survey.calls
    except (RuntimeError, ValueError, AssertionError, NotApplicableError):
        return 1
    sizes = sorted((math.prod(shape) for call in calls for shape in call.shapes), reverse=True)
    needed = 4 * sum(sizes[:8]) + 1  # a few layers' outputs live at once
    on_cpu = _MOST_KEPT if is_kept() else _MOST_ON_CPU
    most = on_cpu if device.type == "cpu" else _MOST
    return max(1, min(most, int(_SHARE * free_memory(device) / needed)))
