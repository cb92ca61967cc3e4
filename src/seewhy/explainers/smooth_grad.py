"""SmoothGrad: the mean map over noisy copies of the picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator
from torch import Tensor

from seewhy.explainers.activation import ActivationMethod
from seewhy.explainers.base import Computed, Explainer, Workload, make
from seewhy.explainers.draws import Seed, generator, normal, picture_keys
from seewhy.explainers.gradient import Gradient
from seewhy.explainers.layer_path import LayerPath
from seewhy.explainers.pixels import PixelMethod, remarks
from seewhy.explainers.study import Study
from seewhy.explanation import Cost, Reduce
from seewhy.network.layers import Site
from seewhy.network.network import Network
from seewhy.network.precision import chunked, exact_type

_BATCH = 16  # pictures whose graph is held at once


def _as_explainer(given: Any) -> Any:
    """A method from its name, or from what it was written as."""
    if isinstance(given, str):
        return make(given)
    if isinstance(given, Mapping):
        settings = dict(given)
        return make(str(settings.pop("name", "gradient")), **settings)
    return given


class SmoothGrad(Explainer):
    """SmoothGrad (Smilkov et al., 2017): any gradient method's map, averaged over noisy copies of the picture.

    The noise is normal, its standard deviation a share of the picture's range, drawn for every picture from its
    own pixels and the seed. `statistic` gives the variance instead (VarGrad, Adebayo et al., 2018), or the mean square.
    """

    title: ClassVar[str] = "SmoothGrad"
    paper: ClassVar[str] = "Smilkov et al., 2017"
    needs: ClassVar[str] = "what the smoothed method needs"

    name: Literal["smooth-grad"] = "smooth-grad"
    method: Annotated[SerializeAsAny[Explainer], BeforeValidator(_as_explainer)] = Field(
        default=Gradient(),
        description="What is averaged: a method of gradients, at the pixels or at a layer.",
    )
    samples: int = Field(default=50, ge=1, le=10_000, description="Noisy copies.")
    noise: float = Field(
        default=0.15,
        ge=0,
        le=2,
        description="Standard deviation, in shares of the picture's range.",
    )
    statistic: Literal["mean", "variance", "square"] = Field(
        default="mean", description="What is taken over the copies."
    )
    seed: Seed = Field(default=0, description="Of the noise.")
    reduce: Reduce = Field(
        default="sum",
        description="How evidence and pictures of the map join the colour channels, if it has them.",
    )

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """Whether negative values mean evidence against."""
        return self.statistic == "mean" and self.method.signed

    @model_validator(mode="after")
    def _only_gradients(self) -> SmoothGrad:
        smooth = isinstance(self.method, PixelMethod | LayerPath) or (
            isinstance(self.method, ActivationMethod) and self.method.uses_gradient
        )
        if not smooth:
            raise ValueError(f"{self.method.name} is no method of gradients, so there is nothing to smooth")
        return self

    def plan(self, work: Workload, network: Network) -> Cost:
        copies = replace(work, pictures=work.pictures * self.samples)
        return Cost(forwards=work.pictures) + self.method.plan(copies, network)

    def compute(self, study: Study) -> Computed:
        pictures = {key: study.arguments[key] for key in study.arguments.pictures}
        keys = {key: picture_keys(each) for key, each in pictures.items()}
        spread = {
            key: self.noise * (each.amax((1, 2, 3)) - each.amin((1, 2, 3))) for key, each in pictures.items()
        }
        sums: dict[Site, Tensor] = {}
        squares: dict[Site, Tensor] = {}
        cost, reason = Cost(), ""

        def noisy(key: int | str, row: int, sample: int) -> Tensor:
            picture = pictures[key][row]
            drawn = normal(generator(keys[key][row], self.seed, sample), *picture.shape)
            copy: Tensor = picture + spread[key][row] * drawn.to(picture)
            return copy

        def run(start: int, stop: int) -> tuple[Tensor, Computed, Cost]:
            pairs = [divmod(flat, self.samples) for flat in range(start, stop)]
            rows = torch.tensor([row for row, _ in pairs], device=study.scores.device)
            shown = {key: torch.stack([noisy(key, *pair) for pair in pairs]) for key in pictures}
            copies = study.of(study.arguments.showing(shown, rows), rows.cpu())
            self.method.request(copies)
            return rows, self.method.compute(copies), copies.cost

        said: list[list[tuple[str, ...]]] = [[] for _ in range(study.arguments.batch)]
        for rows, found, spent in chunked(run, study.arguments.batch * self.samples, _BATCH):
            for row, own in zip(rows.tolist(), found.notes, strict=True):
                said[row].append(own)
            for site, values in found.maps.items():
                exact = values.detach().to(exact_type(values.device))
                shape = (study.arguments.batch, *exact.shape[1:])
                sums.setdefault(site, exact.new_zeros(shape)).index_add_(0, rows, exact)
                if self.statistic != "mean":
                    squares.setdefault(site, exact.new_zeros(shape)).index_add_(0, rows, exact.square())
            cost, reason = cost + spent, found.reason
        study.cost += cost
        maps = {site: self._statistic(each, squares.get(site)).float() for site, each in sums.items()}
        notes = []
        for row, copies in enumerate(said):
            # What the method says of every copy it says of the picture.
            common = [note for note in copies[0] if all(note in own for own in copies)]
            notes.append(tuple(dict.fromkeys([*remarks(list(maps.values()), row, self.reduce), *common])))
        return Computed(maps, tuple(notes), reason, study.clean + replace(cost, setup=0))

    def _statistic(self, total: Tensor, squares: Tensor | None) -> Tensor:
        mean = total / self.samples
        if squares is None:
            return mean
        square = squares / self.samples
        return square if self.statistic == "square" else (square - mean.square()).clamp_min(0)
