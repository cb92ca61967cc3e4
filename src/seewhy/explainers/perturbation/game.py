"""What a mask is judged by: the score of the picture that it leaves, or of the part that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from seewhy.explainers.study import Study
from seewhy.network.precision import Precision, autocast, chunked, exact_type
from seewhy.network.structures import map_tensors
from seewhy.targets import BoundTarget

Kind = Literal["deletion", "preservation", "hybrid"]
Score = Literal["target", "probability", "log-probability", "log-odds"]
Scale = Literal["share", "none"]

_BEND = 20.0  # of the corner beyond which a share wins nothing: a twentieth wide


@dataclass(frozen=True, eq=False)
class Game:
    """N masks to be found at once, one for each picture and target.

    Attributes:
        study: the pictures and the question.
        key: which picture input is perturbed; the others stay whole.
        pictures: that input.
        background: what stands where a mask is 0.
        question: what is scored.
        kind: whether what the mask covers shall lower the score, what it covers alone shall keep it, or both.
        scale: whether the score is taken as a share of its way from the background to the whole picture.
        precision: number format of the forwards.
        rows: the picture of each mask.
        columns: the target of each mask.
        whole: the score of the untouched picture.
        bare: the score of the background.
    """

    study: Study
    key: int | str
    pictures: Float[Tensor, "B C H W"]
    background: Float[Tensor, "B C H W"]
    question: Question
    kind: Kind
    scale: Scale
    precision: Precision
    rows: Int[Tensor, " N"]
    columns: Int[Tensor, " N"]
    whole: Float[Tensor, " N"]
    bare: Float[Tensor, " N"]

    @property
    def forwards(self) -> int:
        """Passes of the network for one look at one mask."""
        return 2 if self.kind == "hybrid" else 1

    def scores(
        self,
        keep: Float[Tensor, "M H W"],
        which: Int[Tensor, " M"],
        shifts: Int[Tensor, "M 2"] | None = None,
    ) -> Float[Tensor, " M"]:
        """Scores of pictures of which a share is kept at every pixel.

        Args:
            keep: 1 keeps a pixel, 0 puts the background in its place.
            which: of the N masks each belongs to.
            shifts: pixels by which each picture is moved down and to the right; its border is repeated.
        """
        rows = self.rows[which]
        pictures, background, kept = self.pictures[rows], self.background[rows], keep[:, None]
        if shifts is not None:
            # Moved before they are blended: the gradient then goes back through one channel, the mask's.
            pictures, background, kept = (moved(each, shifts) for each in (pictures, background, kept))
        shown = background + kept.to(background.dtype) * (pictures - background)
        if len(shown) > 1 and shown.device.type == "cpu":
            shown = shown.contiguous(memory_format=torch.channels_last)  # a fifth faster; one alone is not
        with autocast(self.precision, rows.device):
            outputs = self.study.arguments.showing({self.key: shown}, rows).call(self.study.network.module)
        found = self.question(outputs, rows).to(keep.dtype)
        return found.gather(1, self.columns[which][:, None])[:, 0]

    def loss(
        self,
        keep: Float[Tensor, "M H W"],
        which: Int[Tensor, " M"],
        shifts: Int[Tensor, "M 2"] | None = None,
    ) -> Float[Tensor, " M"]:
        """What the player wants to be small, before anything is asked of the mask itself."""
        lost = keep.new_zeros(len(which))
        if self.kind != "preservation":
            lost = lost + self._scaled(self.scores(keep, which, shifts), which, 0.0)
        if self.kind != "deletion":
            lost = lost - self._scaled(self.scores(1 - keep, which, shifts), which, 1.0)
        return lost

    def _scaled(
        self, scores: Float[Tensor, " M"], which: Int[Tensor, " M"], end: float
    ) -> Float[Tensor, " M"]:
        """Scores as shares; beyond the background's, or the whole picture's, nothing is won."""
        if self.scale == "none":
            return scores
        whole, bare = self.whole[which], self.bare[which]
        # Where the background answers more than the picture, a loss of one unit is what can be asked for.
        falls = whole > bare
        low, span = torch.where(falls, bare, whole - 1), torch.where(falls, whole - bare, 1.0)
        share = (scores - low) / span
        # A corner that bends: at a sharp one, where masks come to rest, rounding would decide which way they go.
        return F.softplus(share, _BEND) if end == 0 else 1 - F.softplus(1 - share, _BEND)


@dataclass(frozen=True)
class Question:
    """What is scored of outputs.

    Attributes:
        target: what is explained.
        score: of its classes.
    """

    target: BoundTarget
    score: Score

    def __call__(self, outputs: Any, rows: Int[Tensor, " M"]) -> Float[Tensor, "M T"]:
        """Scores of outputs whose rows belong to these pictures, in float64 where there is one."""
        target = self.target
        if self.score == "probability":
            target = target.as_probability()
        elif self.score != "target":
            target = target.as_log_probability()
        bound = target.select(rows.cpu())
        # Not by the target's own call, which rounds to float32: log-odds of 20 are there no longer told from 16.
        found = bound.ask(map_tensors(_exact, outputs), bound.rows)
        found = found[:, None] if found.ndim == 1 else found
        if self.score == "log-odds" and target.log_probability is not None:
            certain = found.clamp_max(-torch.finfo(found.dtype).eps)
            return certain - torch.log(-torch.expm1(certain))
        return found


def settled_scores(
    study: Study, key: int | str, shown: Float[Tensor, "B C H W"], question: Question, precision: Precision
) -> Float[Tensor, "B T"]:
    """Scores of one other picture for each of those under study, without a graph."""
    device = shown.device

    def run(start: int, stop: int) -> Tensor:
        rows = torch.arange(start, stop, device=device)
        with torch.no_grad(), autocast(precision, device):
            outputs = study.arguments.showing({key: shown[start:stop]}, rows).call(study.network.module)
            return question(outputs, rows)

    return torch.cat(list(chunked(run, len(shown))))


def moved(pictures: Float[Tensor, "M C H W"], shifts: Int[Tensor, "M 2"]) -> Float[Tensor, "M C H W"]:
    """Each picture moved by pixels of its own, down and to the right; its border is repeated."""
    height, width = pictures.shape[-2:]
    y = (torch.arange(height, device=pictures.device) - shifts[:, :1]).clamp(0, height - 1)
    x = (torch.arange(width, device=pictures.device) - shifts[:, 1:]).clamp(0, width - 1)
    number, channel = (torch.arange(count, device=pictures.device) for count in pictures.shape[:2])
    return pictures[
        number[:, None, None, None], channel[None, :, None, None], y[:, None, :, None], x[:, None, None]
    ]


def _exact(tensor: Tensor) -> Tensor:
    return tensor.to(exact_type(tensor.device)) if tensor.is_floating_point() else tensor
