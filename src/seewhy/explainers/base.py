"""Explainer: the settings of a method, and the one way all of them are run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from seewhy import registry
from seewhy.errors import InputError, NotApplicableError, NotFiniteError
from seewhy.explainers.study import Study
from seewhy.explanation import Cost, Explanation, Explanations, Rectifies, joined
from seewhy.network.layers import Site
from seewhy.network.network import Network
from seewhy.network.precision import in_chunks, resolved
from seewhy.settings import Settings
from seewhy.targets import TargetLike, as_target

R = TypeVar("R")


@dataclass(frozen=True)
class Computed:
    """What a method found.

    Attributes:
        maps: per site the values (B, T, *grid) before any final ReLU.
        notes: per picture, what to know before trusting them.
        reason: why these layers.
        cost: what the method used, set-up aside: passes that it shares with others, and its own.
    """

    maps: Mapping[Site, Tensor]
    notes: tuple[tuple[str, ...], ...]
    reason: str
    cost: Cost


@dataclass(frozen=True)
class Workload:
    """What a method is asked to explain, before it is.

    Attributes:
        pictures: how many (B).
        targets: per picture (T).
        sizes: per picture input its height and width in pixels; two for a siamese network.
    """

    pictures: int
    targets: int = 1
    sizes: tuple[tuple[int, int], ...] = ((224, 224),)

    @property
    def scores(self) -> int:
        """Pictures times targets: what is differentiated."""
        return self.pictures * self.targets

    @property
    def inputs(self) -> int:
        """Picture inputs of the network."""
        return len(self.sizes)

    def sites(self, layer: str | tuple[str, ...] | None) -> int:
        """How many maps of a picture there are at most, at layers that are named or chosen."""
        if layer is None:
            return self.inputs
        # A layer that several inputs run through has a map for each, and one where they meet.
        return len((layer,) if isinstance(layer, str) else layer) * (self.inputs + (self.inputs > 1))


class Explainer(Settings, ABC):
    """Base of all methods: a frozen model of the settings, which can be called.

    A method holds no module, hook or state. Subclasses give `name` a literal default, describe their
    fields, and implement `plan`, `request` and `compute`.
    """

    title: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    needs: ClassVar[str] = ""
    signed: ClassVar[bool] = True
    class_agnostic: ClassVar[bool] = False
    subtracts_scores: ClassVar[bool] = False
    """Whether values are small differences of scores, of which float32 keeps fewer digits."""
    rectifies: ClassVar[Rectifies] = "grid"
    """Where evidence drops negative values: before the map is enlarged, or at the size of the input."""

    @property
    def randomized(self) -> bool:
        """Whether another `seed` gives another map, with these settings."""
        return "seed" in type(self).model_fields

    @property
    def besides(self) -> str:
        """What takes long and is no pass through the network, so that `plan` does not count it."""
        return ""

    @abstractmethod
    def plan(self, work: Workload, network: Network) -> Cost:
        """An upper bound of the work, set-up aside."""

    def request(self, study: Study) -> None:
        """Say which layers will be read, so that all methods share one pass."""
        return

    @abstractmethod
    def compute(self, study: Study) -> Computed:
        """The maps."""

    def __call__(
        self,
        network: Network | nn.Module,
        images: Any,
        target: TargetLike = None,
        *,
        chunk: int | None = None,
    ) -> Explanation:
        """Explain pictures.

        Args:
            network: a `Network` or any `nn.Module`.
            images: (B, C, H, W), `Images`, a tuple of several inputs, or a mapping of named ones. Tensors with an entry
                for each picture are selected along with them; whatever else the network is given serves all.
            target: what is explained (see `seewhy.targets`); the predicted class by default.
            chunk: pictures per pass; all at once by default, halved where memory runs out.

        Returns:
            Maps (B, T, *grid) with scores, cost and notes.

        Raises:
            SeewhyError: the method, the layer or the target does not fit the network; the message says why.

        Example:
            >>> from seewhy import GradCAM
            >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            >>> GradCAM()(network, torch.rand(2, 3, 8, 8), target=3).values.shape
            torch.Size([2, 1, 6, 6])
        """
        return next(iter(explain_all(network, images, [self], target, chunk=chunk).values()))


def explain_all(
    network: Network | nn.Module,
    images: Any,
    methods: Iterable[str | Explainer],
    target: TargetLike = None,
    *,
    chunk: int | None = None,
) -> Explanations:
    """Explain the same pictures by several methods, which share the pass up to the layer and its gradient.

    Args:
        network: a `Network` or any `nn.Module`.
        images: as for an explainer.
        methods: registry names or explainers.
        target: what is explained; the predicted class by default.
        chunk: pictures per pass.

    Returns:
        An ordered mapping from the method's name to its explanation; a second one of the same name is
        called `name#2`.

    Raises:
        SeewhyError: a method, a layer or the target does not fit the network.
    """
    network = Network.of(network)
    explainers = [make(each) if isinstance(each, str) else each for each in methods]
    if not explainers:
        raise InputError("no method was asked for")
    names = registry.numbered(each.name for each in explainers)
    question = as_target(target)
    digest = network.digest
    with network.prepared(images) as arguments:

        def run(start: int, stop: int) -> tuple[list[Explanation], Cost]:
            part = arguments if stop - start == arguments.batch else arguments.select(slice(start, stop))
            study = Study(network, part, question.pick(range(start, stop), arguments.batch), digest)
            return _explained(study, explainers, digest), study.cost

        parts = in_chunks(run, arguments.batch, chunk)
    found = {name: joined([part[place] for part, _ in parts]) for place, name in enumerate(names)}
    if hasattr(images, "frames"):
        found = {name: replace(each, images=images) for name, each in found.items()}
    return Explanations(found, sum((cost for _, cost in parts), Cost()))


def make(spec: str, **settings: Any) -> Explainer:
    """A method from its name, with settings: `grad-cam`, or `grad-cam:layer=layer3,sign=-1`.

    Raises:
        InputError: an unknown name or setting.
    """
    name, _, text = spec.partition(":")
    return registry.explainer(name).from_text(text, **settings)


def _explained(study: Study, explainers: Sequence[Explainer], digest: str) -> list[Explanation]:
    setups = [found[1] for found in _each(explainers, lambda each: _setup_of(each.request, study))]
    computed = _each(explainers, lambda each: _setup_of(each.compute, study))
    if not bool(torch.isfinite(study.scores).all()):
        raise InputError(
            f"{study.network.name} answers NaN or infinity for these pictures; look at the weights and at the range "
            "of the input"
        )
    for each, (found, _) in zip(explainers, computed, strict=True):
        if not all(bool(torch.isfinite(values).all()) for values in found.maps.values()):
            raise NotFiniteError(
                f"the map of {each.name} holds NaN or infinity, although the scores of {study.network.name} do not; "
                "look at its gradients"
            )
    common = study.question.notes or ("",) * study.arguments.batch
    network = study.network
    return [
        Explanation(
            maps={site: values.detach() for site, values in found.maps.items()},
            scores=study.scores,
            labels=study.question.labels,
            predictions=study.predictions,
            method=each.name,
            settings=_resolved(each.model_dump(mode="json"), network.device),
            signed=each.signed,
            class_agnostic=each.class_agnostic,
            network=network.name,
            digest=digest,
            size=study.arguments.size,
            cost=found.cost + asking + finding,
            notes=tuple(
                tuple(filter(None, (*own, shared))) for own, shared in zip(found.notes, common, strict=True)
            ),
            reason=found.reason,
            pixels=study.arguments[study.arguments.pictures[0]].detach(),
            rectifies=each.rectifies,
            sizes=study.arguments.other_sizes,
        )
        for each, asking, (found, finding) in zip(explainers, setups, computed, strict=True)
    ]


def _each(explainers: Sequence[Explainer], step: Callable[[Explainer], R]) -> list[R]:
    """One step of every method; an error says which of them it does not apply to."""
    found = []
    for place, each in enumerate(explainers):
        try:
            found.append(step(each))
        except NotApplicableError as error:
            error.place = place
            raise
    return found


def _resolved(settings: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The settings as they were used, those of a method within a method too: `auto` differs between machines."""
    return {
        name: resolved(value, device)
        if name == "precision"
        else _resolved(value, device)
        if isinstance(value, Mapping)
        else value
        for name, value in settings.items()
    }


def _setup_of(step: Callable[[Study], R], study: Study) -> tuple[R, Cost]:
    """Run one step of a method, and the set-up that it was the first to need."""
    before = study.cost.setup
    return step(study), Cost(setup=study.cost.setup - before)
