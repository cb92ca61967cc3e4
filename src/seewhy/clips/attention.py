"""L2-CAF for networks that read clips: which places of which frames keep what the network answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from seewhy.clips.head import head_of, separated
from seewhy.clips.layout import FrameLayout, Order, chosen, framed
from seewhy.clips.result import ClipExplanation, joined
from seewhy.clips.search import better, deaf, from_single_frames, sensitivity_of
from seewhy.errors import InputError, TargetError
from seewhy.explainers.attention_filter.asked import Against
from seewhy.explainers.attention_filter.closed_form import nonzero
from seewhy.explainers.attention_filter.filters import (
    Constraint,
    Filters,
    Search,
    Solver,
    Subject,
    solve,
)
from seewhy.explainers.attention_filter.linear_head import learned
from seewhy.explainers.attention_filter.objectives import Run
from seewhy.explainers.attention_filter.reading import Reading, kept, raised
from seewhy.explainers.l2_caf import EVEN, NO_EVIDENCE, SEVERAL
from seewhy.explainers.linearity import probed
from seewhy.explainers.study import Study
from seewhy.explanation import Cost
from seewhy.network.inputs import Arguments
from seewhy.network.network import Network, main_output
from seewhy.network.precision import in_chunks
from seewhy.network.preserve import preserved
from seewhy.network.replay import Head
from seewhy.settings import Settings
from seewhy.targets import TargetLike, as_target

IGNORED = "undefined: the network's answer does not depend on this layer's map of"
"""How a note begins that lists the frames whose maps mean nothing."""
MIXED = "the layer already mixes frames: a frame's map is not of that frame alone"
DEAF = "the network's answer depends on no frame of this layer"

_UNPROVED = 100  # times the tolerance
_INPUTS: Mapping[str, tuple[int, ...]] = {"BFCHW": (), "FBCHW": (1, 0, 2, 3, 4), "BCFHW": (0, 2, 1, 3, 4)}


class ClipAttention(Settings):
    """L2-CAF (Taha et al., ECCV 2020) of clips: a filter on the maps of all frames, multiplied into all channels.

    The paper promises attention per frame of recurrent retrieval and gives no code; this is our reading. With one
    `joint` budget the norm of the filter is spread over all frames, so that it says which of them matter. With one
    `per-frame` each frame's map has the same norm, and says where in this frame the network looks. In either case the
    filter keeps the output as it was (mode `oblivious`), or raises one class (`class`).

    Frames are found folded into the batch, (B F) or (F B), on an axis of their own, (B, F, ...), (F, B, ...) or
    (B, K, F, ...), or as one call of the layer each.
    """

    title: ClassVar[str] = "L2-CAF of clips"
    paper: ClassVar[str] = "Taha et al., ECCV 2020"

    name: Literal["clip-attention"] = "clip-attention"
    budget: Literal["joint", "per-frame"] = Field(
        default="joint", description="One norm for the maps of all frames together, or one for each."
    )
    mode: Literal["oblivious", "class"] = Field(
        default="oblivious", description="oblivious: keep all outputs. class: raise the target."
    )
    contrast: Against = Field(
        default="mean", description="Which other classes are held down, in mode `class`; as in L2CAF."
    )
    k: int = Field(default=5, ge=1, description="How many classes the contrast `top-k` holds down.")
    layer: str | None = Field(
        default=None, description="Layer, by dotted name. None: the last that returns a map of every frame."
    )
    frames: Order | None = Field(
        default=None,
        description="Where the layer's output holds clips B and frames F: `(BF)`, `(FB)`, `BF`, `FB`, `BKF` behind the "
        "channels, or `calls`, one per frame. None: found by probing.",
    )
    inputs: Literal["BFCHW", "FBCHW", "BCFHW"] = Field(
        default="BFCHW", description="The order of axes in which the network takes clips."
    )
    constraint: Constraint = Field(
        default="non-negative",
        description="The set of filters, as in L2CAF.",
    )
    rho: float = Field(
        default=1.0, gt=0, description="Norm of a frame's filter; a joint filter has rho times the root of F."
    )
    solver: Solver = Field(default="auto", description="As in L2CAF.")
    embedding: Literal["auto", "output"] = Field(
        default="auto", description="What is kept of an embedding that was normalised, as in L2CAF."
    )
    iterations: int = Field(default=300, ge=1, le=100_000, description="Steps at most, per clip.")
    restarts: bool = Field(
        default=True,
        description="Whether a joint budget is also searched for from single frames, where there is no formula.",
    )
    tolerance: float = Field(
        default=1e-5, gt=0, description="The KKT residual at which the steps of `riemannian` end."
    )

    @property
    def signed(self) -> bool:
        """Whether negative values mean evidence against."""
        return self.constraint == "sphere"

    def __call__(
        self,
        network: Network | nn.Module,
        clips: Tensor,
        target: TargetLike = None,
        *,
        chunk: int | None = None,
    ) -> ClipExplanation:
        """Explain clips.

        Args:
            network: a `Network` or any `nn.Module` that takes clips.
            clips: (B, F, C, H, W), whatever order of axes the network takes (`inputs`).
            target: one class per clip, in mode `class`; of other outputs than (B, D), which one is kept.
            chunk: clips per pass; all at once by default, halved where memory runs out.

        Returns:
            Maps (B, F, h, w), the weight and the sensitivity of every frame (B, F), and which maps are undefined.

        Raises:
            SeewhyError: the clips, the layer or the target do not fit the network; the message says why.

        Example:
            >>> from seewhy.clips import ClipAttention, FrameAverage
            >>> frames = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            >>> ClipAttention()(FrameAverage(frames), torch.rand(2, 5, 3, 8, 8)).values.shape
            torch.Size([2, 5, 6, 6])
        """
        if (
            not isinstance(clips, Tensor)
            or clips.ndim != 5
            or not clips.is_floating_point()
            or not clips.numel()
        ):
            given = (
                f"{clips.dtype} {tuple(clips.shape)}" if isinstance(clips, Tensor) else type(clips).__name__
            )
            raise InputError(
                f"clips are a float tensor (B, F, C, H, W), got {given}; one clip is `clip[None]`"
            )
        network = Network.of(network)
        digest, question, own = network.digest, as_target(target), self._taking(network)
        with preserved(own.module, network.device):
            moved = clips.detach().clone().to(network.device, network.dtype)

            def run(start: int, stop: int) -> ClipExplanation:
                part = Arguments((moved[start:stop],), {}, stop - start, (0,))
                return self._explained(
                    Study(own, part, question.pick(range(start, stop), len(moved)), digest)
                )

            return joined(in_chunks(run, len(moved), chunk))

    def _taking(self, network: Network) -> Network:
        """The network, taking clips as (B, F, C, H, W)."""
        axes = _INPUTS[self.inputs]
        if not axes:
            return network
        return Network(
            _Permuted(network.module, axes), classes=network.classes, name=network.name, head=network.head
        )

    def _explained(self, study: Study) -> ClipExplanation:
        clips: Tensor = study.arguments[0]
        frames, size = clips.shape[1], study.arguments.size
        layer = f"{_INNER}{self.layer}" if self.layer and _INPUTS[self.inputs] else self.layer
        calls = framed(study.survey, study.network.module, frames, size, self.frames)
        if not calls and not bool(torch.isfinite(main_output(study.outputs, study.target.output)).all()):
            raise InputError(
                f"{study.network.name} answers NaN or infinity for these clips; look at the weights"
            )
        call, alone = separated(study, chosen(calls, layer))
        head = head_of(study, call)
        study.offer(head.outputs)
        maps = head.maps
        if not bool(torch.isfinite(maps).all()):
            raise InputError(
                f"{study.network.name} gives NaN or infinity at {call.name}; look at weights and input"
            )
        reading = self._reading(study, head)
        run = reading.run(head)
        sensitivity = sensitivity_of(run, maps, torch.ones_like(maps[:, 0]), reading.coefficients)
        found = self._found(maps, reading, run, sensitivity)
        filters = found.values[:, 0]
        ignored = deaf(sensitivity) & deaf(sensitivity_of(run, maps, filters, reading.coefficients))
        masses = filters.square().sum((2, 3))
        layout = call.layout
        assert isinstance(layout, FrameLayout)
        common = [*filter(None, [reading.note, "" if alone else MIXED])]
        return ClipExplanation(
            values=(filters * ~ignored[:, :, None, None]).float(),
            weights=(masses / masses.sum(1, keepdim=True)).float(),
            sensitivity=(sensitivity / nonzero(sensitivity.amax(1, keepdim=True))).float(),
            undefined=ignored,
            residual=found.residual[:, 0].float(),
            settings=self.model_dump(mode="json"),
            signed=self.signed,
            network=study.network.name,
            digest=study.digest,
            layer=call.name.removeprefix(_INNER if _INPUTS[self.inputs] else "")
            + (f"[{call.index}]" if call.index and layout.order != "calls" else ""),
            order=layout.order,
            size=size,
            cost=study.cost + Cost(head.forwards, found.evaluations, head.replays),
            notes=tuple((*common, *own) for own in self._notes(found, ignored)),
        )

    def _reading(self, study: Study, head: Head) -> Reading:
        """What is kept or raised."""
        if self.mode == "oblivious":
            return kept(study, head, self.embedding == "auto")
        if study.scores.shape[1] != 1:
            raise TargetError(f"one target per clip is explained at a time, got {study.scores.shape[1]}")
        return raised(study, head, self.contrast, self.k)

    def _found(
        self, maps: Float[Tensor, "B K F h w"], reading: Reading, run: Run, sensitivity: Float[Tensor, "B F"]
    ) -> Filters:
        linear = None
        if self.solver in ("auto", "closed-form") and reading.kind != "scores":
            shape = probed(lambda trial: run(trial, _first(trial)), maps[:1])
            linear = None if shape.not_affine else learned(run, maps[:1], not shape.not_pooled)
        joint = self.budget == "joint"
        search = Search(
            self.constraint,
            self.rho * (math.sqrt(maps.shape[2]) if joint else 1),
            separate=0 if joint else 1,
            solver=self.solver,
            iterations=self.iterations,
            tolerance=self.tolerance,
        )
        subject = Subject(maps, run, reading.outputs, reading.coefficients, linear)
        found = solve(subject, search)
        if (
            not (joint and self.restarts)
            or found.solver != "riemannian"
            or self.constraint in ("gaussian", "box")
        ):
            return found
        return better(subject, found, from_single_frames(subject, search, sensitivity))

    def _notes(self, found: Filters, ignored: Bool[Tensor, "B F"]) -> list[list[str]]:
        """Per clip, what to know before trusting its maps."""
        notes = []
        for row, own in enumerate(ignored.tolist()):
            frames, residual = (
                [str(frame) for frame, each in enumerate(own) if each],
                float(found.residual[row, 0]),
            )
            lines = []
            if all(own):
                lines.append(DEAF)
            elif frames:
                lines.append(f"{IGNORED} frame{'s' * (len(frames) > 1)} {', '.join(frames)}")
            if bool(found.even[row].any()):
                lines.append(EVEN)
            elif not bool(found.unique[row].all()):
                lines.append(SEVERAL)
            if not bool(found.evidence[row].all()):
                lines.append(NO_EVIDENCE)
            if residual > _UNPROVED * self.tolerance and found.solver not in ("adam", "sgd"):
                lines.append(f"not settled: the steps ended at a KKT residual of {residual:.1g}")
            notes.append([*lines, f"{found.solver}: KKT residual {residual:.1g}"])
        return notes


_INNER = "network."


class _Permuted(nn.Module):
    """A network that is given clips (B, F, C, H, W) and takes another order."""

    def __init__(self, network: nn.Module, axes: tuple[int, ...]) -> None:
        super().__init__()
        self.network, self.axes = network, axes

    def forward(self, clips: Tensor) -> Any:
        return self.network(clips.permute(self.axes))


def _first(trial: Tensor) -> Tensor:
    return torch.zeros(len(trial), dtype=torch.long, device=trial.device)
