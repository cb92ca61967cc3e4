"""Are the maps the same as those of the public packages, and who is right where they are not?

`python -m benchmarks.agreement` compares, `--write` puts the tables into docs/agreement.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks import input_methods, oracle, page, peers
from benchmarks.oracle import Array, Pair, normalised
from benchmarks.subjects import PICTURES, Subject, subjects
from seewhy import EigenCAM, Network
from seewhy.explainers.study import Feature
from seewhy.render.markdown import markdown_table

Array32 = NDArray[np.float32]
METHODS = ("grad-cam", "grad-cam++", "x-grad-cam", "hires-cam", "layer-cam", "eigen-cam")
TOLERANCE = 1e-4
ORACLES = {
    "grad-cam": oracle.grad_cam,
    "grad-cam++": oracle.grad_cam_plus_plus,
    "x-grad-cam": oracle.x_grad_cam,
    "hires-cam": oracle.hires_cam,
    "layer-cam": oracle.layer_cam,
    "eigen-cam": oracle.eigen_cam,
}


@dataclass(frozen=True)
class Compared:
    """Largest differences, over all pictures and pixels, of maps stretched to [0, 1].

    Attributes:
        apart: of ours and theirs.
        ours: of ours and the float64 oracle's.
        theirs: of theirs and the float64 oracle's.
        opposite: pictures whose map has the opposite sign, where the method leaves the sign open.
    """

    network: str
    layer: str
    method: str
    peer: str
    apart: float
    ours: float
    theirs: float
    opposite: int | None = None

    @property
    def agrees(self) -> bool:
        return self.apart <= TOLERANCE


def compared(subject: Subject, pair: Pair) -> Iterator[Compared]:
    """Every method against every peer that has it."""
    for method in METHODS:
        for peer in (peers.GRAD_CAM, peers.TORCHCAM, peers.CAPTUM):
            if peers.has(peer, method):
                yield compare(subject, pair, method, peer)


def compare(subject: Subject, pair: Pair, method: str, peer: str) -> Compared:
    """One method against one peer and the oracle."""
    size, raw = subject.size, subject.ours(method)
    expected, theirs = ORACLES[method](pair), subject.theirs(method, peer)
    exact = normalised(expected, size)
    opposite = None
    if method == "eigen-cam":
        # A singular vector has no sign: each is compared under the sign in which it fits best.
        turned = _apart(normalised(-raw, size), theirs) < _apart(normalised(raw, size), theirs)
        opposite = int(turned.sum())
        raw = np.where(turned[:, None, None], -raw, raw)
        signs = np.sign((raw * expected).sum((1, 2), keepdims=True))
        exact = normalised(signs * expected, size)
    ours = normalised(raw, size)
    return Compared(
        subject.title,
        subject.layer,
        method,
        peer,
        float(_apart(ours, theirs).max()),
        float(_apart(ours, exact).max()),
        float(_apart(theirs, exact).max()),
        opposite,
    )


def _apart(a: Array, b: Array) -> Array:
    """The largest difference per picture."""
    return np.asarray(np.abs(a - b).max((1, 2)))


class Rescaled(nn.Module):
    """MobileNetV2 whose layer's activations are multiplied by a power of two, and divided by it right after.

    It computes the very same scores, and XGrad-CAM's equation gives the very same map.
    """

    def __init__(self, module: nn.Module, exponent: int) -> None:
        super().__init__()
        self.module, self.layer, self.factor = module, nn.Identity(), 2.0**exponent

    def forward(self, images: Tensor) -> Tensor:
        features: nn.Module = self.module.get_submodule("features")
        activation = self.layer(features(images) * self.factor) / self.factor
        scores: Tensor = self.module.get_submodule("classifier")(activation.mean((2, 3)))
        return scores


def rescaled(subject: Subject, exponent: int) -> Subject:
    """The same network and pictures, with a layer whose activations are small or large."""
    module = Rescaled(subject.module, exponent).eval()
    title = f"{subject.title}, activations times 2^{exponent}"
    return Subject(title, Network(module), "layer", subject.images, subject.classes)


def before_in_place(subject: Subject) -> Subject:
    """MobileNetV2 at its last batch norm, whose output the ReLU6 after it overwrites."""
    return Subject(subject.title, subject.network, "features.18.1", subject.images, subject.classes)


def cubes(pair: Pair) -> Array:
    """What torchcam's Grad-CAM++ computes: each channel weighted by the sum of ReLU(g)^3, no alpha."""
    weights = (pair.gradient.clip(0) ** 3).sum((2, 3))
    return np.asarray(np.einsum("bk,bkhw->bhw", weights, pair.activation))


def sign_changes(pair: Pair) -> tuple[int, int]:
    """Pictures in which EigenCAM's sign changes when the maps are turned upside down: ours, theirs."""
    upright = pair.activation.astype(np.float32)
    turned = upright[:, :, ::-1].copy()

    def changes(project: Callable[[Array32], Array]) -> int:
        return int(((project(upright) * project(turned)[:, ::-1]).sum((1, 2)) < 0).sum())

    return changes(_projection), changes(peers.projection)


def _projection(activation: Array32) -> Array:
    feature = Feature(torch.from_numpy(activation), None)
    return np.asarray(EigenCAM(centre=True).formula(feature)[:, 0].double())


@dataclass(frozen=True)
class Report:
    """Everything that the page shows."""

    everywhere: list[Compared]
    in_place: list[Compared]
    small: list[Compared]
    from_cubes: float
    signs: list[tuple[str, int, int]]


def report() -> Report:
    """Compare everything."""
    everywhere: list[Compared] = []
    signs = []
    trained: Subject | None = None
    for subject in subjects():
        trained, pair = trained or subject, subject.pair()
        everywhere += compared(subject, pair)
        signs.append((subject.title, *sign_changes(pair)))
    assert trained is not None
    before = before_in_place(trained)
    pair = before.pair()
    in_place = [
        compare(before, pair, "grad-cam", peer) for peer in (peers.GRAD_CAM, peers.TORCHCAM, peers.CAPTUM)
    ]
    small = []
    for exponent in (0, -20, -30):
        subject = rescaled(trained, exponent)
        small += [
            compare(subject, subject.pair(), "x-grad-cam", peer) for peer in (peers.GRAD_CAM, peers.TORCHCAM)
        ]
    return Report(everywhere, in_place, small, apart_from_cubes(trained), signs)


def apart_from_cubes(subject: Subject) -> float:
    """How far torchcam's Grad-CAM++ is from the map without any alpha."""
    theirs = subject.theirs("grad-cam++", peers.TORCHCAM)
    return float(_apart(theirs, normalised(cubes(subject.pair()), subject.size)).max())


def _table(rows: Sequence[Compared]) -> str:
    head = [
        "network",
        "layer",
        "method",
        "peer",
        "ours - theirs",
        "ours - oracle",
        "theirs - oracle",
        "agrees",
    ]
    return markdown_table(
        head,
        [
            [row.network, f"`{row.layer}`", f"`{row.method}`", row.peer]
            + [f"{value:.1e}" for value in (row.apart, row.ours, row.theirs)]
            + ["yes" if row.agrees else "no"]
            for row in rows
        ],
    )


def text(found: Report) -> str:
    """The page."""
    opposite = sum(row.opposite or 0 for row in found.everywhere)
    asked = PICTURES * sum(row.opposite is not None for row in found.everywhere)
    signs = markdown_table(
        ["network", "pictures", "ours", peers.GRAD_CAM],
        [[title, str(PICTURES), str(ours), str(theirs)] for title, ours, theirs in found.signs],
    )
    return f"""# Agreement with the public packages

Every method is compared with the packages that have it: {", ".join(map(peers.titled, peers.ALL))}.
Same network, same layer, same {PICTURES} photographs, the predicted class of each. Maps are rectified,
upsampled to the input's size and stretched to [0, 1]; the figures are the largest difference over all
pictures and pixels. Agreement means at most {TOLERANCE:.0e}. The oracle is a third
computation: the paper's equation in float64 on a float64 copy of the network, by plain autograd and numpy
(`benchmarks/oracle.py`). It says who is right where two packages differ.

{page.provenance("python -m benchmarks.agreement --write", ["torch", "numpy", "seewhy"])}

{_table(found.everywhere)}

EigenCAM is our `reference` preset, which centres the channels as {peers.GRAD_CAM} does. A singular vector has
no sign of its own, so each picture is compared under the sign that fits. In {opposite} of {asked} pictures
theirs is the opposite of ours.

## Where the packages differ, and why

**Grad-CAM++, torchcam.** The division that makes alpha is done on a copy and lost, so a channel is weighted
by the sum of ReLU(g)³. On MobileNetV2 a map computed that way is within {found.from_cubes:.1e} of theirs.
Ours is the paper's equation.

**Grad-CAM++, {peers.GRAD_CAM}.** 1e-6 is added to the denominator 2 g² + g³ S. At a layer that is pooled
over many positions gradients are around 1e-3 and smaller; g² is then no larger than that constant, and alpha
shrinks with g² instead of tending to one half. We divide by g² first, and need no constant.

**XGrad-CAM.** Both packages add a constant (1e-7, 1e-8) to the sum of a channel's activations. It matters
where activations are small. Below, the layer's activations are multiplied by a power of two and divided by it
right after, which changes neither the scores nor the map of the equation.

{_table(found.small)}

**A layer whose output is overwritten.** The output of MobileNetV2's last batch norm is overwritten by the
in-place ReLU6 after it. captum keeps a copy, as we do. {peers.GRAD_CAM} multiplies the gradient before the
ReLU6 by the activation after it; torchcam takes both after it, which is another layer's map.

{_table(found.in_place)}

**EigenCAM's sign.** {peers.GRAD_CAM} takes the sign that the decomposition happens to return. Ours follows a
rule: the map agrees with the sum of the channels. The same feature maps turned upside down should give the
same map upside down; the table counts the pictures in which the sign changed instead.

{signs}

**Normalisation.** {peers.GRAD_CAM} always stretches each map to [0, 1] on the layer's grid, so a map that is
positive everywhere loses its lowest value, and several layers are averaged after each was stretched. Our
values are the equation's own; `heatmaps("minmax")` gives the stretched map that is compared here.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/agreement.md")
    made = f"{text(report())}\n{input_methods.report()}"
    if parser.parse_args().write:
        page.write(page.DOCS / "agreement.md", made)
    else:
        print(made)


if __name__ == "__main__":
    main()
