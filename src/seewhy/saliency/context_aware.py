"""Context-aware saliency: patches that are unlike the others, and what lies near them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from seewhy.network.precision import in_chunks
from seewhy.saliency.channels import Mode, Part, channels, resized, times
from seewhy.saliency.distance import distance_to
from seewhy.saliency.nearest import at_once, mean_of_nearest
from seewhy.saliency.patches import around_pixels, sampled
from seewhy.settings import Settings

_LEVELS = (1, 0.5, 0.25)  # of the pyramid at every scale, in shares of it
_LEAST = 0.2  # of the picture: smaller levels are left out
_FLAT = 1e-6  # range of a map below which it is rounding
_FULL = 0.7  # what half of the patches of a saturated map exceed, before it is stretched

_CONSTANT = "constant: nothing stands out"
_SATURATED = (
    "saturated: most patches are unlike all others, so little stands out; distance='rms' tells them apart"
)


@dataclass(frozen=True, eq=False)
class Saliency:
    """Saliency maps.

    Attributes:
        values: (B, H, W) in [0, 1], float32, at the size of the pictures and on their device.
        notes: per picture, what to know before trusting its map.
    """

    values: Float[Tensor, "B H W"]
    notes: tuple[tuple[str, ...], ...]


class ContextAwareSaliency(Settings):
    """Context-aware saliency (Goferman et al., CVPR 2010; PAMI 2012) of pictures or of maps.

    A patch is salient where even the K patches most like it, near ones counting more, are unlike it. What lies near
    the most salient places keeps its saliency; elsewhere it fades with the distance. The centre prior and the faces
    of the later paper are left out.

    It is blind to sign (a single channel and its negative have the same map) and to the inside of even areas; it
    knows what is rare in a map, not what is relevant.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "reference": {"mode": "quantised"},
        "relevance": {"mode": "relevance"},
        "cas-smiler": {"patch": (7, 5, 3, 3), "stride": (3, 2, 1, 1), "variant": "cas-smiler"},
    }

    name: Literal["context-aware-saliency"] = "context-aware-saliency"
    mode: Mode = Field(
        default="picture",
        description="What is given. `picture`: sRGB in [0, 1], compared in L*a*b*, or one channel as it is. "
        "`relevance`: maps, whose channels are summed to one. `quantised`: maps, whose magnitude becomes an 8-bit RGB "
        "picture.",
    )
    part: Part = Field(default="positive", description="What is taken of relevance.")
    jpeg: int | None = Field(
        default=None, ge=1, le=95, description="Quality of a JPEG that a `quantised` map goes through."
    )
    distance: Literal["euclidean", "rms"] | None = Field(
        default=None,
        description="Between patches: Euclidean, which saturates where patches are large, or divided by the root of "
        "their number of values. By default `rms` for relevance and Euclidean elsewhere, as in the paper.",
    )
    longest_side: int | None = Field(
        default=250,
        ge=16,
        description="Pixels that pictures are resized to first; None leaves them as they are.",
    )
    scales: tuple[float, ...] = Field(
        default=(1, 0.8, 0.5, 0.3), min_length=1, description="Sizes at which saliency is computed."
    )
    patch: tuple[int, ...] = Field(
        default=(7,), description="Sides of patches in pixels: one, or one per scale."
    )
    stride: tuple[int, ...] = Field(
        default=(3,),
        description="Pixels between patches that others are compared with: one, or one per scale.",
    )
    query_stride: int = Field(
        default=1,
        ge=1,
        le=4,
        description="Pixels between patches whose saliency is computed; bilinear between.",
    )
    nearest: int = Field(default=64, ge=1, description="K, the patches most alike that are compared with.")
    position: float = Field(
        default=3, ge=0, description="c, by how much distant patches count as more alike."
    )
    foci: float = Field(default=0.8, ge=0, lt=1, description="Saliency beyond which a place draws attention.")
    variant: Literal["paper", "cas-smiler"] = Field(
        default="paper",
        description="`cas-smiler` as in that MATLAB code: distances times 49 over the pixels of a patch, no saliency "
        "where a patch would leave the picture, scales not stretched, foci of their mean, once.",
    )

    @model_validator(mode="after")
    def _fits(self) -> ContextAwareSaliency:
        if any(len(each) not in (1, len(self.scales)) for each in (self.patch, self.stride)):
            raise ValueError("patch and stride are one number, or as many as there are scales")
        if any(side < 1 or side % 2 == 0 for side in self.patch):
            raise ValueError("patches have a centre: their sides are odd")
        if min(self.stride) < 1 or not all(0.05 <= scale <= 1 for scale in self.scales):
            raise ValueError("strides are 1 or more, scales between 0.05 and 1")
        return self

    def __call__(self, given: Float[Tensor, "B C H W"] | Float[Tensor, "B H W"]) -> Saliency:
        """Saliency maps of pictures or maps.

        Args:
            given: (B, 3, H, W) or (B, 1, H, W); maps also (B, C, H, W), or (B, H, W).

        Returns:
            Maps at the size given; where a picture is constant, zero, and a note says so.

        Raises:
            InputError: other shapes, values outside [0, 1] where a picture is asked for, NaN, or fewer pixels than a
                patch has.
        """
        with torch.no_grad():
            pictures = given[:, None] if given.ndim == 3 else given
            full = channels(pictures, self.mode, self.part, self.jpeg, self.longest_side)
            constant = (full.amax((2, 3)) - full.amin((2, 3)) <= _FLAT).all(1)
            raw = [self._raw(full, scale) for scale in range(len(self.scales))]
            saturated = raw[0].flatten(1).median(1).values > _FULL
            values = self._attended([_enlarged(each, full) for each in raw])
            values = torch.where(constant[:, None, None], 0, values)
            values = resized(values[:, None], pictures.shape[2:])[:, 0].clamp_(0, 1).float()
        return Saliency(values, _notes(constant, saturated))

    def _raw(self, full: Float[Tensor, "B C H W"], scale: int) -> Float[Tensor, "B h w"]:
        """1 - exp(-mean distance) at one scale, before it is stretched; a few pictures at once."""
        size = self.scales[scale]
        patch, stride = (each[scale % len(each)] for each in (self.patch, self.stride))
        levels = [size * level for level in _LEVELS if size * level >= _LEAST - 1e-9] or [size]
        smiler = self.variant == "cas-smiler"
        factor = 49 / patch**2 if smiler else 1.0
        if self.distance == "rms" or (self.distance is None and self.mode == "relevance"):
            factor /= (full.shape[1] * patch**2) ** 0.5

        whole = full.shape[2:]
        shares = (whole[0] / max(whole), whole[1] / max(whole))

        def run(start: int, stop: int) -> Tensor:
            pictures = full[start:stop]
            queries = around_pixels(resized(pictures, times(whole, size)), shares, patch, self.query_stride)
            smaller = [resized(pictures, times(whole, level)) for level in levels]
            others = sampled(smaller, shares, patch, stride, centred=not smiler)
            mean = mean_of_nearest(queries, others, self.nearest, self.position)
            return 1 - torch.exp(-factor * mean)

        area = size**2 * whole[0] * whole[1]
        group = int(at_once(full.device) / (area / self.query_stride**2) / (area / stride**2))
        found = torch.cat(in_chunks(run, len(full), max(1, group)))
        found = _between(found, times(whole, size), self.query_stride)
        return _framed(found, patch // 2) if smiler else found

    def _attended(self, scales: list[Float[Tensor, "B H W"]]) -> Float[Tensor, "B H W"]:
        """The scales together, fading with the distance to the foci of attention."""
        if self.variant == "cas-smiler":
            mean = torch.stack(scales).mean(0)
            far = distance_to(mean > self.foci * mean.amax((1, 2), keepdim=True))
            return mean * (1 - far / far.amax((1, 2), keepdim=True).clamp_min(1))
        return torch.stack([each * attention(each, self.foci) for each in map(_stretched, scales)]).mean(0)


def attention(saliency: Float[Tensor, "B H W"], foci: float) -> Float[Tensor, "B H W"]:
    """What saliency is multiplied with: 1 where it exceeds `foci`, falling to 0 a longest side away."""
    far = distance_to(saliency > foci) / max(saliency.shape[1:])
    return 1 - far.clamp_max(1)


def _enlarged(values: Float[Tensor, "B h w"], full: Float[Tensor, "B C H W"]) -> Float[Tensor, "B H W"]:
    return resized(values[:, None], full.shape[2:])[:, 0]


def _between(values: Float[Tensor, "B h w"], size: tuple[int, int], stride: int) -> Float[Tensor, "B H W"]:
    """Every pixel from those at every `stride`th: bilinear, and what lies beyond the last is like the last."""
    if stride == 1:
        return values
    reached = [stride * (side - 1) + 1 for side in values.shape[1:]]
    found = F.interpolate(values[:, None], reached, mode="bilinear", align_corners=True)
    beyond = [0, size[1] - reached[1], 0, size[0] - reached[0]]
    return F.pad(found, beyond, mode="replicate")[:, 0]


def _framed(values: Float[Tensor, "B h w"], width: int) -> Float[Tensor, "B h w"]:
    """Zero in a frame of this width."""
    return F.pad(F.pad(values, [-width] * 4), [width] * 4)


def _stretched(values: Float[Tensor, "B H W"]) -> Float[Tensor, "B H W"]:
    low, high = values.amin((1, 2), keepdim=True), values.amax((1, 2), keepdim=True)
    return torch.where(high - low > _FLAT, (values - low) / (high - low), 0)


def _notes(constant: Tensor, saturated: Tensor) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (_CONSTANT,) if is_constant else (_SATURATED,) if is_saturated else ()
        for is_constant, is_saturated in zip(constant.tolist(), saturated.tolist(), strict=True)
    )
