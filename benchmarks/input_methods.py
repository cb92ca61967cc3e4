"""The methods of masks and of pixel gradients beside captum, pytorch-grad-cam and torchcam."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F

from benchmarks import oracle, peers
from benchmarks.oracle import Array, normalised
from benchmarks.subjects import Subject, trained
from seewhy import (
    AblationCAM,
    Deconvolution,
    Explainer,
    Gradient,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    Occlusion,
    Scenes,
    ScoreCAM,
    load,
)
from seewhy.render.markdown import markdown_table

PICTURES = 2
SIDE = 128  # of the picture for Score-CAM, of which the equation is worked out three times in float64
TOLERANCE = 1e-4

# Our method, captum's name for it, its settings there.
_PIXELS: tuple[tuple[Explainer, str, dict[str, Any]], ...] = (
    (Gradient(), "Saliency", {"abs": False}),
    (InputXGradient(), "InputXGradient", {}),
    (GuidedBackprop(), "GuidedBackprop", {}),
    (Deconvolution(), "Deconvolution", {}),
    (IntegratedGradients(steps=8), "IntegratedGradients", {"n_steps": 8, "method": "riemann_middle"}),
    (IntegratedGradients(steps=8, rule="gauss-legendre"), "IntegratedGradients", {"n_steps": 8}),
)
_ON_RELUS = ("guided-backprop", "deconvolution")


@dataclass(frozen=True)
class Matched:
    """The largest difference, over pictures and pixels, of maps divided by their largest magnitude.

    Attributes:
        network: whose decision is explained.
        method: our name for it.
        peer: whose map ours is compared with.
        apart: the difference; 0 where both maps are zero.
        empty: whether both maps are zero everywhere.
    """

    network: str
    method: str
    peer: str
    apart: float
    empty: bool = False

    @property
    def agrees(self) -> bool:
        return self.apart <= TOLERANCE


def few() -> Iterator[Subject]:
    """The bundled network and the two trained ones, two pictures each.

    Raises:
        FileNotFoundError: the folder of weights and pictures is not where SEEWHY_DATA says.
    """
    yield bundled()
    yield from trained(PICTURES)


def bundled() -> Subject:
    """The bundled network and two scenes."""
    network = load("demo")
    images = network.read([scene.image for scene in Scenes(PICTURES, seed=71)]).pixels
    return Subject("demo", network, "stage2", images, network(images).argmax(1).tolist())


def compared(subject: Subject) -> Iterator[Matched]:
    """Every method against the package that has it."""
    module, images, classes = subject.module, subject.images, subject.classes
    for explainer, theirs, options in _PIXELS:
        if explainer.name in _ON_RELUS and peers.has_relu6(module):
            continue  # captum leaves a ReLU6 as it is; see the page
        found = np.asarray(explainer(module, images, classes).values[:, 0].double())
        other = peers.captum_pixels(theirs, module, images, classes, **options)
        name = explainer.name
        if isinstance(explainer, IntegratedGradients):
            name += f":rule={explainer.rule}"
        yield matched(subject, name, peers.CAPTUM, found, other)
    yield occlusion(subject)
    yield ablation(subject)


def occlusion(subject: Subject) -> Matched:
    """Windows of a quarter of the side, and what it takes for the last one to end at the border.

    Elsewhere captum cuts the last ones short, where ours end flush.
    """
    stride = subject.size[0] // 8
    side = subject.size[0] - 6 * stride
    explainer = Occlusion(window=side, stride=stride, precision="float32")
    found = explainer(subject.module, subject.images, subject.classes).values[:, 0]
    theirs = peers.captum_pixels(
        "Occlusion",
        subject.module,
        subject.images,
        subject.classes,
        sliding_window_shapes=(3, side, side),
        strides=(3, stride, stride),
    )
    return matched(subject, "occlusion", peers.CAPTUM, np.asarray(found.double()), theirs[:, 0])


def ablation(subject: Subject) -> Matched:
    """Ablation-CAM, drawn as pytorch-grad-cam draws it."""
    explainer = AblationCAM(layer=subject.layer)
    ours = explainer(subject.module, subject.images, subject.classes).values[:, 0]
    theirs = peers.alone("ablation-cam", subject.module, subject.layer, subject.images, subject.classes)
    return matched(subject, "ablation-cam", peers.GRAD_CAM, normalised(ours, subject.size), theirs)


def matched(subject: Subject, method: str, peer: str, ours: Array, theirs: Array) -> Matched:
    """How far two maps are apart."""
    empty = not ours.any() and not theirs.any()
    apart = float(np.abs(_scaled(ours) - _scaled(theirs)).max())
    return Matched(subject.title, method, peer, apart, empty)


def _scaled(maps: Array) -> Array:
    """Each picture's map divided by its largest magnitude."""
    flat = maps.reshape(len(maps), -1)
    largest = np.abs(flat).max(1, keepdims=True)
    return flat / np.where(largest > 0, largest, 1)


@dataclass(frozen=True)
class Scored:
    """Score-CAM of one network: maps in [0, 1], each against the equation in float64 with its own masks.

    Attributes:
        network: whose decision is explained.
        ours: ours against masks that are enlarged, then stretched: the paper's N(up(A)).
        grad_cam: pytorch-grad-cam's against masks enlarged with aligned corners.
        torchcam: torchcam's against masks stretched on the layer's grid, then enlarged.
        grad_cam_apart: pytorch-grad-cam's from the paper's equation.
        torchcam_apart: torchcam's from the paper's equation.
    """

    network: str
    ours: float
    grad_cam: float
    torchcam: float
    grad_cam_apart: float
    torchcam_apart: float


def scored(subject: Subject) -> Scored:
    """Three implementations of Score-CAM, and the three equations that they compute; one small picture."""
    module, layer, classes = subject.module, subject.layer, subject.classes[:1]
    images = F.interpolate(subject.images[:1], (SIDE, SIDE), mode="bilinear")
    size = (SIDE, SIDE)
    explainer = ScoreCAM(layer=layer, precision="float32")
    ours = normalised(explainer(module, images, classes).values[:, 0], size)
    cam = peers.Torchcam("score-cam", module, layer)
    try:
        torchcam = normalised(cam(images, classes), size)
    finally:
        cam.close()
    grad_cam = peers.alone("score-cam", module, layer, images, classes)
    paper, corners, grid = (
        normalised(oracle.score_cam(module, images, layer, classes, masks), size)
        for masks in (oracle.enlarged_masks, oracle.corner_masks, oracle.grid_masks)
    )

    def apart(one: Array, other: Array) -> float:
        return float(np.abs(one - other).max())

    return Scored(
        subject.title,
        apart(ours, paper),
        apart(grad_cam, corners),
        apart(torchcam, grid),
        apart(grad_cam, paper),
        apart(torchcam, paper),
    )


def section(rows: Sequence[Matched], scores: Sequence[Scored]) -> str:
    """The part of the page about these methods."""
    table = markdown_table(
        ["network", "method", "peer", "ours - theirs", "agrees"],
        [
            [row.network, f"`{row.method}`", row.peer]
            + (["both zero", ""] if row.empty else [f"{row.apart:.1e}", "yes" if row.agrees else "no"])
            for row in rows
        ],
    )
    masks = markdown_table(
        [
            "network",
            "ours - equation",
            f"{peers.GRAD_CAM} - equation",
            f"{peers.GRAD_CAM} - its masks",
            "torchcam - equation",
            "torchcam - its masks",
        ],
        [
            [each.network]
            + [
                f"{value:.1e}"
                for value in (
                    each.ours,
                    each.grad_cam_apart,
                    each.grad_cam,
                    each.torchcam_apart,
                    each.torchcam,
                )
            ]
            for each in scores
        ],
    )
    return f"""## Masks and pixel gradients

{PICTURES} pictures per network: scenes for the bundled one, photographs for the others. Maps with a value per
pixel are compared as they are, signed and per colour, divided by their largest magnitude; Ablation-CAM as
{peers.GRAD_CAM} draws it. captum's occlusion cuts the last windows short where ours end flush with the border,
so windows are chosen that fit.

{table}

Guided backpropagation and deconvolution in MobileNetV2 are not in the table: its activations are ReLU6, which
captum leaves as they are, so that its map is the plain gradient. Ours changes the gradient of every rectifier.
In SqueezeNet the last layer before the pooling is a ReLU followed by nothing that could be negative on the way
back, and deconvolution's map may be zero, there as here.

**Score-CAM.** The paper's mask is N(up(A)): a feature map enlarged, then stretched to [0, 1].
{peers.GRAD_CAM} enlarges with aligned corners, which shifts the masks against the map by up to half a cell;
torchcam stretches on the layer's grid and enlarges afterwards, which leaves masks whose extremes are not 0 and
1. The table shows each package against the paper's equation, worked out in float64 (`benchmarks/oracle.py`),
and against the same equation with that package's masks; one picture of {SIDE} pixels.

{masks}
"""


def report() -> str:
    """Compare everything."""
    found = list(few())
    return section([row for each in found for row in compared(each)], [scored(each) for each in found])
