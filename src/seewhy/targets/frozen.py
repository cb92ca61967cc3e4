"""A question that was put to one network, asked of another with the same outputs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from seewhy.network.network import Network
from seewhy.targets.base import BoundTarget, Target


@dataclass(frozen=True, eq=False)
class Frozen(Target):
    """What another target became for given pictures, whatever the outputs are now.

    The class that a network predicts is thus explained of its copy with random weights, too.

    Args:
        source: the target.
        bound: what it was bound to, for the pictures that this one will be asked about.
    """

    source: Target
    bound: BoundTarget

    def bind(self, outputs: Any, network: Network) -> BoundTarget:
        return self.bound

    def pick(self, rows: Sequence[int], batch: int) -> Target:
        bound = replace(
            self.bound.select(torch.tensor(list(rows))),
            labels=tuple(self.bound.labels[row] for row in rows),
            notes=tuple(self.bound.notes[row] for row in rows) if self.bound.notes else (),
        )
        return replace(self, bound=bound)

    def survey(self, outputs: Any) -> tuple[Tensor, int | None]:
        return self.source.survey(outputs)

    @property
    def key(self) -> tuple[Hashable, ...]:
        """That of the source: a survey for it serves here."""
        return self.source.key
