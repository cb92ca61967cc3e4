"""What stands where a picture is covered, and where the way to it begins."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from torch import Tensor

from seewhy.artifact import Artifact
from seewhy.errors import InputError
from seewhy.explainers.draws import Seed, generator, normal, picture_keys
from seewhy.network.network import Network

Baseline = Literal["zero", "black", "mean", "blur"] | Artifact
_KINDS = (
    "`zero` in the network's input (the mean colour of the preprocessing), `black` pixels (for networks with a "
    "preprocess), the picture's own `mean` colour, the picture in a `blur`, "
)
CHOICES = f"{_KINDS}or the path of a picture"
BEGINNINGS = f"{_KINDS}`noise` (the mean over several draws), or the path of a picture"


class Noise(BaseModel):
    """Noise with the mean and the spread of each of a picture's channels; what it begins is averaged over draws."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    draws: int = Field(default=8, ge=1, le=256, description="Pictures of noise to average over.")
    seed: Seed = Field(default=0, description="Of the noise.")


def _as_noise(given: Any) -> Any:
    return Noise() if given == "noise" else given


Beginning = Annotated[Literal["zero", "black", "mean", "blur"] | Noise | Artifact, BeforeValidator(_as_noise)]
"""A baseline that a way to the picture begins at; there may be several ways."""

_SIGMA = 10.0  # of the blur, in pixels of a 224-pixel side


def baseline(
    network: Network, pictures: Float[Tensor, "B C H W"], kind: Baseline
) -> Float[Tensor, "B C H W"]:
    """The baseline of every picture.

    Raises:
        InputError: a file that is no picture, or gives another size than the pictures have; black pixels, but no
            preprocess that says what they become.
    """
    if isinstance(kind, Artifact):
        return _read(network, kind, pictures).expand_as(pictures)
    if kind == "zero":
        return torch.zeros_like(pictures)
    if kind == "black":
        return _black(network, pictures).expand_as(pictures)
    if kind == "mean":
        return pictures.mean((-2, -1), keepdim=True).expand_as(pictures)
    return blurred(pictures, _SIGMA * max(pictures.shape[-2:]) / 224)


def baselines(
    network: Network, pictures: Float[Tensor, "B C H W"], kind: Beginning
) -> Float[Tensor, "B N C H W"]:
    """The baselines of every picture: N draws of noise, or one of any other kind.

    Raises:
        InputError: see `baseline`.
    """
    if not isinstance(kind, Noise):
        return baseline(network, pictures, kind)[:, None]
    spread, mean = torch.std_mean(pictures, (-2, -1), correction=0, keepdim=True)
    shape = pictures.shape[1:]
    drawn = torch.stack(
        [
            torch.stack([normal(generator(key, kind.seed, n), *shape) for n in range(kind.draws)])
            for key in picture_keys(pictures)
        ]
    )
    return mean[:, None] + spread[:, None] * drawn.to(pictures)


def _black(network: Network, pictures: Tensor) -> Float[Tensor, "1 C 1 1"]:
    """What black pixels become in the network's input."""
    preprocess = network.preprocess
    if preprocess is None or preprocess.channels != pictures.shape[1]:
        why = "came without a preprocess" if preprocess is None else "takes pictures with other channels"
        raise InputError(
            f"{network.name} {why}, so it is not known what black pixels become in its input; "
            "pass Network(module, preprocess=Preprocess(...)), or take the baseline `zero`"
        )
    mean, std = (torch.tensor(each, dtype=torch.float64) for each in (preprocess.mean, preprocess.std))
    return (-mean / std)[None, :, None, None].to(pictures)


def _read(network: Network, file: Artifact, pictures: Tensor) -> Float[Tensor, "1 C H W"]:
    """The picture of a file, preprocessed as the network's pictures are."""
    read = network.read([file.read()])
    if read.failed:
        raise InputError(f"the baseline {file.path} is not a picture: {read.failed[0].reason}")
    if read.pixels.shape[1:] != pictures.shape[1:]:
        wanted, found = (" x ".join(map(str, each.shape[1:])) for each in (pictures, read.pixels))
        raise InputError(
            f"the baseline {file.path} becomes {found} through the preprocess of {network.name}, but the pictures are "
            f"{wanted}; read them by Network.read, or give the network a preprocess to their size"
        )
    return read.pixels.to(pictures)


def blurred(
    pictures: Float[Tensor, "B C H W"],
    sigma: float,
    reach: int | None = None,
    border: Literal["replicate", "reflect"] = "replicate",
) -> Float[Tensor, "B C H W"]:
    """Gaussian blur of so many pixels; separable.

    Args:
        pictures: to be blurred.
        sigma: in pixels.
        reach: pixels to either side after which the kernel is cut, three sigma by default; never as many as the
            picture has.
        border: what is thought to lie outside, the border repeated or the picture mirrored.
    """
    cut = math.ceil(3 * sigma) if reach is None else reach
    for axis in (-2, -1):
        reach = min(cut, pictures.shape[axis] - 1)
        places = torch.arange(-reach, reach + 1, dtype=pictures.dtype, device=pictures.device)
        kernel = torch.exp(-(places**2) / (2 * sigma**2))
        kernel = kernel / kernel.sum()
        upright = axis == -2
        padding = [0, 0, reach, reach] if upright else [reach, reach, 0, 0]
        padded = torch.nn.functional.pad(pictures, padding, mode=border)
        pictures = convolved(padded, kernel, upright)
    return pictures


def convolved(
    padded: Float[Tensor, "B C H W"], kernel: Float[Tensor, " k"], upright: bool
) -> Float[Tensor, "B C h w"]:
    """Every channel convolved with a kernel along its height (`upright`) or its width; nothing is added around it."""
    weight = kernel.view((-1, 1) if upright else (1, -1)).expand(padded.shape[1], 1, -1, -1)
    return torch.nn.functional.conv2d(padded, weight, groups=padded.shape[1])
