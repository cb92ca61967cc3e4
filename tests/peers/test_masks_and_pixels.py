"""The methods of masks and of pixels beside captum and pytorch-grad-cam, on the bundled network and on SqueezeNet."""

from __future__ import annotations

import copy
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import seewhy
from seewhy.explanation import upsample
from seewhy.network.load import import_torchvision

for package in ("captum", "pytorch_grad_cam"):
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed; `make test-slow` installs it", allow_module_level=True)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # what the packages themselves warn of
]
TOLERANCE = 1e-4  # of maps divided by their largest magnitude
DATA = Path(os.environ.get("SEEWHY_DATA", "../shared/data"))


@pytest.fixture(scope="module", params=["demo", "squeezenet"])
def subject(request) -> tuple[nn.Module, Tensor, list[int]]:
    """A network, two pictures of 128 pixels, and their predicted classes."""
    if request.param == "demo":
        network = seewhy.load("demo")
        images = network.read([scene.image for scene in seewhy.Scenes(2, seed=71)]).pixels
    else:
        weights = next(iter(sorted(DATA.rglob("*squeezenet*.safetensors"))), None)
        if weights is None:
            pytest.skip(f"no SqueezeNet weights in {DATA}; set SEEWHY_DATA")
        network = seewhy.load("torchvision:squeezenet1_0", weights=weights, offline=True)
        photos = sorted((DATA / "photos").glob("*.JPEG"))[:2]
        images = F.interpolate(network.read(photos).pixels, 128, mode="bilinear")
    return network.module, images, network(images).argmax(1).tolist()


def plain(module: nn.Module) -> nn.Module:
    """A copy whose ReLUs write to nothing, as captum's hooks need."""
    copied = copy.deepcopy(module)
    for each in copied.modules():
        if isinstance(each, nn.ReLU):
            each.inplace = False
    return copied


def agree(ours: Tensor, theirs: Tensor, tolerance: float = TOLERANCE) -> None:
    if not theirs.any():  # deconvolution lets nothing through in SqueezeNet, here as there
        assert not ours.any()
        return
    scaled = [each.detach().flatten(1) / each.detach().abs().amax() for each in (ours, theirs)]
    assert float((scaled[0] - scaled[1]).abs().max()) <= tolerance


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        (seewhy.Gradient(), "Saliency", {"abs": False}),
        (seewhy.InputXGradient(), "InputXGradient", {}),
        (seewhy.GuidedBackprop(), "GuidedBackprop", {}),
        (seewhy.Deconvolution(), "Deconvolution", {}),
        (
            seewhy.IntegratedGradients(steps=8),
            "IntegratedGradients",
            {"n_steps": 8, "method": "riemann_middle"},
        ),
        (seewhy.IntegratedGradients(steps=8, rule="gauss-legendre"), "IntegratedGradients", {"n_steps": 8}),
    ],
    ids=lambda each: each if isinstance(each, str) else None,
)
def test_pixel_methods_agree_with_captum(subject, ours, theirs, options):
    from captum import attr

    module, images, classes = subject
    found = ours(module, images, classes).values[:, 0]
    other = getattr(attr, theirs)(plain(module)).attribute(images.clone(), target=classes, **options)
    agree(found, other)


def test_occlusion_agrees_with_captum_where_windows_end_at_the_border(subject):
    from captum import attr

    module, images, classes = subject
    found = seewhy.Occlusion(window=32, stride=16, precision="float32")(module, images, classes).values[:, 0]
    other = attr.Occlusion(module).attribute(
        images, sliding_window_shapes=(3, 32, 32), strides=(3, 16, 16), target=classes
    )
    agree(found, other[:, 0])


def layer_of(module: nn.Module) -> str:
    return "stage2" if hasattr(module, "stage2") else "features.12"


def theirs_of(kind: str, module: nn.Module, images: Tensor, classes: list[int]) -> Tensor:
    import_torchvision()
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    copied = plain(module)
    cam = getattr(pytorch_grad_cam, kind)(
        model=copied, target_layers=[copied.get_submodule(layer_of(module))]
    )
    cam.batch_size = 16
    rows = [
        cam(input_tensor=images[row : row + 1], targets=[ClassifierOutputTarget(each)])
        for row, each in enumerate(classes)
    ]
    return torch.from_numpy(np.concatenate(rows)).float()


def drawn(values: Tensor, size: tuple[int, int]) -> Tensor:
    """As pytorch-grad-cam draws a map: rectified, enlarged, stretched to [0, 1]."""
    full = upsample(values.clamp_min(0), size)[:, 0]
    full = full - full.amin((-2, -1), keepdim=True)
    return full / full.amax((-2, -1), keepdim=True)


def test_ablation_cam_agrees_with_pytorch_grad_cam(subject):
    module, images, classes = subject
    ours = seewhy.AblationCAM(layer=layer_of(module))(module, images, classes).values
    agree(drawn(ours, (128, 128)), theirs_of("AblationCAM", module, images, classes))


def test_score_cam_agrees_with_pytorch_grad_cam_but_for_how_that_enlarges_its_masks(subject):
    """It enlarges masks with corners aligned and maps without; the equation is the same once ours do so too."""
    module, images, classes = subject
    theirs = theirs_of("ScoreCAM", module, images, classes)
    layer = layer_of(module)
    ours = seewhy.ScoreCAM(layer=layer, precision="float32")(module, images, classes).values
    kept: list[Tensor] = []
    handle = module.get_submodule(layer).register_forward_hook(
        lambda _m, _i, output: kept.append(output.clone())
    )
    with torch.no_grad():
        module.eval()(images)
        handle.remove()
        maps = []
        for image, activation, target in zip(images, kept[0], classes, strict=True):
            full = F.interpolate(activation[:, None], (128, 128), mode="bilinear", align_corners=True)[:, 0]
            low, high = full.amin((-2, -1), keepdim=True), full.amax((-2, -1), keepdim=True)
            masks = ((full - low) / (high - low + 1e-8))[:, None]
            scores = torch.cat([module(image * part)[:, target] for part in masks.split(16)])
            maps.append(torch.einsum("k,khw->hw", scores.softmax(0), activation))
    aligned = torch.stack(maps)[:, None]
    agree(drawn(aligned, (128, 128)), theirs)
    apart = (drawn(ours, (128, 128)) - theirs).abs().max()
    assert float(apart) < 0.5  # another enlargement of the masks, not another method
