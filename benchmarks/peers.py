"""The public packages that are compared with, called as their own pages say."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.oracle import Array
from seewhy.network.load import import_torchvision

GRAD_CAM, CAPTUM, TORCHCAM = "pytorch-grad-cam", "captum", "torchcam"
ALL = (GRAD_CAM, CAPTUM, TORCHCAM)
CAPTUM_EPSILON = 1e-9  # of its LRP
_DISTRIBUTIONS = {GRAD_CAM: "grad-cam", CAPTUM: "captum", TORCHCAM: "torchcam"}

_PYTORCH_GRAD_CAM = {
    "grad-cam": "GradCAM",
    "grad-cam++": "GradCAMPlusPlus",
    "x-grad-cam": "XGradCAM",
    "hires-cam": "HiResCAM",
    "layer-cam": "LayerCAM",
    "eigen-cam": "EigenCAM",
    "ablation-cam": "AblationCAM",
    "score-cam": "ScoreCAM",
}
_TORCHCAM = {
    "grad-cam": "GradCAM",
    "grad-cam++": "GradCAMpp",
    "x-grad-cam": "XGradCAM",
    "layer-cam": "LayerCAM",
    "score-cam": "ScoreCAM",
}


def has(peer: str, method: str) -> bool:
    """Whether the package has the method, under whatever name."""
    names = {GRAD_CAM: _PYTORCH_GRAD_CAM, TORCHCAM: _TORCHCAM, CAPTUM: {"grad-cam": "LayerGradCam"}}
    return method in names[peer]


def titled(peer: str) -> str:
    """The peer's name and installed version."""
    return f"{peer} {version(_DISTRIBUTIONS[peer])}"


@contextmanager
def _importing() -> Iterator[None]:
    """Their imports, without the deprecations that these run into."""
    import_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", UserWarning)
        yield


class PytorchGradCam:
    """One of pytorch-grad-cam's methods at one layer: maps (B, H, W), rectified and stretched to [0, 1]."""

    def __init__(self, method: str, module: nn.Module, layer: str) -> None:
        with _importing():
            import pytorch_grad_cam
            from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
        kind = getattr(pytorch_grad_cam, _PYTORCH_GRAD_CAM[method])
        self._cam: Any = kind(model=module, target_layers=[module.get_submodule(layer)])
        self._cam.batch_size = 16  # of the masked forwards, where there are any
        self._target = ClassifierOutputTarget

    def __call__(self, images: Tensor, classes: Sequence[int]) -> Array:
        targets = [self._target(each) for each in classes]
        return np.asarray(self._cam(input_tensor=images, targets=targets), dtype=np.float64)


def alone(method: str, module: nn.Module, layer: str, images: Tensor, classes: Sequence[int]) -> Array:
    """pytorch-grad-cam's maps (B, H, W), picture by picture: its Ablation-CAM of a batch depends on the batch."""
    cam = PytorchGradCam(method, _without_in_place(module), layer)
    return np.concatenate([cam(image[None], [index]) for image, index in zip(images, classes, strict=True)])


def projection(activation: NDArray[np.float32]) -> Array:
    """pytorch-grad-cam's first principal component of feature maps (B, K, h, w)."""
    with _importing():
        from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection
    return np.asarray(get_2d_projection(activation), dtype=np.float64)


class Captum:
    """captum's LayerGradCam: signed maps (B, h, w)."""

    def __init__(self, module: nn.Module, layer: str) -> None:
        with _importing():
            from captum.attr import LayerGradCam
        self._method: Any = LayerGradCam(module, module.get_submodule(layer))

    def __call__(self, images: Tensor, classes: Sequence[int]) -> Array:
        found: Tensor = self._method.attribute(images, target=torch.tensor(list(classes)))
        return np.asarray(found.detach()[:, 0].double())


def captum_pixels(
    kind: str, module: nn.Module, images: Tensor, classes: Sequence[int], **options: Any
) -> Array:
    """One of captum's methods at the pixels: signed maps (B, C, H, W)."""
    with _importing():
        from captum import attr

        found = getattr(attr, kind)(_without_in_place(module)).attribute(
            images.clone(), target=list(classes), **options
        )
    return np.asarray(found.detach().double())


@contextmanager
def captum_relevance(module: nn.Module) -> Iterator[Callable[[Tensor, int], Tensor]]:
    """captum's LRP, by its epsilon rule everywhere: maps (B, C, H, W)."""
    with _importing():
        from captum.attr import LRP

        method: Any = LRP(_without_in_place(module))
        yield lambda images, target: method.attribute(images.clone(), target=target).detach()


def _without_in_place(module: nn.Module) -> nn.Module:
    """A copy whose activations overwrite nothing, as the hooks of these packages need."""
    copied = copy.deepcopy(module)
    for each in copied.modules():
        if isinstance(each, nn.ReLU | nn.ReLU6):
            each.inplace = False
    return copied


def has_relu6(module: nn.Module) -> bool:
    """Whether there are rectifiers that captum does not know."""
    return any(isinstance(each, nn.ReLU6) for each in module.modules())


class Torchcam:
    """One of torchcam's methods at one layer: rectified maps (B, h, w)."""

    def __init__(self, method: str, module: nn.Module, layer: str) -> None:
        with _importing():
            from torchcam import methods
        self._module = module
        self._cam: Any = getattr(methods, _TORCHCAM[method])(module, layer)

    def __call__(self, images: Tensor, classes: Sequence[int]) -> Array:
        scores = self._module(images)
        (maps,) = self._cam(class_idx=list(classes), scores=scores, normalized=False)
        return np.asarray(maps.detach().double())

    def close(self) -> None:
        """Take its hooks off the network."""
        self._cam.remove_hooks()
