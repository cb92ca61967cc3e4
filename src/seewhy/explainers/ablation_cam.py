"""Ablation-CAM: each feature map weighted by what the score loses without it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from seewhy.explainers.base import Computed, Explainer, Workload
from seewhy.explainers.linearity import head_shape
from seewhy.explainers.pixels import remarks
from seewhy.explainers.study import Study
from seewhy.explanation import Cost
from seewhy.network.layers import Site, most_channels
from seewhy.network.network import Network
from seewhy.network.precision import in_chunks

_BATCH = 64
_SMALL = 1e-3
_NOTICED = 1e-6
HARDLY_OFF = "no channel that is off changes the score by much"
_ROUNDINGS = 25  # of a score, what many layers round off, in the last place of their number format
_VISIBLE = 0.005  # of a map, beyond which it is said what that makes of it


class AblationCAM(Explainer):
    """Ablation-CAM (Desai and Ramaswamy, WACV 2020): sum_k ((y - y_k) / |y|) A_k, y_k the score with channel k off.

    Where the score is affine in the layer, which is measured, y - y_k is the channel's gradient times activation,
    summed, and costs nothing more; elsewhere the head is run once per channel. The paper divides by y (preset
    `paper`), which turns the map over where the score is negative.
    """

    title: ClassVar[str] = "Ablation-CAM"
    paper: ClassVar[str] = "Desai and Ramaswamy, WACV 2020"
    needs: ClassVar[str] = "a layer with feature maps"
    subtracts_scores: ClassVar[bool] = True
    presets: ClassVar = {"paper": {"divisor": "score"}}

    name: Literal["ablation-cam"] = "ablation-cam"
    layer: str | tuple[str, ...] | None = Field(
        default=None, description="Layer or layers, by dotted name. None: the last feature map that counts."
    )
    fill: Annotated[float, Field(allow_inf_nan=False)] | Literal["zero", "mean"] = Field(
        default="zero", description="What stands for a channel that is off: zero, its own mean, or a number."
    )
    divisor: Literal["magnitude", "score"] = Field(
        default="magnitude", description="Divide by the score's magnitude, or by the score itself."
    )
    computation: Literal["auto", "replay"] = Field(
        default="auto",
        description="auto: arithmetic where the head is affine. replay: run the head for every channel.",
    )

    def plan(self, work: Workload, network: Network) -> Cost:
        sites = work.sites(self.layer)
        runs = work.pictures * most_channels(network.module) * sites
        return Cost(forwards=work.pictures * (1 + sites) + runs, backwards=work.scores, replays=runs)

    def request(self, study: Study) -> None:
        study.request(study.layers(self.layer), gradient=self.computation == "auto")

    def compute(self, study: Study) -> Computed:
        choice = study.layers(self.layer)
        maps: dict[Site, Tensor] = {}
        cost = Cost()
        notes: list[tuple[str, ...]] = [()] * study.arguments.batch
        for site in choice.calls:
            replayed = self.computation == "replay" or bool(head_shape(study, site).not_affine)
            if not replayed:
                lost, activation = self._by_arithmetic(study, site)
                cost += study.used("float32", True) if not maps else Cost()
            else:
                lost, activation, spent = self._by_replays(study, site)
                cost += spent + (study.clean if not maps else Cost())
            divisor = study.scores[:, :, None]
            if self.divisor == "magnitude":
                divisor = divisor.abs()
            weights = torch.where(divisor == 0, 0.0, lost / torch.where(divisor == 0, 1.0, divisor))
            maps[site] = torch.einsum("btk,bkhw->bthw", weights, activation)
            if replayed:
                # Every weight is off by the rounding of the score, each in its own direction.
                last_place = torch.finfo(study.network.dtype).eps
                rounding = _ROUNDINGS * last_place * torch.linalg.vector_norm(activation, dim=1).amax((1, 2))
                largest = maps[site].abs().amax((2, 3))
                visible = ((largest > 0) & (rounding[:, None] > _VISIBLE * largest)).any(1)
                notes = _with(notes, f"{HARDLY_OFF}: what shows is partly its rounding", visible)
            small = (study.scores.abs() < _SMALL * lost.abs().amax(2)).any(1)
            notes = _with(notes, "the score is nearly zero, by which the map is divided", small)
        found = [(*remarks(list(maps.values()), row), *own) for row, own in enumerate(notes)]
        return Computed(maps, tuple(found), choice.reason, cost)

    def _by_arithmetic(
        self, study: Study, site: Site
    ) -> tuple[Float[Tensor, "B T K"], Float[Tensor, "B K h w"]]:
        feature = study.feature(site, gradient=True)
        assert feature.gradient is not None
        lost = feature.gradient * (feature.activation - self._filled(feature.activation))[:, None]
        total = lost.sum((-2, -1))
        # A pooled head does not notice a channel's mean in its place; what is left of such a sum is rounding.
        noticed = total.abs() > _NOTICED * lost.abs().sum((-2, -1))
        return torch.where(noticed, total, 0.0), feature.activation

    def _by_replays(
        self, study: Study, site: Site
    ) -> tuple[Float[Tensor, "B T K"], Float[Tensor, "B K h w"], Cost]:
        head = study.head(site, slice(None))
        activation = head.maps
        filled, count = self._filled(activation), activation.shape[1]
        after = activation.new_zeros((*study.scores.shape, count))

        def run(start: int, stop: int) -> None:
            flat = torch.arange(start, stop, device=activation.device)
            rows, channels = flat // count, flat % count
            ablated = activation[rows]
            ablated[torch.arange(len(flat), device=flat.device), channels] = filled[rows, channels]
            with torch.no_grad():
                outputs = head(head.holding(ablated, rows), rows)
                after[rows, :, channels] = study.question.select(rows.cpu())(outputs)

        in_chunks(run, study.arguments.batch * count, _BATCH)
        spent = Cost(forwards=head.forwards, replays=head.replays)
        study.cost += spent
        return study.scores[:, :, None] - after, activation, spent

    def _filled(self, activation: Float[Tensor, "B K h w"]) -> Float[Tensor, "B K h w"]:
        if self.fill == "mean":
            return activation.mean((-2, -1), keepdim=True).expand_as(activation)
        return torch.full_like(activation, 0.0 if self.fill == "zero" else self.fill)


def _with(notes: list[tuple[str, ...]], note: str, where: Bool[Tensor, " B"]) -> list[tuple[str, ...]]:
    """The notes, with one more for some pictures."""
    return [(*own, note) if each else own for own, each in zip(notes, where.tolist(), strict=True)]
