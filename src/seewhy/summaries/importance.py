"""What summaries are worth: what is lost when only their regions are perturbed, against random places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seewhy.evaluation.result import holm
from seewhy.explainers.baseline import Baseline
from seewhy.explainers.perturbation.regions import perturbed
from seewhy.network.network import Network
from seewhy.summaries.result import Effect

DRAWS = 9
"""Random places for each region: ranks then go from 1 to 10."""

Masks = Sequence[tuple[int, Bool[np.ndarray, "H W"]]]
"""Of one summary: picture numbers, each once, and the pixels of its regions there."""


@dataclass(frozen=True, eq=False)
class Asked:
    """The pictures and what is asked of them.

    Attributes:
        network: that is asked.
        pixels: its inputs (B, C, H, W).
        index: number of the class.
        seed: of the random places.
        background: what stands where a mask perturbs, as when the masks were made.
    """

    network: Network
    pixels: Tensor
    index: int
    seed: int = 0
    background: Baseline = "blur"

    def left(self, masks: Masks, keep: bool = False) -> Float[np.ndarray, " N"]:
        """Shares of the class's probability that are left when masks are perturbed, or all but they."""
        asked, rows = np.unique([row for row, _ in masks], return_inverse=True)
        before, after = perturbed(
            self.network,
            self.pixels[torch.from_numpy(asked).to(self.pixels.device)],
            self.index,
            rows.tolist(),
            [0] * len(rows),
            [mask for _, mask in masks],
            self.background,
            keep=keep,
        )
        whole = before[rows, 0].double().cpu().numpy()
        shares: Float[np.ndarray, " N"] = np.asarray(after, np.float64) / np.maximum(whole, 1e-12)
        return shares


def effects(
    asked: Asked, summaries: Sequence[Masks], stable: Sequence[bool] | None = None
) -> list[tuple[Effect, Float[np.ndarray, " n"]]]:
    """Per summary what it does, and what each of its pictures loses.

    Args:
        asked: of whom.
        summaries: their regions.
        stable: which of them may count at all, as far as is known without asking the network; all by default. Only
            their chances are corrected, for one another: the others are no tests.
    """
    found = [_effect(asked, masks) for masks in summaries]
    tested = [place for place in range(len(found)) if stable is None or stable[place]]
    chances = [effect.chance for effect, _ in found]
    for place, chance in zip(tested, holm([chances[place] for place in tested]), strict=True):
        chances[place] = chance
    return [
        (replace(effect, chance=chance), drops)
        for (effect, drops), chance in zip(found, chances, strict=True)
    ]


def completeness(asked: Asked, masks: Sequence[np.ndarray], covered: Masks) -> float:
    """Share of what the whole masks cost that some of their regions cost; 0 where they cost nothing.

    Args:
        asked: of whom.
        masks: of all pictures, the regions of any kind.
        covered: the pixels of the summaries' regions, in the pictures that have any.
    """
    whole = np.clip(1 - asked.left(list(enumerate(masks))), 0, None)
    part = np.zeros(len(masks))
    if covered:
        part[[row for row, _ in covered]] = np.clip(1 - asked.left(covered), 0, None)
    return float(np.minimum(part, whole).sum() / whole.sum()) if whole.sum() > 0 else 0.0


def _effect(asked: Asked, masks: Masks) -> tuple[Effect, Float[np.ndarray, " n"]]:
    draws = [(row, each) for row, mask in masks for each in elsewhere(mask, DRAWS, asked.seed + 1000 * row)]
    drop, kept = 1 - asked.left(masks), asked.left(masks, keep=True)
    drop_control = (1 - asked.left(draws)).reshape(len(masks), DRAWS)
    kept_control = asked.left(draws, keep=True).reshape(len(masks), DRAWS)
    drop_p, kept_p = rank_test(drop, drop_control), rank_test(kept, kept_control)
    effect = Effect(
        float(drop.mean()), float(drop_control.mean()), drop_p,
        float(kept.mean()), float(kept_control.mean()), kept_p, min(1.0, 2 * min(drop_p, kept_p)),
    )  # fmt: skip
    return effect, drop


def elsewhere(mask: Bool[np.ndarray, "H W"], count: int, seed: int) -> list[Bool[np.ndarray, "H W"]]:
    """The same shape at random places of the picture, all of it inside."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = (whole - own + 1 for whole, own in zip(mask.shape, part.shape, strict=True))
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        top, left = int(generator.integers(height)), int(generator.integers(width))
        other = np.zeros_like(mask)
        other[top : top + part.shape[0], left : left + part.shape[1]] = part
        found.append(other)
    return found


def rank_test(values: Float[np.ndarray, " n"], controls: Float[np.ndarray, "n d"]) -> float:
    """The chance that values rank as high among their controls, if they were drawn as these are.

    The sum over pictures of each value's rank among its own controls and itself, ties counted half, against the
    exact distribution of sums of uniform ranks.
    """
    count, draws = controls.shape
    below = (controls < values[:, None]).sum(1) + 0.5 * (controls == values[:, None]).sum(1)
    chances = np.ones(1)
    for _ in range(count):
        chances = np.convolve(chances, np.full(draws + 1, 1 / (draws + 1)))
    return float(min(1.0, chances[int(np.floor(below.sum())) :].sum()))
