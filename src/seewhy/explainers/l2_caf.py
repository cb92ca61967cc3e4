"""L2-CAF: the filter of unit norm that keeps what a network answers, or raises one class above the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from seewhy.explainers.activation import check_finite
from seewhy.explainers.attention_filter.asked import Against
from seewhy.explainers.attention_filter.filters import Constraint, Filters, Search, Solver, Subject, solve
from seewhy.explainers.attention_filter.objectives import PROBES
from seewhy.explainers.attention_filter.reading import kept, matrix, raised
from seewhy.explainers.attention_filter.solver import Descent
from seewhy.explainers.base import Computed, Explainer, Workload
from seewhy.explainers.draws import Seed, generator, normal, picture_keys
from seewhy.explainers.pixels import remarks
from seewhy.explainers.study import Feature, Study
from seewhy.explanation import Cost
from seewhy.network.layers import Site
from seewhy.network.network import Network
from seewhy.network.precision import exact_type
from seewhy.network.replay import Head

NO_EVIDENCE = "no positive evidence: no position would raise what is asked for"
EVEN = "the uniform filter keeps the output: the head ignores the layer's scale, as of a normalised embedding"
SEVERAL = "several filters are equally good"
UNSETTLED = "not settled"
"""How a note begins where the steps ended before an optimum was proved."""

_UNPROVED = 100  # times the tolerance
_REFERENCE: dict[str, Any] = {
    "contrast": "all",
    "constraint": "sphere", "learning_rate": 0.5, "iterations": 1000, "stop": "difference", "magnitude": True,
}  # fmt: skip


class L2CAF(Explainer):
    """L2-CAF (Taha et al., ECCV 2020): a filter f of norm rho on the layer's grid, multiplied into all channels.

    In mode `class` it raises the class above the others, in mode `oblivious` it keeps the output as it was. Where the
    head is affine in the layer, which is measured, it is computed by a formula, elsewhere by steps, for all pictures
    and targets together. The presets are the public loops.
    """

    title: ClassVar[str] = "L2-CAF"
    paper: ClassVar[str] = "Taha et al., ECCV 2020"
    needs: ClassVar[str] = "a layer with feature maps"
    presets: ClassVar = {
        "reference-tf": {**_REFERENCE, "solver": "adam", "start": "random"},
        "reference-pt": {**_REFERENCE, "solver": "sgd", "last_rate": 1e-5},
    }

    name: Literal["l2-caf"] = "l2-caf"
    mode: Literal["class", "oblivious"] = Field(
        default="class",
        description="class: raise the target. oblivious: keep all outputs; one map, whatever the targets.",
    )
    contrast: Against = Field(
        default="mean",
        description="Which other classes are held down, in mode `class`: the `mean` of all, the sum of `all` (which "
        "outweighs one class of many), `none`, the `top-k` strongest, or those of these numbers. Targets that are no "
        "class's score are raised as they are.",
    )
    k: int = Field(default=5, ge=1, description="How many classes the contrast `top-k` holds down.")
    layer: str | tuple[str, ...] | None = Field(
        default=None, description="Layer or layers, by dotted name. None: the last feature map that counts."
    )
    constraint: Constraint = Field(
        default="non-negative",
        description="The set of filters: of norm rho and `non-negative`, or of any sign (`sphere`); non-negative with "
        "the sum rho (`simplex`); one `gaussian` of norm rho, mean and covariance learned; or entries in [0, 1] whose "
        "mean is at most `area` (`box`).",
    )
    rho: float = Field(
        default=1.0,
        gt=0,
        description="Norm of the filter. 1 scales activations down by the root of the number of positions; that root "
        "itself allows the uniform filter that changes nothing.",
    )
    area: float = Field(default=0.25, gt=0, le=1, description="Share of the positions that a `box` may show.")
    solver: Solver = Field(
        default="auto",
        description="`closed-form` where the head is affine in the layer and there is one, else `riemannian`: "
        "projected gradients; or the loops of the reference, `adam` and `sgd`.",
    )
    embedding: Literal["auto", "output"] = Field(
        default="auto",
        description="What is kept of an embedding that was normalised: what it was before, where that is found, or the "
        "output itself.",
    )
    iterations: int = Field(default=300, ge=1, le=100_000, description="Steps at most, per filter.")
    tolerance: float = Field(
        default=1e-6,
        gt=0,
        description="The KKT residual at which `riemannian` stops; the change of the loss in 50 steps at which the "
        "loops of the reference do.",
    )
    stop: Literal["share", "difference"] = Field(
        default="share", description="Whether that change is a share of the loss, or a difference."
    )
    learning_rate: float = Field(default=0.5, gt=0, description="First step of `adam` and `sgd`.")
    last_rate: float = Field(default=0.0, ge=0, description="What it falls to, evenly, over all iterations.")
    start: Literal["uniform", "random"] = Field(
        default="uniform", description="Where `adam` and `sgd` begin: at ones, or at normal noise."
    )
    magnitude: bool = Field(default=False, description="Show the magnitudes of a filter of either sign.")
    seed: Seed = Field(default=0, description="Of the random start.")

    @model_validator(mode="after")
    def _consistent(self) -> L2CAF:
        if self.solver in ("adam", "sgd") and self.constraint in ("box", "gaussian"):
            raise ValueError(f"solver={self.solver!r} knows no {self.constraint} filters; 'riemannian' does")
        return self

    @property
    def randomized(self) -> bool:
        return self.start == "random" and self.solver in ("adam", "sgd")

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """Whether negative values mean evidence against."""
        return self.constraint == "sphere" and not self.magnitude

    @property
    def class_agnostic(self) -> bool:  # type: ignore[override]
        """Whether the target is ignored."""
        return self.mode == "oblivious"

    def plan(self, work: Workload, network: Network) -> Cost:
        sites = work.sites(self.layer)
        filters = work.pictures if self.mode == "oblivious" else work.scores
        runs = sites * (filters * (self.iterations + 4) + PROBES)
        # A head that cannot be replayed is run as a whole.
        return Cost(work.pictures * (1 + sites) + runs, runs, runs)

    def compute(self, study: Study) -> Computed:
        choice = study.layers(self.layer)
        heads = {site: study.head(site, slice(None)) for site in choice.calls}
        # The pass that recorded a head answers the question, where no other method has asked already.
        cost = Cost() if study.offer(next(iter(heads.values())).outputs) else study.clean
        maps: dict[Site, Tensor] = {}
        notes: list[list[str]] = [[] for _ in range(study.arguments.batch)]
        for site, head in heads.items():
            check_finite(Feature(head.maps, None), study)
            found, note = self._found(study, site, head)
            maps[site] = self._shown(found, head.maps).expand(-1, study.scores.shape[1], -1, -1)
            for row, own in enumerate(self._notes(found)):
                notes[row].extend(filter(None, (note, *own)))
            spent = Cost(head.forwards, found.evaluations, head.replays)
            study.cost += spent
            cost += spent
        every = [(*remarks(list(maps.values()), row), *dict.fromkeys(own)) for row, own in enumerate(notes)]
        return Computed(maps, tuple(every), choice.reason, cost)

    def _found(self, study: Study, site: Site, head: Head) -> tuple[Filters, str]:
        """The filters of one layer, and what to know about what they were judged by."""
        if self.mode == "class":
            reading = raised(study, head, self.contrast, self.k)
        else:
            reading = kept(study, head, self.embedding == "auto")
        linear = matrix(study, site, reading) if self.solver in ("auto", "closed-form") else None
        run = reading.run(head)
        subject = Subject(head.maps, run, reading.outputs, reading.coefficients, linear)
        descent = Descent(
            "sgd" if self.solver == "sgd" else "adam",
            self.learning_rate,
            self.last_rate,
            relative=self.stop == "share",
        )
        search = Search(
            self.constraint, self.rho, self.area, 0, self.solver, self.iterations, self.tolerance, descent
        )
        return solve(subject, search, self._starts(study, site, subject)), reading.note

    def _starts(self, study: Study, site: Site, subject: Subject) -> Float[Tensor, "N 1 S"] | None:
        """Noise of each picture's own, where it is asked for."""
        if not self.randomized:
            return None
        activation = subject.activation
        size = activation[0, 0].numel()
        keys = picture_keys(study.arguments[site.input])
        drawn = torch.stack([normal(generator(key, self.seed, 0), size) for key in keys])
        drawn = drawn.to(activation.device, exact_type(activation.device))
        return drawn.repeat_interleave(subject.targets, 0)[:, None]

    def _shown(self, found: Filters, activation: Float[Tensor, "B K h w"]) -> Float[Tensor, "B T h w"]:
        """The map: the filter, or zero where it says nothing."""
        values = found.values.abs() if self.magnitude else found.values
        says = activation.flatten(1).any(1)[:, None]
        if not self.signed and not self.magnitude:
            says = says & found.evidence
        return (values * says[:, :, None, None]).float()

    def _notes(self, found: Filters) -> Iterator[list[str]]:
        """Per picture, what kind of optimum it is, and what proves it."""
        by_steps = found.solver != "closed-form"
        for row in range(len(found.values)):
            residual, steps = float(found.residual[row].max()), int(found.iterations[row].max())
            notes = []
            if found.solver not in ("adam", "sgd") and residual > _UNPROVED * self.tolerance:
                notes.append(f"{UNSETTLED}: the steps ended at a KKT residual of {residual:.1g}")
            if not bool(found.evidence[row].all()):
                notes.append(NO_EVIDENCE)
            if bool(found.even[row].any()):
                notes.append(EVEN)
            elif not bool(found.unique[row].all()):
                notes.append(SEVERAL)
            if dark := int(found.dark[row].max()):
                notes.append(f"dead ReLU: the head is deaf to {dark} positions whose filter is negative")
            after = f" after {steps} evaluations" if by_steps else ""
            yield [*notes, f"{found.solver}: KKT residual {residual:.1g}{after}"]
