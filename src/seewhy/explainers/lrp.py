"""Layer-wise relevance propagation: the score handed back, operation by operation, to the pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from seewhy.errors import NotApplicableError
from seewhy.explainers.base import Computed
from seewhy.explainers.pixels import REASON, PixelMethod, remarks
from seewhy.explainers.study import Study
from seewhy.explanation import Cost
from seewhy.network.layers import PIXELS, Choice, Site
from seewhy.network.network import Network
from seewhy.network.preprocess import Preprocess
from seewhy.network.structures import map_tensors, tensors
from seewhy.relevance.composites import Composite, CompositeName
from seewhy.relevance.conservation import Conservation, Ledger
from seewhy.relevance.propagate import Trace, trace
from seewhy.relevance.rules import Bias, Rule
from seewhy.targets import TargetLike, as_target


def _pairs(rules: Any) -> Any:
    """A mapping as pairs, which can be hashed."""
    return tuple(rules.items()) if isinstance(rules, Mapping) else rules


class LRP(PixelMethod):
    """Layer-wise relevance propagation (Bach et al., PLOS ONE 2015), whatever modules or functions compute.

    The score is divided among the inputs of each operation by a rule for its kind. What biases and stabilisers take
    on the way is counted, so that the notes say what of the score the map shows, and whether the sums balance.
    """

    title: ClassVar[str] = "LRP"
    paper: ClassVar[str] = "Bach et al., PLOS ONE 2015"
    needs: ClassVar[str] = "operations that have a rule"
    presets: ClassVar = {"reference": {"composite": "reference-sr", "reduce": "abs-sum"}}

    name: Literal["lrp"] = "lrp"
    composite: CompositeName = Field(
        default="epsilon-plus",
        description="Rules by kind of computation; the name says those of linear layers, of convolutions and of the "
        "first one. `reference-sr`: those of the public code of Salient Relevance.",
    )
    rules: Annotated[tuple[tuple[str, Rule], ...], BeforeValidator(_pairs)] = Field(
        default=(),
        description="Changes to the composite: a mapping from a kind of computation (`convolution`, `first`, "
        "`softmax` …), a torch function's name or a layer's name to a rule, as `gamma` or `gamma:gamma=0.5`.",
    )
    bias: Bias | None = Field(
        default=None,
        description="What becomes of the biases' part, in all rules: lost (`absorb`), there is none (`ignore`), or "
        "shared equally by the inputs (`distribute`). None: as each rule says, which is lost.",
    )
    layer: str | tuple[str, ...] | None = Field(
        default=None,
        description="Layers whose relevance is wanted, by dotted name; `pixels` among them for the pictures'. None: "
        "the pixels.",
    )
    contrast: bool = Field(
        default=False,
        description="Contrastive (Gu et al., ACCV 2018): what the target has is taken from all other classes in "
        "equal parts, so that what all classes share cancels.",
    )

    def compute(self, study: Study) -> Computed:
        return study.shared(self, lambda: self._computed(study))

    def _computed(self, study: Study) -> Computed:
        maps, books = self._propagated(study)
        cost = Cost(forwards=study.arguments.batch, backwards=study.scores.numel())
        study.cost += cost
        notes = tuple(
            (*remarks(list(maps.values()), row, self.reduce), *books.notes(row))
            for row in range(study.arguments.batch)
        )
        reason = REASON if self.layer is None else "asked for by name"
        return Computed(maps, notes, reason, cost)

    def conservation(
        self, network: Network | nn.Module, images: Any, target: TargetLike = None
    ) -> Conservation:
        """Where the relevance goes, in numbers: what starts, arrives, and is taken by biases and stabilisers.

        Args:
            network: as for calling the method, like the others.
            images: pictures.
            target: what is explained.

        Raises:
            SeewhyError: as calling the method does.
        """
        network = Network.of(network)
        with network.prepared(images) as arguments:
            study = Study(network, arguments, as_target(target), network.digest)
            return self._propagated(study)[1]

    def _propagated(self, study: Study) -> tuple[dict[Site, Tensor], Conservation]:
        """The relevance at the pixels and layers asked for, and the books."""
        choice, pixels = self._places(study)
        calls = list(choice.calls.values()) if choice else []
        found = trace(
            study.network.module,
            study.arguments,
            Composite.of(self.composite, dict(self.rules), self.bias),
            study.digest,
            {call.name: call.leaf for call in calls},
            _box(study.network.preprocess),
            self.contrast,
        )
        if self.contrast and any(each.ndim != 2 or each.shape[1] < 2 for each in tensors(found.outputs)[:1]):
            raise NotApplicableError("contrastive relevance needs scores of several classes (B, C)")
        study.offer(map_tensors(lambda each: each.detach(), found.outputs))
        scores = study.question(found.outputs)
        at_pixels, at_layers, ledgers = _backwards(found, scores)
        maps = dict(zip(study.pixels, at_pixels, strict=True)) if pixels else {}
        reached = dict(zip(found.layers, at_layers, strict=True))
        for site, call in (choice.calls if choice else {}).items():
            assert call.layout is not None
            relevance = reached[call.name, call.index]
            maps[site] = torch.stack([call.layout.maps(each) for each in relevance.unbind(1)], 1)
        sums = {
            str(site): values.flatten(2).double().sum(2)
            for site, values in maps.items()
            if site.layer != PIXELS
        }
        arrived = sum((each.flatten(2).double().sum(2) for each in at_pixels), torch.zeros(()))
        return {site: values.float() for site, values in maps.items()}, _books(ledgers, arrived, sums)

    def _places(self, study: Study) -> tuple[Choice | None, bool]:
        """The layers asked for, and whether the pixels are."""
        asked = (self.layer,) if isinstance(self.layer, str) else self.layer or (PIXELS,)
        layers = tuple(each for each in asked if each != PIXELS)
        return study.layers(layers) if layers else None, PIXELS in asked


def _box(preprocess: Preprocess | None) -> tuple[Tensor, Tensor] | None:
    """What black and white pixels are to the network (C, 1, 1)."""
    if preprocess is None:
        return None
    mean, std = (torch.tensor(each)[:, None, None] for each in (preprocess.mean, preprocess.std))
    return -mean / std, (255 * preprocess.scale - mean) / std


def _backwards(found: Trace, scores: Float[Tensor, "B T"]) -> tuple[list[Tensor], list[Tensor], list[Ledger]]:
    """Relevance (B, T, …) at the pixels and at the layers, and the books of each target."""
    count = scores.shape[1]
    passes = [found.back(scores[:, target], last=target == count - 1) for target in range(count)]
    at_pixels, at_layers = (
        [torch.stack(each, 1) for each in zip(*(one[place] for one in passes), strict=True)]
        for place in (0, 1)
    )
    return at_pixels, at_layers, [one[2] for one in passes]


def _books(ledgers: list[Ledger], arrived: Tensor, layers: Mapping[str, Tensor]) -> Conservation:
    """The books of all targets."""

    def total(entries: list[Tensor], ledger: Ledger) -> Tensor:
        return sum(entries, arrived.new_zeros(ledger.batch))

    return Conservation(
        started=torch.stack([total(each.started, each) for each in ledgers], 1),
        magnitude=torch.stack([total(each.magnitude, each) for each in ledgers], 1),
        arrived=arrived,
        bias=torch.stack([total([took for _, took in each.biases], each) for each in ledgers], 1),
        stabiliser=torch.stack([total([took for _, took in each.stabilisers], each) for each in ledgers], 1),
        layers=layers,
    )
