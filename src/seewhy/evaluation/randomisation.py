"""Do maps depend on what the network has learned? Its weights are randomised, and maps compared to those before."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seewhy.errors import InputError, NotApplicableError, SeewhyError
from seewhy.evaluation.likeness import (
    MEASURES,
    Estimate,
    Reading,
    likeness,
    looked_up,
    mean,
    noise_floor,
)
from seewhy.explainers.base import Explainer, explain_all
from seewhy.network.inputs import Arguments
from seewhy.network.network import Network
from seewhy.network.reinitialise import recompute_statistics, reinitialise
from seewhy.network.stages import find_stages, parametrised
from seewhy.network.surveys import surveyed
from seewhy.render.markdown import markdown_table
from seewhy.targets import TargetLike, as_target
from seewhy.targets.frozen import Frozen

Kind = Literal["cascading", "independent"]
Norms = Literal["keep", "recompute"]

DIES = 0.2
"""Maps died where their mean rank correlation with the clean ones is at most this, in magnitude."""
IGNORES = 0.95
"""Maps do not depend on the last layer where their rank correlation is above this after randomising it alone."""
SEEDS = 3
"""Repetitions, where nothing else is asked for."""
_BATCH = 32
_FIXED = 64  # pictures whose statistics normalisations get; not `batch`, which must change nothing


@dataclass(frozen=True)
class Verdict:
    """What the check says of one method.

    Attributes:
        method: its name.
        dies: whether its maps die once all is random: |mean rank correlation| <= 0.2. None where that was not asked
            (`independent`), or no map had a value.
        clear: whether the whole interval, and the mean of every seed, lie on that side of the rule. The interval is
            over pictures; all pictures share a seed's weights, so few seeds can be far off together.
        ignores_head: whether they stay as they were, above 0.95, while the last stage is random; None where no map
            had a value.
        text: the same in words.
    """

    method: str
    dies: bool | None
    clear: bool
    ignores_head: bool | None
    text: str

    def __str__(self) -> str:
        return f"{self.method}: {self.text}"


@dataclass(frozen=True, eq=False)
class Randomisation:
    """How alike maps are before and after a network's weights are randomised.

    Attributes:
        network: its name.
        digest: its identity.
        kind: `cascading`: a stage and all after it are random; `independent`: that stage alone.
        bn: whether running statistics were kept, or recomputed on the pictures.
        stages: the S stages, from the classifier to the input.
        seeds: of the R repetitions.
        labels: per picture what was explained, as the clean network says.
        similarities: per method and measure (S, R, B, T); NaN where undefined.
        constant: per method which maps (S, R, B, T) were constant after randomising.
        floors: per method and measure (P, B, T): clean maps of different pictures.
    """

    network: str
    digest: str
    kind: Kind
    bn: Norms
    stages: tuple[str, ...]
    seeds: tuple[int, ...]
    labels: tuple[tuple[str, ...], ...]
    similarities: Mapping[str, Mapping[str, Float[Tensor, "S R B T"]]]
    constant: Mapping[str, Bool[Tensor, "S R B T"]]
    floors: Mapping[str, Mapping[str, Float[Tensor, "P B T"]]]

    @property
    def methods(self) -> tuple[str, ...]:
        """Their names, in the order asked for."""
        return tuple(self.similarities)

    def estimate(self, method: str, measure: str = "spearman", stage: str | int = -1) -> Estimate:
        """The mean over pictures at a stage; the last one, at the input, by default.

        Raises:
            InputError: no such method, measure or stage.
        """
        values = looked_up(self.similarities, method, measure)
        if isinstance(stage, str):
            if stage not in self.stages:
                raise InputError(f"no stage {stage!r}; there are {', '.join(self.stages)}")
            stage = self.stages.index(stage)
        return Estimate.of(values[stage])

    def floor(self, method: str, measure: str = "spearman") -> Estimate:
        """The mean over pairs of different pictures, without any randomising.

        Raises:
            InputError: no such method or measure.
        """
        return Estimate.of(looked_up(self.floors, method, measure))

    def verdict(self, method: str) -> Verdict:
        """What the check says of a method.

        Raises:
            InputError: no such method.
        """
        head, last, floor = self.estimate(method, stage=0), self.estimate(method), self.floor(method)
        ignores = None if math.isnan(head.value) else head.value > IGNORES
        if ignores is None:
            said = f"no map has a value once {self.stages[0]} is random"
        elif ignores:
            said = f"does not depend on the last layer: {head} while {self.stages[0]} alone is random"
        else:
            said = f"{head} while {self.stages[0]} alone is random"
        if self.kind == "independent":
            return Verdict(method, None, False, ignores, said)
        if math.isnan(last.value):
            text = (
                f"undefined, all its maps are constant once all is random down to {self.stages[-1]}; {said}"
            )
            return Verdict(method, None, False, ignores, text)
        dies = abs(last.value) <= DIES
        means = [mean(each[None]) for each in looked_up(self.similarities, method, "spearman")[-1]]
        seeds = [each for each in means if not math.isnan(each)]
        lowest, highest = min(last.low, *seeds), max(last.high, *seeds)
        within = max(abs(lowest), abs(highest)) <= DIES
        beyond = lowest > DIES or highest < -DIES
        clear = within if dies else beyond
        fate = "passes, the map dies" if dies else "fails, the map stays"
        doubt = "" if clear else ", not beyond doubt"
        counted = f" ({last.undefined} of {last.compared} maps have no value)" if last.undefined else ""
        text = (
            f"{fate}{doubt}: rank correlation {last} with the clean map once all is random down to "
            f"{self.stages[-1]} (seeds {min(seeds):.2f} to {max(seeds):.2f}){counted}, {floor} between different "
            f"pictures; {said}"
        )
        return Verdict(method, dies, clear, ignores, text)

    def to_json(self) -> dict[str, Any]:
        """Means, intervals, counts and verdicts as JSON values; null where undefined."""
        return {
            "network": self.network,
            "digest": self.digest,
            "kind": self.kind,
            "bn": self.bn,
            "stages": list(self.stages),
            "seeds": list(self.seeds),
            "pictures": len(self.labels),
            "rule": {"dies": DIES, "ignores_head": IGNORES},
            "methods": {
                method: {
                    "stages": [
                        {
                            "stage": stage,
                            "constant": int(self.constant[method][place].sum()),
                            **{name: self.estimate(method, name, place).to_json() for name in MEASURES},
                        }
                        for place, stage in enumerate(self.stages)
                    ],
                    "floor": {name: self.floor(method, name).to_json() for name in MEASURES},
                    "verdict": asdict(self.verdict(method)),
                }
                for method in self.methods
            },
        }

    def __str__(self) -> str:
        """Markdown: the table of means, then a verdict per method."""
        down = "down to" if self.kind == "cascading" else "random alone"
        rows: list[list[str]] = []
        for method in self.methods:
            for place, stage in enumerate(self.stages):
                cells = [mean(self.similarities[method][name][place]) for name in MEASURES]
                constant = self.constant[method][place]
                count = f"{int(constant.sum())} of {constant.numel()}"
                rows.append([method, stage, *(f"{each:.2f}" for each in cells), count])
            floors = [mean(self.floors[method][name]) for name in MEASURES]
            rows.append([method, "*different pictures*", *(f"{each:.2f}" for each in floors), ""])
        table = markdown_table(["method", down, *MEASURES, "constant"], rows)
        said = "\n".join(f"* {self.verdict(method)}" for method in self.methods)
        return f"{table}\n\n{said}"

    def __repr__(self) -> str:
        return f"Randomisation({self.kind} of {self.network}: {', '.join(self.methods)})"


def randomise(
    explainers: Sequence[str | Explainer],
    network: Network | nn.Module,
    images: Any,
    *,
    kind: Kind = "cascading",
    stages: Sequence[str] | None = None,
    seeds: int | Sequence[int] = SEEDS,
    bn: Norms = "keep",
    target: TargetLike = None,
    batch: int = _BATCH,
) -> Randomisation:
    """Randomise a network's weights stage by stage, and compare the maps of each method to those before.

    The check of Adebayo et al. (NeurIPS 2018): a map that stays as it was does not show what the network has learned.
    It is done on a copy. Weights are drawn by the modules' own `reset_parameters`; what has none gets normal noise of
    the same root mean square (`seewhy.network.reinitialise`). A seed gives a stage the same weights in both kinds.
    The clean network decides what is explained, and where layers are chosen.

    Args:
        explainers: registry names or explainers; they share their passes.
        network: a `Network` or any `nn.Module`.
        images: B inputs, as an explainer takes them; 30 to 50 are enough.
        kind: `cascading`: the last stage, then the last two, down to the input; `independent`: each alone.
        stages: names of modules; by default the network is taken apart (`seewhy.network.stages`).
        seeds: how many repetitions, or their seeds.
        bn: `keep` the running statistics of normalisations, or `recompute` them on the first 64 pictures. Networks
            without signal have constant maps, which are like no other: they are counted.
        target: what is explained; the class that the clean network predicts by default.
        batch: pictures per pass.

    Returns:
        Four measures per method, stage, seed and picture, with the noise floor and verdicts.

    Raises:
        InputError: settings that mean nothing, or maps smaller than 11 pixels.
        LayerError: a stage that is not there.
        NotApplicableError: a method does not fit, or the network cannot be copied.

    Example:
        >>> network = seewhy.load("demo")
        >>> images = network.read([scene.image for scene in seewhy.Scenes(8, seed=9)])
        >>> checked = randomise(["grad-cam"], network, images, seeds=1)
        >>> checked.verdict("grad-cam").dies
        True
    """
    chosen = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if isinstance(explainers, str) or batch < 1 or not chosen:
        raise InputError("explainers is a list of methods, batch at least 1, and seeds one or more")
    if kind not in ("cascading", "independent") or bn not in ("keep", "recompute"):
        raise InputError(f"kind is cascading or independent, bn keep or recompute; not {kind!r}, {bn!r}")
    network = Network.of(network)
    digest = network.digest
    work = _copied(network)
    modules = dict(work.module.named_modules())
    with work.prepared(images) as arguments:
        # Where the methods will look is found out on the clean weights, and kept.
        found, _ = surveyed(work, arguments, as_target(target))
        blocks = find_stages(work.module, found, stages)
        parts = list(_parts(work, arguments, as_target(target), batch))
    clean_parts, labels = _explained(work, explainers, parts)
    clean = {name: Reading.joined([part[name] for part in clean_parts]) for name in clean_parts[0]}
    state = [(each, each.detach().clone()) for each in _state(work.module)]
    steps = [(place, seed) for seed in chosen for place in range(len(blocks))]
    table: dict[tuple[int, int], dict[str, dict[str, Tensor]]] = {}
    for place, seed in steps:
        if place == 0 or kind == "independent":
            _restore(state)
        reinitialise(work, parametrised(modules, blocks[place]), f"{seed} {blocks[place].name}")
        if bn == "recompute":
            recompute_statistics(work, arguments.select(slice(0, _FIXED)))
        try:
            after, _ = _explained(work, explainers, parts)
        except SeewhyError as error:
            error.add_note(f"with random weights, {kind}, stage {blocks[place].name!r}, seed {seed}")
            raise
        table[place, seed] = _compared(clean_parts, after)

    def gathered(method: str, name: str) -> Tensor:
        rows = [[table[place, seed][method][name] for seed in chosen] for place in range(len(blocks))]
        return torch.stack([torch.stack(row) for row in rows])

    return Randomisation(
        network=network.name,
        digest=digest,
        kind=kind,
        bn=bn,
        stages=tuple(each.name for each in blocks),
        seeds=chosen,
        labels=labels,
        similarities={method: {name: gathered(method, name) for name in MEASURES} for method in clean},
        constant={method: gathered(method, "constant") for method in clean},
        floors={method: noise_floor(each) for method, each in clean.items()},
    )


def stages_of(network: Network, images: Any) -> tuple[str, ...]:
    """Names of the stages that `randomise` finds for inputs like these, where none are named."""
    with network.prepared(images) as arguments:
        found, _ = surveyed(network, arguments, as_target(None))
        return tuple(each.name for each in find_stages(network.module, found))


@dataclass(frozen=True, eq=False)
class _Part:
    """Some of the pictures, and what is asked of them."""

    inputs: dict[int | str, Any]
    target: Frozen


def _copied(network: Network) -> Network:
    """The network on a copy of its module."""
    try:
        module = copy.deepcopy(network.module)
    except (RuntimeError, TypeError, ValueError) as error:
        raise NotApplicableError(
            f"{network.name} cannot be copied ({error}), and randomising must leave the original alone; pass a module "
            "that copy.deepcopy takes"
        ) from error
    return network.around(module)


def _parts(network: Network, arguments: Arguments, target: Any, batch: int) -> Iterator[_Part]:
    """The pictures in parts, each with the question frozen as the clean network understands it."""
    for start in range(0, arguments.batch, batch):
        rows = range(start, min(start + batch, arguments.batch))
        part = arguments.select(slice(rows.start, rows.stop))
        with torch.no_grad():
            bound = target.pick(rows, arguments.batch).bind(part.call(network.module), network)
        inputs: dict[int | str, Any] = dict([*enumerate(part.positional), *part.named.items()])
        yield _Part(inputs, Frozen(target, bound, output=target.output))


def _explained(
    network: Network, explainers: Sequence[str | Explainer], parts: Sequence[_Part]
) -> tuple[list[dict[str, Reading]], tuple[tuple[str, ...], ...]]:
    """The maps of all parts, as the measures read them, and what was explained."""
    readings, labels = [], list[tuple[str, ...]]()
    for part in parts:
        found = explain_all(network, part.inputs, explainers, target=part.target)
        readings.append(Reading.all_of(found))
        labels += next(iter(found.values())).labels
    return readings, tuple(labels)


def _compared(
    clean: Sequence[Mapping[str, Reading]], after: Sequence[Mapping[str, Reading]]
) -> dict[str, dict[str, Tensor]]:
    """Per method each measure (B, T), and which maps are constant now."""
    for method, first in clean[0].items():
        if method not in after[0] or first.raw.shape != after[0][method].raw.shape:
            raise InputError(
                f"{method} draws its map elsewhere once weights are random; give it a layer by name"
            )
    found = {
        method: [
            {**likeness(a[method], b[method]), "constant": b[method].constant.cpu()}
            for a, b in zip(clean, after, strict=True)
        ]
        for method in clean[0]
    }
    return {
        method: {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        for method, parts in found.items()
    }


def _state(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _restore(state: Sequence[tuple[Tensor, Tensor]]) -> None:
    with torch.no_grad():
        for each, values in state:
            each.copy_(values)
