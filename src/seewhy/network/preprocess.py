"""From a picture to the network's input, and from the input's grid back to the picture's pixels."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from pydantic import BaseModel, Field, ValidationError, model_validator
from torch import Tensor

from seewhy.errors import InputError

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]

_RESAMPLE_CODES: dict[int, Interpolation] = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
    4: "box",
    5: "hamming",
}
_CARD_KEYS = ("mean", "std", "input_size", "crop_pct", "interpolation")
# The image processors of transformers whose steps are resize, crop, rescale and normalise, in that order.
_PROCESSORS = (
    *("Beit", "Bit", "CLIP", "ConvNext", "DeiT", "EfficientNet", "Levit", "MobileNetV1", "MobileNetV2"),
    *("MobileViT", "PoolFormer", "Pvt", "Segformer", "Siglip", "ViT"),
)
_MOST_RESIZED_PIXELS = 200_000_000

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Frame:
    """Where a network's input lies in the picture it was made from.

    Args:
        original: (H0, W0), the picture's own pixels.
        resized: (H1, W1), the whole picture after the resize.
        crop: (top, left, H, W), what the network saw, in resized pixels; where it reaches beyond the
            resized picture (a negative top or left, too) the network saw padding.
    """

    original: tuple[int, int]
    resized: tuple[int, int]
    crop: tuple[int, int, int, int]

    def to_original(self, maps: Float[Tensor, "*N h w"]) -> Float[Tensor, "*N H0 W0"]:
        """Bring maps on any grid that covers the network's input to the original's pixels.

        Bilinear between the centres of the cells (`align_corners=False`), constant beyond the outermost
        centres, zero where the network saw nothing. Half precision comes back as float32.
        """
        if maps.dtype not in (torch.float32, torch.float64):
            maps = maps.float()
        rows = self._weights(0, maps.shape[-2]).to(maps)
        columns = self._weights(1, maps.shape[-1]).to(maps)
        return rows @ maps @ columns.T

    def visible(self, device: torch.device | str = "cpu") -> Bool[Tensor, "H0 W0"]:
        """The mask of the original's pixels whose centres the network saw."""
        rows, columns = (self._seen(axis) for axis in (0, 1))
        return (rows[:, None] & columns[None, :]).to(device)

    @property
    def window(self) -> tuple[slice, slice]:
        """The rows and columns of the original's pixels whose centres the network saw; none where it saw nothing."""
        seen = (self._seen(axis).nonzero()[:, 0].tolist() or [0, -1] for axis in (0, 1))
        rows, columns = (slice(each[0], each[-1] + 1) for each in seen)
        return rows, columns

    def box_to_original(
        self, x0: float | int, y0: float | int, x1: float | int, y1: float | int
    ) -> tuple[float, float, float, float]:
        """Bring a box from pixels of the input to pixels of the original, clipped to the picture."""
        top, left, _, _ = self.crop
        (height, width), (tall, wide) = self.original, self.resized
        xs = [min(max((x + left) * width / wide, 0.0), float(width)) for x in (x0, x1)]
        ys = [min(max((y + top) * height / tall, 0.0), float(height)) for y in (y0, y1)]
        return xs[0], ys[0], xs[1], ys[1]

    def _positions(self, axis: int) -> Tensor:
        """The centres of the original's pixels along one axis, in pixels of the network's input."""
        centres = torch.arange(self.original[axis], dtype=torch.float64) + 0.5
        return centres * self.resized[axis] / self.original[axis] - self.crop[axis]

    def _seen(self, axis: int) -> Tensor:
        positions = self._positions(axis)
        return (positions >= 0) & (positions < self.crop[2 + axis])

    def _weights(self, axis: int, cells: int) -> Tensor:
        """The (original, cells) matrix that interpolates along one axis."""
        positions = self._positions(axis) * cells / self.crop[2 + axis] - 0.5
        positions = positions.clamp(0, cells - 1)
        lower = positions.floor().long().clamp(max=max(cells - 2, 0))
        upper = (lower + 1).clamp(max=cells - 1)
        share = positions - lower
        weights = torch.zeros(len(positions), cells, dtype=torch.float64)
        weights.scatter_add_(1, lower[:, None], (1 - share)[:, None])
        weights.scatter_add_(1, upper[:, None], share[:, None])
        return weights * self._seen(axis)[:, None]


class Preprocess(BaseModel, frozen=True, extra="forbid"):
    """What happens to a picture before the network sees it: Pillow resize, centre crop, scale, normalise.

    The input is `(pixels * scale - mean) / std`. One mean is a greyscale network, three are RGB.

    Example:
        >>> preprocess = Preprocess(resize=256, crop=(224, 224), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        >>> preprocess(Image.new("RGB", (640, 480))).shape
        torch.Size([3, 224, 224])
    """

    resize: int | tuple[int, int] | None = Field(
        default=None, description="pixels of the shorter side, or (H, W), or None to leave the size as it is"
    )
    fit: Literal["squash", "cover", "contain"] = Field(
        default="squash",
        description="how a resize to (H, W) treats the proportions: not kept, kept with the picture filling "
        "(H, W), kept with the picture within (H, W)",
    )
    crop: tuple[int, int] | None = Field(
        default=None, description="(H, W) cut from the centre, padded where the resized picture is smaller"
    )
    rounding: Literal["even", "down"] = Field(
        default="even",
        description="where a centre between two pixels goes: to the even one (torchvision, timm) or "
        "up and left (transformers)",
    )
    fill: tuple[int, ...] = Field(default=(0,), description="grey level of the padding, one or per channel")
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...] = Field(description="per channel, in units of the scaled pixels")
    std: tuple[float, ...] = Field(description="per channel, in units of the scaled pixels")
    scale: float = Field(default=1 / 255, gt=0, description="what grey levels 0 to 255 are multiplied by")
    bgr: bool = Field(default=False, description="give the channels as blue, green, red")

    @model_validator(mode="after")
    def _check(self) -> Preprocess:
        channels = len(self.mean)
        if channels not in (1, 3):
            raise ValueError(f"mean has {channels} values; 3 (RGB) or 1 (greyscale) are read from pictures")
        if len(self.std) != channels:
            raise ValueError(f"mean has {channels} values and std {len(self.std)}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, not {self.std}")
        if len(self.fill) not in (1, channels):
            raise ValueError(f"fill has {len(self.fill)} values for {channels} channels")
        sizes = [
            n for size in (self.resize, self.crop) for n in (size if isinstance(size, tuple) else [size])
        ]
        if any(n is not None and n < 1 for n in sizes):
            raise ValueError("resize and crop are sizes in pixels, from 1 up")
        if self.bgr and channels == 1:
            raise ValueError("bgr needs three channels")
        return self

    @property
    def channels(self) -> int:
        """3 for RGB, 1 for greyscale."""
        return len(self.mean)

    @property
    def input_size(self) -> tuple[int, int] | None:
        """(H, W) of every input, or None where it depends on the picture."""
        if self.crop is not None:
            return self.crop
        return self.resize if isinstance(self.resize, tuple) and self.fit == "squash" else None

    def frame(self, original_size: tuple[int, int]) -> Frame:
        """Where the input of a picture of (H0, W0) pixels lies in that picture.

        Raises:
            InputError: the picture is so narrow that the resize would make it enormous.
        """
        resized = self._resized(*original_size)
        if resized[0] * resized[1] > _MOST_RESIZED_PIXELS:
            raise InputError(
                f"a picture of {original_size[1]}x{original_size[0]} pixels would become "
                f"{resized[1]}x{resized[0]}; give it other proportions"
            )
        height, width = self.crop or resized
        top, left = (self._start(whole, part) for whole, part in zip(resized, (height, width), strict=True))
        return Frame(original=original_size, resized=resized, crop=(top, left, height, width))

    def __call__(self, picture: Image.Image) -> Float[Tensor, "C H W"]:
        """The network's input for one upright picture (as `seewhy.network.images.open_picture` gives it).

        Raises:
            InputError: see `frame`.
        """
        mode = "L" if self.channels == 1 else "RGB"
        if picture.mode != mode:
            picture = picture.convert(mode)
        frame = self.frame((picture.height, picture.width))
        if frame.resized != frame.original:
            resample = Image.Resampling[self.interpolation.upper()]
            picture = picture.resize(frame.resized[::-1], resample)
        top, left, height, width = frame.crop
        if (top, left, height, width) != (0, 0, *frame.resized):
            fill = self.fill if len(self.fill) == self.channels else self.fill * self.channels
            canvas = Image.new(mode, (width, height), fill if self.channels == 3 else fill[0])
            canvas.paste(picture, (-left, -top))
            picture = canvas
        pixels = torch.from_numpy(np.array(picture)).view(height, width, self.channels).permute(2, 0, 1)
        if self.bgr:
            pixels = pixels.flip(0)
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        return ((pixels.float() * self.scale - mean) / std).contiguous()

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if self.resize is None:
            return height, width
        if isinstance(self.resize, int):
            long = int(self.resize * max(height, width) / min(height, width))
            return (long, self.resize) if width <= height else (self.resize, long)
        if self.fit == "squash":
            return self.resize
        ratios = height / self.resize[0], width / self.resize[1]
        ratio = min(ratios) if self.fit == "cover" else max(ratios)
        return max(1, round(height / ratio)), max(1, round(width / ratio))

    def _start(self, whole: int, part: int) -> int:
        """Where a centred part begins; negative where it is larger than the whole."""
        if part > whole:
            return -((part - whole) // 2)
        return round((whole - part) / 2) if self.rounding == "even" else (whole - part) // 2

    @classmethod
    def of(cls, source: Preprocess | Mapping[str, Any] | str | Path) -> Preprocess:
        """Settings from whatever holds them: our own fields, a card, transformers' or timm's, or a JSON file.

        Raises:
            InputError: the file cannot be read, or the settings are not understood.
        """
        if isinstance(source, Preprocess):
            return source
        settings = _read_mapping(source)
        if "image_mean" in settings or "do_resize" in settings or "image_processor_type" in settings:
            return cls.from_huggingface(settings)
        if "input_size" in settings:
            return cls.from_card(settings)
        return _validated(cls, settings)

    @classmethod
    def from_card(cls, card: Mapping[str, Any] | str | Path) -> Preprocess:
        """From a card beside a weights file: mean, std, input_size [C, H, W], crop_pct, interpolation.

        The shorter side becomes input_size / crop_pct pixels; `crop_mode` may be given as in timm.

        Raises:
            InputError: the card cannot be read, or one of the five is missing.
        """
        settings = _read_mapping(card)
        missing = [key for key in _CARD_KEYS if key not in settings]
        if missing:
            raise InputError(f"the card has no {', '.join(missing)}; it needs {', '.join(_CARD_KEYS)}")
        return cls.from_timm(settings)

    @classmethod
    def from_timm(cls, config: Mapping[str, Any]) -> Preprocess:
        """From `timm.data.resolve_model_data_config(model)`; equal to timm's evaluation transform.

        Raises:
            InputError: a setting has no meaning here.
        """
        read = _validated(_Timm, {key: value for key, value in config.items() if value is not None})
        crop = read.input_size[1:]
        scaled = tuple(math.floor(n / read.crop_pct) for n in crop)
        settings: dict[str, Any] = {"resize": scaled, "crop": crop, "mean": read.mean, "std": read.std}
        if read.crop_mode == "border":
            settings |= {"fit": "contain", "fill": tuple(round(255 * v) for v in read.mean)}
        elif read.crop_mode == "center":
            settings |= {"resize": scaled[0]} if crop[0] == crop[1] else {"fit": "cover"}
        return _validated(cls, settings | {"interpolation": read.interpolation})

    @classmethod
    def from_torchvision(cls, preset: Any) -> Preprocess:
        """From a weights' `transforms()`, for classification or segmentation; equal to it on pictures.

        Raises:
            InputError: the preset is none of these.
        """
        needed = ("resize_size", "mean", "std", "interpolation", "antialias")  # the last: pictures, not clips
        if not all(hasattr(preset, key) for key in needed):
            raise InputError(
                f"{type(preset).__name__} is no picture preset; give `weights.transforms()` of a classifier"
            )
        resize, crop = preset.resize_size, getattr(preset, "crop_size", None)
        settings: dict[str, Any] = {
            "resize": None if resize is None else resize[0] if len(resize) == 1 else tuple(resize),
            "crop": None if crop is None else (crop[0], crop[-1]),
            "interpolation": str(preset.interpolation.value),
        }
        return _validated(cls, settings | {"mean": tuple(preset.mean), "std": tuple(preset.std)})

    @classmethod
    def from_huggingface(cls, settings: Mapping[str, Any]) -> Preprocess:
        """From an image processor's `to_dict()` or its preprocessor_config.json.

        Equal to the processors that work on Pillow pictures. Those that work on tensors resample with other
        arithmetic: measured on photographs, at most 1 grey level apart for bilinear and 2 for bicubic and
        lanczos (on noise enlarged along one side only, up to 25 and 42; nearest picks other pixels).
        Where a picture is padded by an odd number of pixels, the Pillow processors put it one pixel
        further down and right; here it lies as the tensor processors, transformers' default, put it.

        Raises:
            InputError: a processor, or a size, whose steps are others than resize, crop, rescale, normalise.
        """
        if "data_config" in settings or "pretrained_cfg" in settings:
            return cls.from_timm(settings.get("data_config") or settings["pretrained_cfg"])
        kind = str(settings.get("image_processor_type") or settings.get("feature_extractor_type") or "")
        for ending in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
            kind = kind.removesuffix(ending)
        if kind and kind not in _PROCESSORS:
            raise InputError(
                f"the image processor {kind!r} takes other steps than resize, crop, rescale and normalise; "
                "give preprocess= yourself"
            )
        if settings.get("do_pad"):
            raise InputError("do_pad makes inputs of different sizes; give preprocess= yourself")
        normalise = (
            settings.get("do_normalize", True) and kind != "MobileViT"
        )  # which never does, whatever it says
        mean, std = (
            tuple(settings.get(key, neutral)) if normalise and settings.get(key) is not None else neutral
            for key, neutral in (("image_mean", (0.0, 0.0, 0.0)), ("image_std", (1.0, 1.0, 1.0)))
        )
        if settings.get("rescale_offset"):
            mean = tuple(1 + value for value in mean)
        if normalise and settings.get("include_top", kind == "EfficientNet"):
            std = tuple(value * value for value in std)
        code = settings.get("resample", 2)
        built: dict[str, Any] = {
            "mean": mean,
            "std": std,
            "interpolation": _RESAMPLE_CODES.get(code, code),
            "scale": settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0,
            "bgr": bool(settings.get("do_flip_channel_order", False)),
            "rounding": "down",
        }
        return _validated(cls, built | _huggingface_sizes(settings, kind))


class _Timm(BaseModel, frozen=True):
    """What a configuration of timm, or a card, says of the evaluation transform."""

    input_size: tuple[int, int, int] = (3, 224, 224)
    crop_pct: float = Field(default=0.875, gt=0)
    crop_mode: Literal["center", "squash", "border"] = "center"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bicubic"


def _validated(kind: type[M], settings: Mapping[str, Any]) -> M:
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}".removeprefix(": ")
            for problem in error.errors()
        )
        raise InputError(f"preprocess settings cannot be used: {problems}") from error


def _huggingface_sizes(settings: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The resize and the crop of an image processor; older files give sizes as plain numbers."""
    sizes: dict[str, Any] = {}
    size, crop_pct = settings.get("size"), settings.get("crop_pct")
    if settings.get("do_resize", True) and size is not None:
        if isinstance(size, int):
            square = kind in ("", "Beit", "DeiT", "Pvt", "Segformer", "Siglip", "ViT")
            size = {"height": size, "width": size} if square else {"shortest_edge": size}
        elif isinstance(size, list | tuple):
            size = {"height": size[0], "width": size[1]}
        size = {key: int(value) for key, value in size.items() if value}
        short = size.get("shortest_edge")
        if kind == "ConvNext":
            short = short or size["height"]
            if short >= 384:
                return {"resize": (short, short)}
            return {"resize": int(short / (crop_pct or 224 / 256)), "crop": (short, short)}
        if set(size) == {"shortest_edge"}:
            factor = 256 / 224 if kind == "Levit" else 1.0
            sizes["resize"] = int(size["shortest_edge"] * factor / (crop_pct or 1.0))
        elif set(size) == {"height", "width"} and not crop_pct:
            sizes["resize"] = size["height"], size["width"]
        else:
            raise InputError(f"size {size} is neither shortest_edge nor height and width")
    crop = settings.get("crop_size")
    if settings.get("do_center_crop", False) and crop is not None:
        sizes["crop"] = (crop, crop) if isinstance(crop, int) else (crop["height"], crop["width"])
    return sizes


def _read_mapping(source: Mapping[str, Any] | str | Path) -> Mapping[str, Any]:
    if isinstance(source, Mapping):
        return source
    try:
        found = json.loads(Path(source).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{source} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{source} must hold one JSON object with the settings")
    return found
