"""Crisp masks: the smallest sharp part of a picture whose perturbation destroys the score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from seewhy.explainers.base import Computed, Explainer, Workload
from seewhy.explainers.baseline import CHOICES, Baseline, baseline, blurred
from seewhy.explainers.draws import Seed, generator, picture_keys
from seewhy.explainers.l2_caf import UNSETTLED
from seewhy.explainers.perturbation.descent import EVERY, Found, descended
from seewhy.explainers.perturbation.game import Game, Kind, Question, Scale, Score, settled_scores
from seewhy.explainers.perturbation.superpixels import means, superpixels
from seewhy.explainers.perturbation.terms import Weights, asked
from seewhy.explainers.pixels import REASON, remarks
from seewhy.explainers.study import Study
from seewhy.explanation import Cost
from seewhy.network.layers import Site
from seewhy.network.network import Network
from seewhy.network.precision import Precision, chunked

ROUNDED = "rounding decides single pixels"
"""How a note begins where so many steps were taken in float32 that another batch size moves single pixels."""
DEAF = "no evidence: perturbing the picture does not change the score"

_FEW = 20  # steps, after which rounding does not show yet
_LEAST = 4  # cells along a side of the smooth mask, in pictures that have so many pixels
_MOST_ON_CPU, _MOST = 32, 128  # masks whose graph is held at once

_REFERENCE: dict[str, Any] = {
    "score": "probability", "scale": "none", "start": "disc", "normalise": True, "handover": "8-bit", "reach": 5,
    "gradient": "straight-through", "jitter": 0, "last_rate": 0.1, "tolerance": 0.0,
    "smooth_weights": Weights(sparsity=0.5, variation=1e-2, binary=0.0),
    "sharp_weights": Weights(sparsity=0.01, variation=1.0, binary=2.0),
}  # fmt: skip


class CrispMask(Explainer):
    """Crisp masks (Godi et al., BMVC 2018, after Fong and Vedaldi, ICCV 2017): 1 where the evidence is, 0 elsewhere.

    A mask m keeps x m + b (1 - m) of a picture x before a background b. It is looked for by gradient steps, first
    on a coarse grid, then pixel by pixel with a term that draws it to black and white, if asked for also superpixel by
    superpixel: what it covers shall be small and destroy the score (`deletion`), or keep it alone (`preservation`). All
    pictures and targets are one batch, of which those leave that are done.
    """

    title: ClassVar[str] = "Crisp mask"
    paper: ClassVar[str] = "Godi et al., BMVC 2018"
    needs: ClassVar[str] = "a target that can be differentiated down to the pixels"
    signed: ClassVar[bool] = False
    subtracts_scores: ClassVar[bool] = True
    presets: ClassVar = {
        "reference": _REFERENCE,
        "v1": {**_REFERENCE, "smooth_weights": Weights(sparsity=0.01, variation=1e-4, binary=0.0)},
        # lambda_1 = 1e-4 and lambda_tv = 1e-2 of sums over 28 x 28 values, here of means.
        "fong": {
            **_REFERENCE,
            "jitter": 4,
            "sharp": 0,
            "smooth_weights": Weights(sparsity=1e-4 * 784, variation=1e-2 * 756, binary=0.0),
        },
    }

    name: Literal["crisp-mask"] = "crisp-mask"
    game: Kind = Field(
        default="deletion",
        description="What the mask covers shall lower the score (`deletion`), or keep it while all else is perturbed "
        "(`preservation`), or both (`hybrid`, two forwards a step).",
    )
    score: Score = Field(
        default="log-odds",
        description="What is scored: the probability p of the target's classes, which is flat near 0 and near 1, its "
        "logarithm, flat near 1, the log-odds log p / (1 - p), or the target itself, as are targets that are no "
        "classes.",
    )
    scale: Scale = Field(
        default="share",
        description="Take the score as a `share` of its way from the background to the picture, so that the weights "
        "mean the same for every network and target; or as it is (`none`).",
    )
    area: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share of the picture that a mask shall cover, instead of as little as can be.",
    )
    smooth: int = Field(default=300, ge=0, le=10_000, description="Iterations on the coarse grid, at most.")
    sharp: int = Field(default=150, ge=0, le=10_000, description="Iterations on the pixels, at most.")
    superpixel: int = Field(
        default=0, ge=0, le=10_000, description="Iterations on superpixels (needs scikit-image), at most."
    )
    smooth_weights: Weights = Field(
        default=Weights(sparsity=1.0, variation=0.1, binary=0.0),
        description="What is asked of the mask on the coarse grid.",
    )
    sharp_weights: Weights = Field(
        default=Weights(sparsity=0.2, variation=2.0, binary=0.5),
        description="What is asked of the mask on the pixels.",
    )
    superpixel_weights: Weights = Field(
        default=Weights(sparsity=0.2, variation=1.0, binary=4.0),
        description="What is asked of the mask on superpixels.",
    )
    cell: int = Field(
        default=8, ge=1, description="Side of a cell of the coarse grid, in pixels of the input."
    )
    blur: float = Field(
        default=5.0,
        ge=0,
        description="Sigma of the blur of the coarse mask at the size of the input, in pixels; never more than a "
        "sixteenth of its shorter side.",
    )
    gradient: Literal["exact", "straight-through"] = Field(
        default="exact",
        description="Whether the gradient goes back through that blur, or round it as in the reference.",
    )
    start: Literal["even", "disc"] = Field(
        default="even", description="Half of everything, or all of the inscribed disc and nothing outside."
    )
    baseline: Baseline = Field(
        default="blur", description=f"What stands where a picture is perturbed: {CHOICES}."
    )
    reach: int | None = Field(
        default=None,
        ge=1,
        description="Pixels after which the background's blur of sigma 10 is cut, as the reference's 11 taps are (5).",
    )
    jitter: int = Field(
        default=4,
        ge=0,
        le=64,
        description="Pixels by which pictures are moved at random, at most, in every step.",
    )
    learning_rate: float = Field(default=0.1, gt=0, le=1, description="Length of the first step of a stage.")
    last_rate: float = Field(default=0.01, ge=0, le=1, description="Length that it falls to, evenly.")
    tolerance: float = Field(
        default=0.002,
        ge=0,
        lt=1,
        description=f"A mask is done when {EVERY} iterations lower its loss by less than this share of the first loss; "
        "0 never stops early.",
    )
    handover: Literal["exact", "8-bit"] = Field(
        default="exact",
        description="How a mask goes from one stage to the next: as it is, or stretched and rounded to 8 bits.",
    )
    normalise: bool = Field(
        default=False,
        description="Give 1 - (m - min m) / max m, as the reference saves it, instead of 1 - m.",
    )
    precision: Precision = Field(
        default="float32",
        description="Number format of the passes; masks are float32. `auto`: bfloat16 where faster.",
    )
    seed: Seed = Field(default=0, description="Of the jitter.")

    @property
    def randomized(self) -> bool:
        return self.jitter > 0

    def plan(self, work: Workload, network: Network) -> Cost:
        steps = (self.smooth + self.sharp + self.superpixel) * (2 if self.game == "hybrid" else 1)
        passes = work.inputs * work.scores * steps
        return Cost(work.pictures * (1 + work.inputs) + passes + work.inputs * work.scores, passes)

    def compute(self, study: Study) -> Computed:
        cost = study.clean
        maps: dict[Site, Tensor] = {}
        notes: list[tuple[str, ...]] = [()] * study.arguments.batch
        for site in study.pixels:
            maps[site], more, spent = self._found(study, site)
            notes = [(*own, *each) for own, each in zip(notes, more, strict=True)]
            cost += spent
        found = [(*remarks(list(maps.values()), row), *dict.fromkeys(own)) for row, own in enumerate(notes)]
        return Computed(maps, tuple(found), REASON, cost)

    def _found(
        self, study: Study, site: Site
    ) -> tuple[Float[Tensor, "B T H W"], list[tuple[str, ...]], Cost]:
        """The masks of one picture input, remarks per picture, and what they took."""
        game = self._game(study, site)
        batch, targets = study.scores.shape
        total = batch * targets
        keys = picture_keys(game.pictures) if self.randomized else [b""] * batch
        most = _MOST_ON_CPU if game.pictures.device.type == "cpu" else _MOST
        parts = list(chunked(lambda start, stop: self._search(game, keys, start, stop), total, most))
        masks, scores, settled, steps = (torch.cat(each) for each in zip(*parts, strict=True))
        passes = int(steps.sum()) * game.forwards
        cost = Cost(batch + passes + total, passes)
        study.cost += cost
        # Where nothing that was put in place of the picture changed the score, no pixel counts.
        deaf = (game.whole == game.bare) & (game.whole == scores)
        values = (masks * ~deaf[:, None, None]).float().view(batch, targets, *masks.shape[1:])
        notes = []
        for row in range(batch):
            own = slice(row * targets, (row + 1) * targets)
            said = [DEAF] if bool(deaf[own].any()) else []
            if self.tolerance and not bool(settled[own].all()):
                said.append(f"{UNSETTLED}: the steps ended before the loss had stopped falling")
            if game.pictures.dtype != torch.float64 and int(steps[own].max()) > _FEW:
                said.append(
                    f"{ROUNDED}: in float32, Adam's steps are as long for small gradients as for large ones"
                )
            notes.append(tuple(said))
        return values, notes, cost

    def _game(self, study: Study, site: Site) -> Game:
        """What is played for, with the scores of the pictures and of their backgrounds."""
        pictures: Tensor = study.arguments[site.input]
        question = Question(study.question, self.score)
        background = self.background(study.network, pictures)
        with torch.no_grad():
            whole = question(study.outputs, torch.arange(len(pictures), device=pictures.device))
        bare = settled_scores(study, site.input, background, question, self.precision)
        batch, targets = whole.shape
        form = torch.promote_types(pictures.dtype, torch.float32)
        rows = torch.arange(batch, device=pictures.device).repeat_interleave(targets)
        columns = torch.arange(targets, device=pictures.device).repeat(batch)
        return Game(
            study, site.input, pictures, background, question, self.game, self.scale, self.precision,
            rows, columns, whole.flatten().to(form), bare.flatten().to(form),
        )  # fmt: skip

    def background(self, network: Network, pictures: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """What stands where pictures are perturbed."""
        if self.baseline == "blur" and self.reach is not None:
            return blurred(pictures, 10.0, self.reach, "reflect")
        return baseline(network, pictures, self.baseline)

    def _search(
        self, game: Game, keys: list[bytes], start: int, stop: int
    ) -> tuple[Float[Tensor, "M H W"], Float[Tensor, " M"], Tensor, Int[Tensor, " M"]]:
        """Some of the masks (1 - m), their scores, whether they settled, and the iterations that they took."""
        part = torch.arange(start, stop, device=game.rows.device)
        size = (game.pictures.shape[-2], game.pictures.shape[-1])
        grid = tuple(max(side // self.cell, min(side, _LEAST)) for side in size)
        keep = self._begin(len(part), (grid[0], grid[1]), game.pictures)
        steps = torch.zeros_like(part)
        done = torch.ones_like(part, dtype=torch.bool)
        for number, (stage, iterations) in enumerate(
            (("smooth", self.smooth), ("sharp", self.sharp), ("superpixel", self.superpixel))
        ):
            if iterations:
                found, full = self._stage(
                    game, part, keep, stage, iterations, self._shifts(game, keys, part, number)
                )
                keep, done = self._handed(full), found.settled
                steps += found.iterations
            elif stage == "smooth":
                keep = F.interpolate(keep[:, None], size, mode="bilinear", align_corners=False)[:, 0]
        with torch.no_grad():
            scores = game.scores(keep, part)
        return 1 - (_stretched(keep) if self.normalise else keep), scores, done, steps

    def _stage(
        self,
        game: Game,
        part: Int[Tensor, " M"],
        keep: Float[Tensor, "M h w"],
        stage: str,
        iterations: int,
        shifts: Int[Tensor, "I M 2"] | None,
    ) -> tuple[Found, Float[Tensor, "M H W"]]:
        """One stage: what was found, and the masks at the size of the picture."""
        weights: Weights = getattr(self, f"{stage}_weights")
        size = (game.pictures.shape[-2], game.pictures.shape[-1])
        enlarged = None if stage != "smooth" else self._enlarging((keep.shape[1], keep.shape[2]), size, keep)
        pieces = None
        if stage == "superpixel":
            whole = [superpixels(game.pictures[row]) for row in game.rows[part].tolist()]
            shares = [means(mask, each.to(mask.device)) for mask, each in zip(keep, whole, strict=True)]
            pieces = torch.stack(whole).to(keep.device)
            keep = torch.nn.utils.rnn.pad_sequence(shares, batch_first=True)

        def full(values: Tensor, places: Tensor) -> Tensor:
            if pieces is not None:
                return values.gather(1, pieces[places].flatten(1)).view(-1, *size)
            return values if enlarged is None else enlarged(values)

        def loss(values: Tensor, places: Tensor, turn: int) -> Tensor:
            on_pixels = full(values, places)
            shift = None if shifts is None else shifts[turn][places]
            paid = asked(on_pixels if pieces is not None else values, weights, self.area, turn / iterations)
            return game.loss(on_pixels, part[places], shift) + paid

        found = descended(loss, keep, iterations, (self.learning_rate, self.last_rate), self.tolerance)
        with torch.no_grad():
            return found, full(found.masks, torch.arange(len(part), device=part.device))

    def _enlarging(
        self, grid: tuple[int, int], size: tuple[int, int], like: Tensor
    ) -> Callable[[Float[Tensor, "M h w"]], Float[Tensor, "M H W"]]:
        """What brings a coarse mask to the size of the picture and blurs it: one matrix for each axis."""
        sigma = min(self.blur, min(size) / 16)
        soft = [_along(*each, sigma, like) for each in zip(grid, size, strict=True)]
        if self.gradient == "exact" or not sigma:
            return lambda values: _spread(values, *soft)
        plain = [_along(*each, 0.0, like) for each in zip(grid, size, strict=True)]

        def straight_through(values: Tensor) -> Tensor:
            large = _spread(values, *plain)
            return _spread(values.detach(), *soft) + large - large.detach()

        return straight_through

    def _begin(self, count: int, grid: tuple[int, int], like: Tensor) -> Float[Tensor, "M h w"]:
        """The first mask on the coarse grid."""
        form, device = torch.promote_types(like.dtype, torch.float32), like.device
        if self.start == "even":
            return torch.full((count, *grid), 0.5, dtype=form, device=device)
        y, x = ((torch.arange(side, device=like.device) + 0.5) / side * 2 - 1 for side in grid)
        disc = (y[:, None].square() + x.square() <= 1).to(form)
        return (1 - disc).repeat(count, 1, 1)

    def _handed(self, keep: Float[Tensor, "M H W"]) -> Float[Tensor, "M H W"]:
        """A mask as it goes on to the next stage."""
        if self.handover == "exact":
            return keep
        return (_stretched(keep) * 255).round() / 255

    def _shifts(
        self, game: Game, keys: list[bytes], part: Int[Tensor, " M"], stage: int
    ) -> Int[Tensor, "I M 2"] | None:
        """By how much each picture moves in every iteration: its own draws, whatever stands beside it."""
        if not self.jitter:
            return None
        most = min(self.jitter, min(game.pictures.shape[-2:]) // 8)
        iterations = max(self.smooth, self.sharp, self.superpixel)
        drawn = {
            row: torch.randint(
                -most, most + 1, (iterations, 2), generator=generator(keys[row], self.seed, stage)
            )
            for row in set(game.rows[part].tolist())
        }
        return torch.stack([drawn[row] for row in game.rows[part].tolist()], 1).to(part.device)


def _along(cells: int, pixels: int, sigma: float, like: Tensor) -> Float[Tensor, "pixels cells"]:
    """How much of each cell every pixel of one axis takes: bilinear, then blurred."""
    single = torch.eye(cells, dtype=like.dtype, device=like.device).view(cells, 1, cells, 1)
    large = F.interpolate(single, (pixels, 1), mode="bilinear", align_corners=False)
    return (blurred(large, sigma) if sigma else large)[:, 0, :, 0].T


def _spread(
    values: Float[Tensor, "M h w"], down: Float[Tensor, "H h"], across: Float[Tensor, "W w"]
) -> Float[Tensor, "M H W"]:
    # As batches of equal matrices, so that a mask's sums are in one order whatever stands beside it.
    count = len(values)
    return down.expand(count, -1, -1) @ values @ across.T.expand(count, -1, -1)


def _stretched(keep: Float[Tensor, "M H W"]) -> Float[Tensor, "M H W"]:
    """(m - min m) / max m, as the reference has it."""
    return (keep - keep.amin((1, 2), keepdim=True)) / keep.amax((1, 2), keepdim=True).clamp_min(1e-12)
