"""Max-sensitivity: how much the map changes, at most, when the picture hardly does."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seewhy.errors import InputError
from seewhy.evaluation.again import again
from seewhy.evaluation.metric import Batch, Better, Measured, Metric
from seewhy.evaluation.ranking import places
from seewhy.evaluation.table import Table, weighted_mean
from seewhy.explainers.draws import generator, uniform
from seewhy.explanation import Cost, Explanation

_TOGETHER = 16  # copies explained per pass, where the batch is smaller
_SAME = 0.05  # of a map's norm, by which it may differ when it is made again


class NoisyCopiesMetric(Metric):
    """Base of the metrics that explain noisy copies of a picture: rows of the largest number and their mean.

    Maps are read as the method gives them, signed and on its own grid. The picture itself is explained again, too: a
    map that is not what its settings give for the class's logit cannot be compared with those of the copies.
    """

    needs_truth: ClassVar[bool] = False
    pictures: ClassVar[int] = 30
    better: ClassVar[Better] = "lower"

    radius: float = Field(default=0.02, gt=0, description="Largest change of a value of the picture.")
    units: Literal["input", "pixel"] = Field(
        default="input",
        description="Of the radius: the network's input, or shares of the range of a pixel, 0 to 255.",
    )
    samples: int = Field(
        default=10, ge=1, le=10_000, description="Noisy copies; the largest change grows with their number."
    )

    @abstractmethod
    def change(
        self,
        batch: Batch,
        rows: Tensor,
        noise: Float[Tensor, "M C H W"],
        clean: tuple[Float[Tensor, "M T n"], Explanation],
        noisy: tuple[Float[Tensor, "M T n"], Explanation],
    ) -> Float[Tensor, "M T"]:
        """How much each copy's map differs; NaN for copies that do not count.

        Args:
            batch: the pictures.
            rows: which of them each copy is made from.
            noise: what it has more.
            clean: the maps of these pictures, each as often as it has copies, and the explanation of all pictures.
            noisy: the copies' maps and explanation.
        """

    def plan(self, size: tuple[int, int], explaining: Cost) -> Cost:
        return explaining.times(1 + self.samples)

    def measure(self, batch: Batch) -> Measured:
        pictures, count = batch.pixels, len(batch.pixels)
        strength = self._strength(batch)
        given, explanation = _flat(batch.explanation, batch), again(batch, pictures)
        clean = _flat(explanation, batch)
        found = clean.new_full((count * self.samples, clean.shape[1]), math.nan)
        step = max(count, _TOGETHER)
        for start in range(0, len(found), step):
            flat = torch.arange(start, min(start + step, len(found)), device=pictures.device)
            rows, numbers = flat // self.samples, flat % self.samples
            noise = strength * self._drawn(batch, rows, numbers)
            copies = again(batch, pictures[rows] + noise.to(pictures), rows)
            found[flat] = self.change(
                batch, rows, noise, (clean[rows], explanation), (_flat(copies, batch), copies)
            ).to(found)
        changes = found.view(count, self.samples, -1).transpose(1, 2)
        counted = torch.isfinite(changes)
        data = torch.stack([changes.nan_to_num(-math.inf).amax(2), changes.nanmean(2)], dim=2)
        size, difference = _norm(clean), _norm(clean - given)
        empty, other, alone = size == 0, difference > _SAME * size, ~counted.any(2)
        remarks = {
            **dict.fromkeys(places(alone), _NONE),
            **dict.fromkeys(places(other), _OTHER),
            **dict.fromkeys(places(empty), "the map is zero everywhere"),
        }
        return Measured(torch.where((empty | other | alone)[..., None], math.nan, data), remarks)

    def details(self, table: Table) -> dict[str, Tensor]:
        """`mean`: over the copies instead of their largest, which depends less on how many there are."""
        once = torch.ones_like(table.exact[:, :1]).T
        return {"mean": weighted_mean(table.exact[:, 1], once)[0]}

    def _strength(self, batch: Batch) -> Float[Tensor, "C 1 1"]:
        """The radius in the network's input, of each channel."""
        strength = torch.full((batch.pixels.shape[1], 1, 1), self.radius, device=batch.pixels.device)
        if self.units == "input":
            return strength
        preprocess = batch.network.preprocess
        if preprocess is None or preprocess.channels != batch.pixels.shape[1]:
            raise InputError(
                f"{batch.network.name} came without a preprocess for its input, so it is not known what pixels are "
                "in it; pass Network(module, preprocess=Preprocess(...)), or take units='input'"
            )
        std = torch.tensor(preprocess.std, device=strength.device)[:, None, None]
        return strength * 255 * preprocess.scale / std

    def _drawn(self, batch: Batch, rows: Tensor, numbers: Tensor) -> Float[Tensor, "M C H W"]:
        """Uniform in [-1, 1]; every picture's own."""
        shape = batch.pixels.shape[1:]
        pairs = zip(rows.tolist(), numbers.tolist(), strict=True)
        draws = [uniform(generator(batch.keys[row], self.seed, 1 + n), *shape) for row, n in pairs]
        return 2 * torch.stack(draws).to(rows.device) - 1


class MaxSensitivity(NoisyCopiesMetric):
    """Max-sensitivity (Yeh et al., NeurIPS 2019): max |map(x + d) - map(x)| / |map(x)| over noise d, class held fixed.

    The noise is uniform within the radius. It is a lower estimate of the largest change, and grows with `samples`. A
    map that ignores the picture scores 0: put a measure of faithfulness beside it.
    """

    title: ClassVar[str] = "Max-sensitivity"
    paper: ClassVar[str] = "Yeh et al., NeurIPS 2019"

    name: Literal["max-sensitivity"] = "max-sensitivity"

    def change(
        self,
        batch: Batch,
        rows: Tensor,
        noise: Float[Tensor, "M C H W"],
        clean: tuple[Float[Tensor, "M T n"], Explanation],
        noisy: tuple[Float[Tensor, "M T n"], Explanation],
    ) -> Float[Tensor, "M T"]:
        return relative_change(clean[0], noisy[0])


def relative_change(clean: Float[Tensor, "M T n"], noisy: Float[Tensor, "M T n"]) -> Float[Tensor, "M T"]:
    """|noisy - clean| / |clean|; NaN for what was zero and stays it."""
    return _norm(noisy - clean) / _norm(clean)


def _norm(values: Float[Tensor, "M T n"]) -> Float[Tensor, "M T"]:
    return values.square().sum(2).sqrt()


def _flat(explanation: Explanation, batch: Batch) -> Float[Tensor, "M T n"]:
    """The values at the site of the batch's maps."""
    (site,) = batch.explanation.maps
    return explanation.at(site).flatten(2)


_NONE = "no copy counts: none keeps the predicted class, or changes are shares of zeros"
_OTHER = (
    "explained again, the picture has another map: this one explains something else than the class's logit, or was "
    "made by another network"
)
