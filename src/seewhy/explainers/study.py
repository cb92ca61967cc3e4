"""What the methods share while they explain the same pictures: one trunk pass, one target, one count."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seewhy.errors import NotApplicableError, TargetError
from seewhy.explanation import Cost, Predicted
from seewhy.network.folding import Folding, folds_in
from seewhy.network.inputs import Arguments
from seewhy.network.kept_weights import KeptWeights
from seewhy.network.layers import PIXELS, Choice, Site, attention_modules, choose, resolve
from seewhy.network.network import Network, main_output
from seewhy.network.operations import Operation, Rule, intercept
from seewhy.network.precision import Precision
from seewhy.network.preserve import kept_attributes
from seewhy.network.probe import Probe, gradients, probe
from seewhy.network.replay import Head, record
from seewhy.network.structures import map_tensors
from seewhy.network.survey import Call, Survey, noisy_pair
from seewhy.network.surveys import planned, remember, remembered, surveyed
from seewhy.targets import BoundTarget, Target
from seewhy.targets.classes import yes_or_no

R = TypeVar("R")


@dataclass(frozen=True)
class Feature:
    """A layer's feature maps for the pictures under study.

    Attributes:
        activation: (B, K, h, w), float32, class and register tokens dropped.
        gradient: of the T targets (B, T, K, h, w); None where a method did not ask for it.
    """

    activation: Float[Tensor, "B K h w"]
    gradient: Float[Tensor, "B T K h w"] | None


@dataclass(frozen=True)
class Saliency:
    """What scores change by with every pixel.

    Attributes:
        gradients: per picture input (M, T, C, H, W), float32.
        cost: what it took.
    """

    gradients: Mapping[Site, Float[Tensor, "M T C H W"]]
    cost: Cost


@dataclass(frozen=True)
class Reading:
    """What some layers hold for M other pictures, and what the target makes of them.

    Attributes:
        features: per site the activations (M, K, h, w), and the gradients (M, T, K, h, w) where asked for.
        scores: (M, T).
        cost: what it took.
    """

    features: Mapping[Site, Feature]
    scores: Float[Tensor, "M T"]
    cost: Cost


@dataclass
class _Request:
    leaves: dict[str, int] = field(default_factory=dict)
    calls: dict[tuple[str, int], Call] = field(default_factory=dict)
    differentiated: set[tuple[str, int]] = field(default_factory=set)


class Study:
    """One batch of pictures and one question about them.

    Methods first say which layers they will read (`layers`, then `request`); the first one that reads
    starts the pass that serves all of them. It lives inside `Network.prepared` and is dropped with it.

    Args:
        network: the network.
        arguments: the call.
        target: the question.
        digest: the network's, from before it was run; some count their calls in a buffer.
    """

    def __init__(self, network: Network, arguments: Arguments, target: Target, digest: str) -> None:
        self.network = network
        self.digest = digest
        self.arguments = arguments
        self.target = target
        self.cost = Cost()
        self._choices: dict[str | tuple[str, ...] | None, Choice] = {}
        self._requests: dict[Precision, _Request] = {}
        self._probes: dict[Precision, Probe] = {}
        self._gradients: dict[Precision, dict[tuple[str, int], Tensor]] = {}
        self._costs: dict[tuple[Precision, bool], Cost] = {}
        self._shared: dict[Hashable, Any] = {}

    @cached_property
    def survey(self) -> Survey:
        """What the network computes; made once per network and kind of input."""
        with torch.enable_grad():
            found, forwards = surveyed(self.network, self.arguments, self.target)
        self.cost += Cost(setup=forwards)
        return found

    @cached_property
    def folding(self) -> Folding:
        """How forwards without a graph run; what is folded is found once per network and kind of input."""
        network, arguments = self.network, self.arguments
        key = ("folds", arguments.signature)
        folds = remembered(network, key)
        if folds is None:
            one = noisy_pair(arguments).select(slice(0, 1))
            with kept_attributes(network.module.modules()):
                folds = folds_in(network.module, lambda: one.call(network.module))
            remember(network, key, folds)
            self.cost += Cost(setup=1)
        return Folding(network.module, folds, KeptWeights(network.module, self.digest or network.digest))

    def layers(self, names: str | Sequence[str] | None) -> Choice:
        """The layers named, or the automatic choice."""
        asked = names if names is None or isinstance(names, str) else tuple(names)
        if asked not in self._choices:
            if asked is None:
                choice = choose(self.survey, attention_modules(self.network.module))
            else:
                choice = resolve(self.survey, [asked] if isinstance(asked, str) else asked)
            self._choices[asked] = choice
        return self._choices[asked]

    def request(self, choice: Choice, gradient: bool, precision: Precision = "float32") -> None:
        """Say that these layers will be read, before anything is read."""
        request = self._requests.setdefault(precision, _Request())
        for call in choice.calls.values():
            request.leaves[call.name] = call.leaf
            request.calls[call.name, call.index] = call
            if gradient:
                request.differentiated.add((call.name, call.index))

    def shared(self, key: Hashable, make: Callable[[], R]) -> R:
        """What `make` gives; for another method that asks by an equal key, what it gave before.

        Args:
            key: settings that say all that it depends on, beside the pictures and the question.
            make: computes it.
        """
        if key not in self._shared:
            self._shared[key] = make()
        found: R = self._shared[key]
        return found

    def feature(self, site: Site, gradient: bool, precision: Precision = "float32") -> Feature:
        """Feature maps at a requested site, and their gradients."""
        key = (site.layer, site.call)
        layout = self._requests[precision].calls[key].layout
        assert layout is not None
        activation = layout.maps(self._probe(precision).activations[key].detach()).float()
        if not gradient:
            return Feature(activation, None)
        if precision not in self._gradients:
            self._gradients[precision] = self._differentiate(precision)
        found = layout.maps(self._gradients[precision][key]).float()
        return Feature(activation, found.transpose(0, 1))

    def _probe(self, precision: Precision) -> Probe:
        if precision not in self._probes:
            request = self._requests[precision]
            self._probes[precision] = probe(
                self.network.module,
                self.arguments,
                request.leaves,
                differentiate=bool(request.differentiated),
                precision=precision,
            )
            self._count(precision, False, Cost(forwards=self.arguments.batch))
        return self._probes[precision]

    def _differentiate(self, precision: Precision) -> dict[tuple[str, int], Tensor]:
        found, wanted = self._probe(precision), sorted(self._requests[precision].differentiated)
        scores = self.question(found.outputs)
        results = gradients(scores, [found.activations[key] for key in wanted])
        self._count(precision, True, Cost(backwards=scores.numel()))
        return dict(zip(wanted, results, strict=True))

    @property
    def pixels(self) -> tuple[Site, ...]:
        """The sites of maps that lie on the pictures themselves, one per picture input."""
        return tuple(Site(PIXELS, 0, key) for key in self.arguments.pictures)

    @cached_property
    def saliency(self) -> Saliency:
        """The plain gradient at the pixels, which several methods share."""
        return self.differentiated(self.arguments, None, {})

    def differentiated(
        self, arguments: Arguments, rows: Int[Tensor, " M"] | None, rules: Mapping[Operation, Rule]
    ) -> Saliency:
        """The gradients at the pixels of the scores of M pictures, for the same question.

        Args:
            arguments: the call with these pictures.
            rows: which picture under study each is made from; all in order, and unchanged, by default.
            rules: what other than the plain gradient is computed; they must not change the outputs.

        Raises:
            NotApplicableError: the forward pass breaks the graph, or the score depends on no picture.
        """
        leaves = {key: arguments[key].detach().clone().requires_grad_() for key in arguments.pictures}
        with intercept(rules):
            outputs = arguments.showing(leaves).call(self.network.module)
            if rows is None:
                # The pictures themselves: what other methods ask of the network need not be run again.
                self.__dict__.setdefault("outputs", map_tensors(lambda each: each.detach(), outputs))
            question = self.question if rows is None else self.question.select(rows.cpu())
            scores = question(outputs)
            if not scores.requires_grad:
                raise NotApplicableError(
                    f"the score of {self.network.name} cannot be differentiated: nothing leads from it back to the "
                    "pixels, as behind torch.no_grad, detach or numpy. occlusion and rise need no gradient"
                )
            found = gradients(scores, list(leaves.values()))
        batch = arguments.batch
        cost = Cost(forwards=batch, backwards=scores.numel())
        self.cost += cost
        at_sites = dict(zip(self.pixels, (each.float().transpose(0, 1) for each in found), strict=True))
        return Saliency(at_sites, cost)

    def read(
        self,
        arguments: Arguments,
        rows: Int[Tensor, " M"],
        choice: Choice,
        gradient: bool = True,
        probability: bool = False,
    ) -> Reading:
        """Activations, and gradients, at some layers for M other pictures, for the same question.

        There is no graph before the layers, as for the pictures themselves.

        Args:
            arguments: the call with these pictures.
            rows: which picture under study each is made from.
            choice: the layers.
            gradient: whether gradients are wanted.
            probability: ask for the probability of the classes instead, where classes are asked about.
        """
        other = self.of(arguments, rows.cpu())
        if probability:
            other.__dict__["question"] = other.question.as_probability()
        other.request(choice, gradient)
        features = {site: other.feature(site, gradient) for site in choice.calls}
        reading = Reading(features, other.scores, other.cost)
        self.cost += other.cost
        return reading

    def offer(self, outputs: Any) -> bool:
        """Take the outputs of a pass over the pictures themselves, unless methods share one that gives them."""
        taken = not self._requests and "outputs" not in self.__dict__
        if taken:
            self.__dict__["outputs"] = outputs
        return taken

    @property
    def clean(self) -> Cost:
        """The pass over the pictures themselves, which every method needs and all share."""
        return Cost(forwards=self.arguments.batch)

    @cached_property
    def outputs(self) -> Any:
        """The network's outputs for the pictures themselves; from the methods' pass where there is one."""
        if not self._requests and not self._probes:
            self.cost += Cost(forwards=self.arguments.batch)
            with torch.no_grad():
                return self.arguments.call(self.network.module)
        first = "float32" if "float32" in self._requests else next(iter(self._requests))
        return self._probe(first).outputs

    @cached_property
    def question(self) -> BoundTarget:
        """The target, frozen on the clean pass."""
        if self.target.names_classes and self.network.may_be_squashed(
            main_output(self.outputs, self.target.output)
        ):
            self.survey  # noqa: B018 - it looks, so that the answer does not depend on what was asked before
        bound = self.target.bind(self.outputs, self.network)
        if len(bound.rows) != self.arguments.batch:
            raise TargetError(
                f"the target gives scores for {len(bound.rows)} pictures, not for "
                f"{self.arguments.batch} of them"
            )
        return bound

    @cached_property
    def scores(self) -> Float[Tensor, "B T"]:
        """What is explained."""
        with torch.no_grad():
            return self.question(self.outputs).detach()

    @cached_property
    def predictions(self) -> tuple[tuple[Predicted, ...], ...]:
        """Per picture the five best classes with their probabilities; empty for other outputs than (B, C)."""
        output = main_output(self.outputs, self.target.output).detach().float()
        if output.ndim != 2 or not self.target.names_classes:
            return ((),) * self.arguments.batch
        return best_classes(self.network, output)

    def used(self, precision: Precision, gradient: bool) -> Cost:
        """What the pass at this precision took, and its gradient: the cost of a method that read them."""
        return self._costs[precision, False] + (self._costs[precision, True] if gradient else Cost())

    def _count(self, precision: Precision, gradient: bool, cost: Cost) -> None:
        self._costs[precision, gradient] = cost
        self.cost += cost

    def head(self, site: Site, rows: slice) -> Head:
        """A head that replays from one site on, for some of the pictures; how to replay is set-up.

        Who runs it counts its `forwards` and `replays`.
        """
        call = next(c for c in self.survey.of(site.layer) if c.index == site.call)
        plan, forwards = planned(self.network, self.arguments, self.survey, call, self.digest)
        self.cost += Cost(setup=forwards)
        return record(self.network.module, self.arguments.select(rows), plan)

    def of(self, arguments: Arguments, rows: Int[Tensor, " M"]) -> Study:
        """The same question about other pictures, each made from one of those under study."""
        study = Study(self.network, arguments, self.target, self.digest)
        study.__dict__["question"] = self.question.select(rows)
        return study


def best_classes(
    network: Network, output: Float[Tensor, "B C"], count: int = 5
) -> tuple[tuple[Predicted, ...], ...]:
    """Per picture the best classes with their probabilities, the best first; of a single logit yes and no."""
    if output.shape[1] == 1:
        return tuple(_yes_and_no(network, p)[:count] for p in network.probabilities(output)[:, 0].tolist())
    # Ordered by score: probabilities tie in float32 where scores still differ.
    best = output.topk(min(count, output.shape[1]), dim=1).indices
    probabilities = network.probabilities(output).gather(1, best)
    return tuple(
        tuple(Predicted(i, network.class_name(i), p) for i, p in zip(indices, values, strict=True))
        for indices, values in zip(best.tolist(), probabilities.tolist(), strict=True)
    )


def _yes_and_no(network: Network, probability: float) -> tuple[Predicted, Predicted]:
    """What a single column says, given that of yes: the more probable answer first."""
    no, yes = yes_or_no(network)
    # The class of a network that names one alone is the column itself, as it is for targets.
    one = len(network.classes or ()) == 1
    found = Predicted(int(one), no, 1 - probability), Predicted(int(not one), yes, probability)
    return found if probability <= 0.5 else found[::-1]
