"""What is known of clips: a map and a weight per frame."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seewhy.explanation import Cost, upsample
from seewhy.files import written_whole


@dataclass(frozen=True, eq=False)
class ClipExplanation:
    """Maps of B clips of F frames.

    Attributes:
        values: the filters on the layer's grid; zero where they are undefined.
        weights: the share of each frame in the sum of squares of its clip's filter; what a joint budget is spent on.
        sensitivity: how much the answer changes with each frame's filter, of the clip as it is, as a share of the
            largest.
        undefined: frames that the answer does not depend on, so that their maps mean nothing.
        residual: how far the filter is from an optimum, as a share of the loss's gradient.
        settings: of the method.
        signed: whether negative values mean evidence against.
        network: name of the network.
        digest: SHA-256 of the network's structure and weights.
        layer: where the maps lie.
        order: how its output holds the frames.
        size: height and width (H, W) of a frame.
        cost: counted work, in clips.
        notes: per clip, what to know before trusting its maps.
    """

    values: Float[Tensor, "B F h w"]
    weights: Float[Tensor, "B F"]
    sensitivity: Float[Tensor, "B F"]
    undefined: Bool[Tensor, "B F"]
    residual: Float[Tensor, " B"]
    settings: Mapping[str, Any]
    signed: bool
    network: str
    digest: str
    layer: str
    order: str
    size: tuple[int, int]
    cost: Cost
    notes: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"ClipExplanation({self.network}: {self.layer} {tuple(self.values.shape)}; {self.cost})"

    @property
    def joint(self) -> bool:
        """Whether the frames of a clip share one budget."""
        return bool(self.settings["budget"] == "joint")

    @property
    def over_time(self) -> Float[Tensor, "B F"]:
        """How much each frame counts, as shares: its weight, or where all have the same, its squared sensitivity."""
        if self.joint:
            return self.weights
        squares = self.sensitivity.square()
        return squares / squares.sum(1, keepdim=True).clamp_min(torch.finfo(squares.dtype).tiny)

    def heatmaps(self) -> Float[Tensor, "B F H W"]:
        """Maps for the eye at the size of a frame, in [0, 1] (or [-1, 1] where signed).

        Of a joint budget all frames of a clip have one scale, so that a frame that counts little is dark; else each
        has its own.
        """
        values = upsample(self.values, self.size)
        axes = (1, 2, 3) if self.joint else (2, 3)
        most = values.abs().amax(axes, keepdim=True)
        return values / torch.where(most > 0, most, 1.0)

    def to_npz(self, path: str | Path) -> Path:
        """Write values, weights, sensitivities and facts to one `.npz` file, without pickling."""
        facts = {
            **{name: getattr(self, name) for name in _FACTS},
            "settings": dict(self.settings),
            "cost": asdict(self.cost),
        }
        arrays = {name: getattr(self, name).cpu().numpy() for name in _TENSORS}
        path = Path(path)
        with written_whole(path) as file:
            np.savez_compressed(file, facts=np.array(json.dumps(facts)), **arrays)
        return path


_TENSORS = ("values", "weights", "sensitivity", "undefined", "residual")
_FACTS = ("signed", "network", "digest", "layer", "order", "size", "notes")


def joined(parts: Sequence[ClipExplanation]) -> ClipExplanation:
    """One explanation from those of consecutive parts of a batch."""
    tensors: dict[str, Any] = {name: torch.cat([getattr(each, name) for each in parts]) for name in _TENSORS}
    return replace(
        parts[0],
        **tensors,
        cost=sum((each.cost for each in parts), Cost()),
        notes=tuple(row for each in parts for row in each.notes),
    )
