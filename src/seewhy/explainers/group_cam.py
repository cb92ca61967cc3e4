"""Group-CAM: groups of weighted feature maps, each weighted by what the picture seen through it scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from seewhy.explainers.activation import check_finite
from seewhy.explainers.base import Computed, Explainer, Workload
from seewhy.explainers.baseline import Baseline, blurred
from seewhy.explainers.baseline import baseline as made_baseline
from seewhy.explainers.draws import Seed
from seewhy.explainers.grouping import Grouping, group_count, grouped
from seewhy.explainers.masked_input import rounding
from seewhy.explainers.masking import Masking, Score, others_whole, score_masked
from seewhy.explainers.pixels import remarks
from seewhy.explainers.study import Feature, Study
from seewhy.explanation import Cost, Rectifies, upsample
from seewhy.network.layers import Site, most_channels
from seewhy.network.network import Network
from seewhy.network.precision import Precision, in_chunks

NO_EFFECT = "no group raises the score above the baseline's"
SAME = "the picture is its own baseline: masks change nothing"
_ROUNDING = 1e-6  # of a sum's terms: what float32 leaves where they cancel
_SAME = 1e-5  # of the picture's largest value
_AT_ONCE = 1 << 25  # numbers that the sums of one chunk may hold


@dataclass(frozen=True)
class Groups:
    """The groups of one layer's channels for B pictures; S is T, or 1 where all targets share them.

    Attributes:
        maps: rectified sums of each group's weighted channels, with what is noise set to zero.
        scale: the largest sum of magnitudes that such a map came from; far below it is rounding.
    """

    maps: Float[Tensor, "B S G h w"]
    scale: Float[Tensor, "B S G"]


@dataclass(frozen=True)
class Scored:
    """What the groups' masks scored.

    Attributes:
        scores: of the picture seen through each mask, and last of the baseline where it is subtracted (B, T, N).
        low: least value of each group's map at the picture's size.
        span: how far its values go from there; 1 where it is constant.
        alive: whether it is not.
        same: per picture, whether it is its own baseline.
    """

    scores: Float[Tensor, "B T N"]
    low: Float[Tensor, "B S G"]
    span: Float[Tensor, "B S G"]
    alive: Tensor
    same: Tensor


class GroupCAM(Explainer):
    """Group-CAM (Zhang et al., arXiv 2103.13859, 2021): sum_l a_l M_l over G groups of channels.

    M_l: the ReLU of the sum of the group's maps, each times its mean gradient, without its lowest 70 %, brought to
    [0, 1]. a_l: how much the probability of x * M_l + blur(x) * (1 - M_l) exceeds that of blur(x). One forward per
    group. The public code had other rules at other times: presets.
    """

    title: ClassVar[str] = "Group-CAM"
    paper: ClassVar[str] = "Zhang et al., 2021"
    needs: ClassVar[str] = "a layer with feature maps"
    subtracts_scores: ClassVar[bool] = True
    rectifies: ClassVar[Rectifies] = "input"
    presets: ClassVar = {
        "paper": {},
        "reference": {"denoise": None, "rectify_scores": True, "merge": "maps"},
        "reference-v1": {"denoise_over": "all", "subtract_baseline": False},
        "gradient-free": {"weights": "none"},
    }

    name: Literal["group-cam"] = "group-cam"
    layer: str | tuple[str, ...] | None = Field(
        default=None, description="Layer or layers, by dotted name. None: the last feature map that counts."
    )
    groups: int = Field(
        default=32,
        ge=1,
        description="How many groups (G), one forward each; no more than there are channels.",
    )
    grouping: Grouping = Field(
        default="contiguous",
        description="Which channels go together: `contiguous` ones, those next to each other `by-weight`, `random` "
        "ones, clusters of the weighted maps (`k-means`, `agglomerative`), or the user's own: per channel the number "
        "of its group, or the path of a JSON list of them.",
    )
    weights: Literal["gradient", "none"] = Field(
        default="gradient",
        description="What a channel weighs in its group: the mean of its gradient, or 1, which needs no gradient.",
    )
    denoise: float | None = Field(
        default=70.0,
        ge=0,
        lt=100,
        description="Percentile up to which a group's map is set to zero, on the layer's grid. None: nothing is.",
    )
    denoise_over: Literal["group", "all"] = Field(
        default="group", description="Whether it is each group's own percentile, or one over all groups."
    )
    score: Score = Field(
        default="probability",
        description="What is scored: the probability of the classes asked about, its logarithm, or the target itself, "
        "as are targets that are no classes.",
    )
    subtract_baseline: bool = Field(
        default=True,
        description="Subtract the baseline's score, so that a mask that shows nothing weighs nothing.",
    )
    rectify_scores: bool = Field(default=False, description="Count only groups whose weight is positive.")
    merge: Literal["masks", "maps"] = Field(
        default="masks", description="What is summed: masks in [0, 1], or the maps they were made of."
    )
    baseline: Baseline = Field(
        default="blur",
        description="What shows where a mask is 0: the picture in a `blur` (of `blur_kernel` and `blur_sigma`), `zero` "
        "in the network's input, the picture's own `mean` colour, or the path of a picture.",
    )
    blur_kernel: int = Field(
        default=51, ge=1, description="Side of the blur's kernel in pixels, odd; cut to fit small pictures."
    )
    blur_sigma: float = Field(
        default=50.0,
        gt=0,
        description="Standard deviation of the blur's Gaussian in pixels; 50 is nearly a box.",
    )
    seed: Seed = Field(default=0, description="Of random groups, and of the start of k-means.")
    precision: Precision = Field(
        default="auto",
        description="Number format of the scoring forwards. `auto`: bfloat16 where it is faster.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> GroupCAM:
        if self.blur_kernel % 2 == 0:
            raise ValueError(f"blur_kernel={self.blur_kernel} has no centre; give an odd number")
        if self.grouping == "by-weight" and self.weights == "none":
            raise ValueError(
                "grouping='by-weight' needs weights='gradient'; without it all channels weigh the same"
            )
        return self

    @property
    def randomized(self) -> bool:
        return self.grouping in ("random", "k-means")

    def plan(self, work: Workload, network: Network) -> Cost:
        sites = work.sites(self.layer)
        groups = min(group_count(self.grouping, self.groups), most_channels(network.module))
        differentiated = self.weights == "gradient"
        scored = groups * (work.targets if differentiated else 1) + self.subtract_baseline
        return Cost(
            forwards=work.pictures * (1 + sites * scored), backwards=work.scores if differentiated else 0
        )

    def request(self, study: Study) -> None:
        study.request(study.layers(self.layer), gradient=self.weights == "gradient")

    def compute(self, study: Study) -> Computed:
        choice, differentiated = study.layers(self.layer), self.weights == "gradient"
        maps: dict[Site, Tensor] = {}
        notes: list[list[str]] = [[] for _ in range(study.arguments.batch)]
        cost = Cost()
        for site in choice.calls:
            feature = study.feature(site, differentiated)
            check_finite(feature, study)
            groups = self.grouped(feature)
            scored, spent = self.scored(study, site, groups)
            weights = self.group_weights(scored)
            masks = groups.maps
            if self.merge == "masks":
                low, span, alive = (each[..., None, None] for each in (scored.low, scored.span, scored.alive))
                masks = alive * (masks - low) / span
            masks = masks.expand(-1, weights.shape[1], -1, -1, -1)
            maps[site] = torch.einsum("btg,btghw->bthw", weights, masks)
            cost += spent
            for row, found in enumerate(self._notes(study, feature, scored, weights)):
                notes[row].extend((*found, *others_whole(choice.calls[site], site)))
        cost += study.used("float32", differentiated)
        every = [(*remarks(list(maps.values()), row), *dict.fromkeys(own)) for row, own in enumerate(notes)]
        return Computed(maps, tuple(every), choice.reason, cost)

    def grouped(self, feature: Feature) -> Groups:
        """The groups' maps on the layer's grid."""
        activation = feature.activation
        batch, channels, *grid = activation.shape
        if feature.gradient is None:
            weights = activation.new_ones((batch, 1, channels))
        else:
            weights = feature.gradient.mean((-2, -1))
        shared, count = weights.shape[1], min(group_count(self.grouping, self.groups), channels)

        def run(start: int, stop: int) -> tuple[Tensor, Tensor]:
            pairs = torch.arange(start, stop, device=activation.device)
            own, each = activation[pairs // shared], weights.view(-1, channels)[pairs]
            labels = grouped(own, each, self.grouping, count, self.seed)
            members = torch.nn.functional.one_hot(labels, count).to(each).mT * each[:, None]
            sums, sizes = members @ own.flatten(2), members.abs() @ own.flatten(2).abs()
            return sums.clamp_min(0), sizes.amax(2)

        chunk = max(1, _AT_ONCE // (channels * (count + math.prod(grid))))
        parts = in_chunks(run, batch * shared, chunk)
        maps = torch.cat([sums for sums, _ in parts]).view(batch, shared, count, -1)
        scale = torch.cat([sizes for _, sizes in parts]).view(batch, shared, count)
        if self.denoise is not None:
            over = maps if self.denoise_over == "group" else maps.flatten(2)[:, :, None]
            least = percentile(over, self.denoise) + _ROUNDING * scale[..., None]
            maps = torch.where(maps > least, maps, 0.0)
        return Groups(maps.reshape(batch, shared, count, *grid), scale)

    def scored(self, study: Study, site: Site, groups: Groups) -> tuple[Scored, Cost]:
        """What the picture scores through each group's mask, and the forwards that it took."""
        pictures: Tensor = study.arguments[site.input]
        size = (pictures.shape[-2], pictures.shape[-1])
        batch, shared, count = groups.scale.shape
        maps, scale = groups.maps.flatten(1, 2), groups.scale.flatten(1)
        masks_of_all = shared * count
        low, span = torch.zeros_like(scale), torch.ones_like(scale)
        alive = torch.zeros_like(scale, dtype=torch.bool)
        found = scale.new_zeros((batch, masks_of_all + self.subtract_baseline, study.scores.shape[1]))

        def masks(rows: Tensor, numbers: Tensor) -> Tensor:
            # The last number stands for the baseline, if it is asked for.
            real, numbers = numbers < masks_of_all, numbers.clamp_max(masks_of_all - 1)
            full = upsample(maps[rows, numbers][:, None], size)[:, 0]
            least, most = full.amin((-2, -1)), full.amax((-2, -1))
            varies = most - least > _ROUNDING * scale[rows, numbers]
            low[rows, numbers], alive[rows, numbers] = least, varies
            span[rows, numbers] = torch.where(varies, most - least, 1.0)
            shown = (full - least[:, None, None]) / span[rows, numbers][:, None, None]
            return shown * (varies & real)[:, None, None]

        def collect(rows: Tensor, numbers: Tensor, scores: Tensor, _masks: Tensor) -> None:
            found[rows, numbers] = scores

        behind = self._baseline(study.network, pictures)
        how = Masking(behind, self.score, self.precision)
        # A map that is constant on its grid is constant when enlarged, and weighs nothing whatever it scores.
        varies = maps.amax((-2, -1)) - maps.amin((-2, -1)) > _ROUNDING * scale
        wanted = torch.cat([varies, varies.new_ones((batch, int(self.subtract_baseline)))], 1)
        cost = score_masked(study, site.input, found.shape[1], masks, collect, how, wanted)
        own = found[:, :masks_of_all].reshape(batch, shared, count, -1)
        # A target's own masks; where all share them there is but one set.
        own = own[:, 0].mT if shared == 1 else own.diagonal(dim1=1, dim2=3).mT
        scores = torch.cat([own, found[:, masks_of_all:].mT], 2)
        largest = pictures.abs().flatten(1).amax(1)
        same = (pictures - behind).abs().flatten(1).amax(1) <= _SAME * largest
        low, span, alive = (each.view(batch, shared, count) for each in (low, span, alive))
        return Scored(scores, low, span, alive, same), cost

    def group_weights(self, scored: Scored) -> Float[Tensor, "B T G"]:
        """What every group counts (a_l); zero where its map is constant."""
        count, weights = scored.alive.shape[2], scored.scores
        if self.subtract_baseline:
            weights = weights[..., :count] - weights[..., count:]
            weights = torch.where(scored.same[:, None, None], 0.0, weights)
        if self.rectify_scores:
            weights = weights.clamp_min(0)
        return torch.where(scored.alive, weights, 0.0)

    def _baseline(self, network: Network, pictures: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        if self.baseline == "blur":
            return blurred(pictures, self.blur_sigma, self.blur_kernel // 2, "reflect")
        return made_baseline(network, pictures, self.baseline)

    def _notes(
        self, study: Study, feature: Feature, scored: Scored, weights: Float[Tensor, "B T G"]
    ) -> list[list[str]]:
        """Per picture, how many groups say nothing, and whether any says something."""
        count, channels = scored.alive.shape[2], feature.activation.shape[1]
        found = [list(each) for each in rounding(study, scored.scores.mT, self.precision)]
        dead = [sorted(set(each)) for each in (~scored.alive).sum(2).tolist()]
        silent = ((weights <= 0).all(2) & scored.alive.any(2)).any(1).tolist()
        for row, notes in enumerate(found):
            if isinstance(self.grouping, str) and self.groups > channels:
                notes.append(
                    f"the layer has {channels} channels, so that there are no more than {channels} groups"
                )
            if dead[row][-1]:
                shown = " to ".join(str(each) for each in dict.fromkeys((dead[row][0], dead[row][-1])))
                notes.append(f"{shown} of {count} groups are constant and weigh nothing")
            if scored.same[row] and self.subtract_baseline:
                notes.append(SAME)
            elif silent[row] and self.subtract_baseline:
                notes.append(NO_EFFECT)
        return found


def percentile(maps: Float[Tensor, "*N D"], share: float) -> Float[Tensor, "*N 1"]:
    """The percentile between order statistics, as NumPy's `linear`; `torch.quantile` takes 16 million numbers."""
    ordered = maps.sort(dim=-1).values
    place = share / 100 * (maps.shape[-1] - 1)
    below = int(place)
    above = min(below + 1, maps.shape[-1] - 1)
    return torch.lerp(ordered[..., below], ordered[..., above], place - below)[..., None]
