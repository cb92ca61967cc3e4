"""Layer integrated gradients: integrated gradients of the head, between two activations of a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seewhy.explainers.base import Computed, Workload
from seewhy.explainers.integrated_gradients import Quadrature, quadrature
from seewhy.explainers.layer_path import LayerPath, Walked, Ways, even, gap_of
from seewhy.explainers.study import Study
from seewhy.explanation import Cost
from seewhy.network.layers import Choice, Site
from seewhy.network.network import Network
from seewhy.network.precision import chunked, exact_type
from seewhy.network.probe import begin_graph, gradients
from seewhy.network.replay import Head


class LayerIntegratedGradients(LayerPath):
    """Integrated gradients (Sundararajan et al., ICML 2017) of the head: sum_k (A_k - A'_k) times the mean gradient.

    The way is straight between the layer's activations A' for the baseline and A for the picture, so only the head is
    run again. Per element, and summed over the channels here, it adds up to the change of the score.
    """

    title: ClassVar[str] = "Layer Integrated Gradients"
    paper: ClassVar[str] = "after Sundararajan et al., ICML 2017"

    name: Literal["layer-integrated-gradients"] = "layer-integrated-gradients"
    rule: Quadrature = Field(default="midpoint", description="Where the steps lie and what they weigh.")

    def points(self, steps: int) -> int:
        return steps + (self.rule == "trapezoid")

    def plan(self, work: Workload, network: Network) -> Cost:
        sites = work.sites(self.layer)
        ways, visits = self.ways(work), list(self.visits())
        # The head is run at the way's begin too. One that cannot be replayed is run as a whole.
        replays = ways * sites * (sum(visits) + len(visits))
        forwards = work.pictures * (1 + sites) + ways * len(visits) + replays
        return Cost(forwards, ways * sites * sum(visits) * work.targets, replays)

    def compute(self, study: Study) -> Computed:
        choice = study.layers(self.layer)
        heads = {site: study.head(site, slice(None)) for site in choice.calls}
        # The pass that recorded a head answers the question, where no other method has asked already.
        shared = Cost() if study.offer(next(iter(heads.values())).outputs) else study.clean
        found = self.follow(
            study, choice, lambda ways, steps: self._walked(study, choice, heads, ways, steps), Cost()
        )
        run = Cost(
            forwards=sum(head.forwards for head in heads.values()),
            replays=sum(head.replays for head in heads.values()),
        )
        study.cost += run
        return Computed(found.maps, found.notes, found.reason, found.cost + run + shared)

    def _walked(
        self, study: Study, choice: Choice, heads: Mapping[Site, Head], ways: Ways, steps: int
    ) -> Walked:
        empty = study.read(*ways.at(study.scores.new_zeros(1)), choice, gradient=False)
        cost, maps, gaps, aside = empty.cost, {}, {}, {}
        for site, head in heads.items():
            begin, end = empty.features[site].activation, head.maps[ways.rows]
            total, spent = self._integral(study, head, ways, begin, end, steps)
            with torch.no_grad():
                before = study.question.select(ways.rows.cpu())(
                    head(head.holding(begin, ways.rows), ways.rows)
                )
            after = study.scores[ways.rows]
            magnitude, largest = total.abs().flatten(2).sum(2), before.abs().maximum(after.abs())
            gaps[site] = gap_of(total.flatten(2).sum(2), magnitude, after - before, largest)
            aside[site] = gap_of(before, magnitude, empty.scores, largest)
            maps[site] = total.sum(2).float()
            cost += spent
        return Walked(maps, gaps, cost, aside)

    def _integral(
        self, study: Study, head: Head, ways: Ways, begin: Tensor, end: Tensor, steps: int
    ) -> tuple[Float[Tensor, "W T K h w"], Cost]:
        """The integral per element of the layer, for ways between activations (W, K, h, w)."""
        points, weights = (each.to(begin.device) for each in quadrature(self.rule, steps))
        count = len(ways.rows)
        total = begin.new_zeros(
            (count, study.scores.shape[1], *begin.shape[1:]), dtype=exact_type(begin.device)
        )

        spent = Cost()

        def run(start: int, stop: int) -> tuple[Tensor, Cost]:
            some = stop - start
            rows = ways.rows.repeat_interleave(some)
            along = points[start:stop].repeat(count)[:, None, None, None]
            leaf, maps = begin_graph(
                torch.lerp(begin.repeat_interleave(some, 0), end.repeat_interleave(some, 0), along)
            )
            scores = study.question.select(rows.cpu())(head(head.holding(maps, rows), rows))
            (found,) = gradients(scores, [leaf])
            split = found.reshape(len(found), count, some, *found.shape[2:])
            weighted = torch.einsum("s,twskij->wtkij", weights[start:stop], split)
            return weighted * (end - begin)[:, None], Cost(backwards=scores.numel())

        for part, cost in chunked(run, len(points), even(len(points), count)):
            total += part
            spent += cost
        study.cost += spent
        return total, spent
