"""Score-CAM: each feature map weighted by the score of the picture seen through it."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seewhy.explainers.base import Computed, Explainer, Workload
from seewhy.explainers.masking import Masking, Score, others_whole, score_masked
from seewhy.explainers.pixels import remarks
from seewhy.explainers.study import Study
from seewhy.explanation import Cost, upsample
from seewhy.network.layers import Site, most_channels
from seewhy.network.network import Network
from seewhy.network.precision import Precision

CONCENTRATED = "the weights lie on"  # and then, on how few channels
_EVEN = 1e-4  # relative difference of the weights
EVEN = "the scores hardly differ: all channels weigh the same"


class ScoreCAM(Explainer):
    """Score-CAM (Wang et al., CVPR workshop 2020): sum_k a_k A_k, a_k the softmax over k of the score of x * N(A_k).

    N brings an upsampled feature map to [0, 1]. The paper subtracts the score of an empty picture, which a softmax
    does not notice (preset `paper`); without it is the form of pytorch-grad-cam (`reference`). One forward per channel,
    and one for all those that are constant, which N makes the empty picture.
    """

    title: ClassVar[str] = "Score-CAM"
    paper: ClassVar[str] = "Wang et al., CVPR workshop 2020"
    needs: ClassVar[str] = "a layer with feature maps"
    presets: ClassVar = {
        "paper": {"subtract_empty": True},
        "reference": {},
        "author-code": {"score": "probability", "weights": "score"},
    }

    name: Literal["score-cam"] = "score-cam"
    layer: str | tuple[str, ...] | None = Field(
        default=None, description="Layer or layers, by dotted name. None: the last feature map that counts."
    )
    score: Score = Field(
        default="target",
        description="What is scored: the target (a class's logit), or its probability, whose softmax is nearly even, "
        "or the logarithm of that.",
    )
    weights: Literal["softmax", "score"] = Field(
        default="softmax",
        description="What a channel weighs: the softmax of the scores over the channels, or its score itself.",
    )
    subtract_empty: bool = Field(
        default=False, description="Subtract the score of the empty picture first; no softmax notices."
    )
    channels: int | None = Field(
        default=None, ge=1, description="Score only so many channels, those that vary most; all by default."
    )
    precision: Precision = Field(
        default="auto",
        description="Number format of the scoring forwards. `auto`: bfloat16 where it is faster.",
    )

    def plan(self, work: Workload, network: Network) -> Cost:
        sites = work.sites(self.layer)
        most = most_channels(network.module)
        scored = min(self.channels or most, most)
        return Cost(forwards=work.pictures * (1 + sites * (scored + 1)))

    def request(self, study: Study) -> None:
        study.request(study.layers(self.layer), gradient=False)

    def compute(self, study: Study) -> Computed:
        choice, batch = study.layers(self.layer), study.arguments.batch
        maps: dict[Site, Tensor] = {}
        cost = study.clean
        notes: list[tuple[str, ...]] = [()] * batch
        for site in choice.calls:
            activation = study.feature(site, gradient=False).activation
            scores, scored, spent = self._scores(study, site, activation)
            weights = scores.softmax(1) if self.weights == "softmax" else scores
            some_vary = (scored.amax((2, 3)) > scored.amin((2, 3))).any(1)
            weights = torch.where(some_vary[:, None, None], weights, 0.0)  # else nothing says where
            maps[site] = torch.einsum("bkt,bkhw->bthw", weights, scored)
            cost += spent
            whole = others_whole(choice.calls[site], site)
            told = _channel_notes(scored, weights)
            notes = [(*own, *more, *whole) for own, more in zip(notes, told, strict=True)]
        found = [(*remarks(list(maps.values()), row), *own) for row, own in enumerate(notes)]
        return Computed(maps, tuple(found), choice.reason, cost)

    def _scores(
        self, study: Study, site: Site, activation: Float[Tensor, "B K h w"]
    ) -> tuple[Float[Tensor, "B k T"], Float[Tensor, "B k h w"], Cost]:
        """Scores of the channels chosen, these channels, and what it took."""
        batch, channels = activation.shape[:2]
        height, width = study.arguments[site.input].shape[-2:]
        count = min(self.channels or channels, channels)
        chosen = torch.arange(channels, device=activation.device).expand(batch, -1)
        if count < channels:
            cells = activation[0, 0].numel()
            chosen = activation.flatten(2).var(2, correction=min(1, cells - 1)).topk(count, dim=1).indices
        scored = activation.gather(1, chosen[:, :, None, None].expand(-1, -1, *activation.shape[2:]))
        varies = scored.amax((2, 3)) > scored.amin((2, 3))
        # The last number stands for the empty picture.
        empty = torch.full_like(varies[:, :1], self.subtract_empty) | ~varies.all(1, keepdim=True)
        found = activation.new_zeros((batch, count + 1, study.scores.shape[1]))

        def masks(rows: Tensor, numbers: Tensor) -> Tensor:
            native = scored[rows, numbers.clamp_max(count - 1)]
            full = normalized(upsample(native[:, None], (height, width))[:, 0])
            return full * (numbers < count)[:, None, None]

        def collect(rows: Tensor, numbers: Tensor, scores: Tensor, _masks: Tensor) -> None:
            found[rows, numbers] = scores

        how = Masking(score=self.score, precision=self.precision)
        wanted = torch.cat([varies, empty], 1)
        cost = score_masked(study, site.input, count + 1, masks, collect, how, wanted)
        scores, of_empty = found[:, :count], found[:, count:]
        scores = torch.where(varies[:, :, None], scores, of_empty)
        return (scores - of_empty if self.subtract_empty else scores), scored, cost


def normalized(maps: Float[Tensor, "M H W"]) -> Float[Tensor, "M H W"]:
    """Each map stretched to [0, 1]; a constant one becomes 0."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / torch.where(high > low, high - low, 1.0)


def _channel_notes(activation: Tensor, weights: Float[Tensor, "B K T"]) -> list[list[str]]:
    """Per picture: how many channels were constant, on how few the weights lie, or that all weigh the same."""
    count = activation.shape[1]
    constant = (activation.amax((-2, -1)) == activation.amin((-2, -1))).sum(1).tolist()
    sizes = weights.abs()
    shares = sizes / sizes.sum(1, keepdim=True).clamp_min(torch.finfo(sizes.dtype).tiny)
    effective = torch.special.entr(shares).sum(1).exp().amin(1).tolist()
    even = (weights.amax(1) - weights.amin(1) <= _EVEN * sizes.amax(1)).any(1).tolist()
    notes: list[list[str]] = [[] for _ in constant]
    for found, dead, most, same in zip(notes, constant, effective, even, strict=True):
        if dead:
            found.append(f"{dead} of {count} channels are constant")
        if count > 1 and dead < count:
            if same:
                found.append(EVEN)
            elif most < max(1.5, 0.02 * count):
                found.append(f"{CONCENTRATED} {most:.0f} of {count} channels")
    return notes
