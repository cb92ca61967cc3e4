"""One map on one picture: overlay, figure with colour bar and caption, PNG that knows its origin."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from seewhy.errors import InputError
from seewhy.files import written_whole
from seewhy.render.colormaps import DIVERGING, INFERNO, Colormap, table_index

OPACITY = 0.75
# Below 1: weak evidence is already seen, and the darkest colours of inferno do not pass for shadows.
_ALPHA_EXPONENT = 0.7
_PAPER, _INK, _MUTED, _FAINT = "#ffffff", "#1d1c1a", "#67625b", "#807a72"
_GROUND = "#b9b5ae"
_SMALLEST_FIGURE = 384
# What the built-in font cannot draw and NFKD does not take apart.
_PLAIN = str.maketrans(
    {"×": "x", "−": "-", "–": "-", "—": "-", "→": "->", "“": '"', "”": '"', "’": "'", "ß": "ss"}
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """One map of one picture with all that is needed to draw and to caption it.

    Args:
        method: registry name of the method.
        values: (H0, W0) float32 in the original picture's frame, finite, not normalised.
        signed: whether negative values are evidence against; otherwise they count as none.
        limits: values at the ends of the colour scale; (0, 0), the default, takes them from the values:
            (0, maximum), or (-m, m) with the largest magnitude m where signed.
        visible: (H0, W0), False where the network never saw the picture (a crop cut it off); None: saw all.
        target: what is explained, in words.
        score: the network's output for the target.
        layer: where the map was taken.
        cost: what it took, in words.
        notes: what a reader must know.
        picture: what the map lies on, where a report's row is headed by another picture.

    Raises:
        InputError: values not float32 (H0, W0) or not finite, `visible` of another shape, limits
            out of order.
    """

    method: str
    values: Float32[np.ndarray, "H0 W0"]
    signed: bool
    limits: tuple[float, float] = (0.0, 0.0)
    visible: Bool[np.ndarray, "H0 W0"] | None = None
    target: str
    score: float
    layer: str
    cost: str
    notes: tuple[str, ...] = ()
    picture: Image.Image | None = None

    def __post_init__(self) -> None:
        values = self.values
        if values.ndim != 2 or values.size == 0 or values.dtype != np.float32:
            raise InputError(f"{self.method}: a map is float32 (H0, W0), got {values.dtype} {values.shape}")
        if not np.isfinite(values).all():
            raise InputError(f"{self.method}: the map holds NaN or infinity; a map without evidence is zero")
        if self.visible is not None and self.visible.shape != values.shape:
            raise InputError(f"{self.method}: visible is {self.visible.shape}, the map {values.shape}")
        low, high = self.limits
        if low > high:
            raise InputError(f"{self.method}: limits must be in order (low, high), got {self.limits}")
        if low == high == 0:
            extent = float(np.abs(values).max() if self.signed else max(values.max(), 0))
            object.__setattr__(self, "limits", (-extent if self.signed else 0.0, extent))

    @property
    def colormap(self) -> Colormap:
        """The colour map that fits the values."""
        return DIVERGING if self.signed else INFERNO

    @property
    def has_evidence(self) -> bool:
        """Whether anything will be seen: a non-zero value where signed, a positive one elsewhere."""
        return bool(self.values.any() if self.signed else (self.values > 0).any())

    @property
    def share_seen(self) -> float:
        """The share of the picture's pixels that the network saw, in [0, 1]."""
        return 1.0 if self.visible is None else float(self.visible.mean())


def overlay(picture: Image.Image, panel: Panel, opacity: float = OPACITY) -> Image.Image:
    """Lay a map over its picture, in the picture's size.

    The stronger the evidence, the more opaque its colour; where there is none the picture stays as it is.
    What the network never saw is grey, dimmed and hatched.

    Args:
        picture: 8-bit of any mode, (W0, H0) as the map; EXIF rotation already applied.
        panel: the map.
        opacity: of the strongest evidence, in [0, 1].

    Returns:
        An RGB picture of size (W0, H0).

    Raises:
        InputError: sizes that differ, or an opacity outside [0, 1].
    """
    _check_frame(picture, panel)
    if not 0 <= opacity <= 1:
        raise InputError(f"opacity is a share in [0, 1], got {opacity}")
    picture = picture.convert("RGB")
    index = table_index(panel.values, limits=panel.limits, colormap=panel.colormap)
    drawn = _blended(picture, index, panel.colormap, opacity)
    if panel.visible is None or panel.visible.all():
        return drawn
    return Image.composite(drawn, _unseen(picture), Image.fromarray(panel.visible.astype(np.uint8) * 255))


def figure(picture: Image.Image, panel: Panel, opacity: float = OPACITY) -> Image.Image:
    """Overlay, colour bar with its limits, and a caption, on white paper.

    Pictures under 384 pixels are enlarged so that the caption fits. The text is set in Pillow's built-in
    font, which knows little beyond ASCII: accents are dropped, other scripts become question marks.

    Args:
        picture: as for `overlay`.
        panel: the map and its caption.
        opacity: of the strongest evidence, in [0, 1].

    Returns:
        An RGB picture, larger than the overlay by bar and caption.

    Raises:
        InputError: as `overlay`.
    """
    picture, (panel,) = fitted(picture, [panel], max(*picture.size, _SMALLEST_FIGURE))
    body = overlay(picture, panel, opacity)
    unit = min(max(max(body.size) // 32, 14), 64)
    font, small = built_in_font(unit), built_in_font(round(unit * 0.82))
    ticks = _ticks(panel)
    bar = color_bar(panel.colormap, panel.limits, (unit, max(body.height, 8 * unit)))
    bar_left = body.width + 2 * unit
    tick_left = bar_left + bar.width + unit // 2
    right = max(tick_left + round(max(small.getlength(f"{tick:.3g}") for tick in ticks)), _SMALLEST_FIGURE)
    lines = list(_caption(panel, font, small, right - unit))
    leading = round(unit * 1.5)
    first_baseline = unit + bar.height + 2 * unit
    height = first_baseline + leading * (len(lines) - 1) + round(unit * 1.3)
    canvas = Image.new("RGB", (right + unit, height), _PAPER)
    canvas.paste(body, (unit, unit))
    canvas.paste(bar, (bar_left, unit))
    draw = ImageDraw.Draw(canvas)
    for number, tick in enumerate(ticks):
        share = number / max(len(ticks) - 1, 1)
        anchor = "lt" if share == 0 else "lb" if share == 1 else "lm"
        place = (tick_left, unit + share * bar.height)
        draw.text(place, f"{tick:.3g}", fill=_MUTED, font=small, anchor=anchor)
    for number, (text, line_font, fill) in enumerate(lines):
        draw.text((unit, first_baseline + leading * number), text, fill=fill, font=line_font, anchor="ls")
    return canvas


def color_bar(colormap: Colormap, limits: tuple[float, float], size: tuple[int, int]) -> Image.Image:
    """A colour scale of (width, height) pixels, high values on top, as it looks over a mid-grey picture.

    Grey rather than the bare table: where there is no evidence the overlay shows the picture, not black.
    """
    width, height = size
    scale = np.linspace(limits[1], limits[0], height)[:, None].repeat(width, axis=1)
    index = table_index(scale, limits=limits, colormap=colormap)
    return _blended(Image.new("RGB", size, _GROUND), index, colormap, opacity=1.0)


def fitted(picture: Image.Image, panels: Sequence[Panel], longest: int) -> tuple[Image.Image, list[Panel]]:
    """Bring a picture, as RGB, and its maps to a longest side in pixels; the limits stay, so the colours do.

    Raises:
        InputError: a map that is not in the picture's frame.
    """
    for panel in panels:
        _check_frame(picture, panel)
    scale = longest / max(picture.size)
    size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
    picture = picture.convert("RGB")
    if size == picture.size:
        return picture, list(panels)
    resized = picture.resize(size, Image.Resampling.BICUBIC)
    return resized, [_resized(panel, size) for panel in panels]


def save_png(image: Image.Image, path: str | Path, provenance: Mapping[str, str]) -> None:
    """Write a PNG that carries its provenance as international text chunks (iTXt, UTF-8).

    Args:
        image: what to write.
        path: where; the file is whole or absent.
        provenance: keyword -> text; `PIL.Image.open(path).text` gives it back.

    Raises:
        InputError: a keyword that PNG does not allow.
    """
    info = PngInfo()
    for keyword, text in provenance.items():
        if not re.fullmatch(r"[!-~]([ -~]{0,77}[!-~])?", keyword):
            raise InputError(f"PNG keywords are 1 to 79 printable ASCII characters, got {keyword!r}")
        # File names may hold bytes that are no UTF-8.
        info.add_itxt(keyword, text.encode("utf-8", "replace").decode())
    with written_whole(path) as file:
        image.save(file, format="PNG", pnginfo=info)


def _resized(panel: Panel, size: tuple[int, int]) -> Panel:
    """The panel at another (width, height)."""
    # Bilinear: a bicubic kernel overshoots, and would show evidence of the wrong sign.
    values = np.asarray(Image.fromarray(panel.values).resize(size, Image.Resampling.BILINEAR))
    visible = panel.visible
    if visible is not None:
        seen = Image.fromarray(visible.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
        visible = np.asarray(seen) >= 128
    return replace(panel, values=values, visible=visible)


def _blended(
    picture: Image.Image, index: UInt8[np.ndarray, "H0 W0"], colormap: Colormap, opacity: float
) -> Image.Image:
    """Lay the colours over an RGB picture, each pixel as opaque as its evidence is strong."""
    # A palette and a point table keep every step in Pillow's own loops: 12 megapixels in half a second.
    strengths = Image.fromarray(index)
    colours = strengths.copy()
    colours.putpalette(colormap.table.tobytes())
    alpha = (255 * opacity * colormap.strength() ** _ALPHA_EXPONENT).round().astype(int).tolist()
    alpha += [0] * (256 - len(alpha))
    return Image.composite(colours.convert("RGB"), picture, strengths.point(alpha))


def _check_frame(picture: Image.Image, panel: Panel) -> None:
    """Refuse a map that is not in its picture's frame."""
    height, width = panel.values.shape
    if picture.size != (width, height):
        raise InputError(
            f"{panel.method}: the map is {width}x{height}, the picture {picture.width}x{picture.height}; "
            "bring the map into the original picture's frame first"
        )


def _unseen(picture: Image.Image) -> Image.Image:
    """The picture grey, dimmed and hatched."""
    pitch = max(round(max(picture.size) / 48), 6)
    diagonal = np.add.outer(np.arange(picture.height), np.arange(picture.width)) % pitch
    grey = np.asarray(picture.convert("L")) * np.float32(0.35) + 70
    hatched = np.where(diagonal < max(pitch // 6, 1), np.float32(0.5) * grey + 105, grey)
    return Image.fromarray(hatched.astype(np.uint8)).convert("RGB")


def _ticks(panel: Panel) -> tuple[float, ...]:
    """The values written beside the bar, from top to bottom."""
    low, high = panel.limits
    if low == high:
        return (high,)
    return (high, 0.0, low) if panel.signed and low == -high else (high, low)


def _caption(
    panel: Panel, font: ImageFont.FreeTypeFont, small: ImageFont.FreeTypeFont, width: int
) -> Iterator[tuple[str, ImageFont.FreeTypeFont, str]]:
    """The caption's lines, each with its font and colour."""
    parts = [(f"{panel.method}: {panel.target}", font, _INK)]
    parts.append((f"score {panel.score:.4g}, layer {panel.layer}, {panel.cost}", small, _MUTED))
    if not panel.has_evidence:
        parts.append(("no evidence", small, _FAINT))
    if panel.share_seen < 1:
        parts.append((f"hatched: not seen by the network ({1 - panel.share_seen:.0%})", small, _MUTED))
    parts += [(note, small, _MUTED) for note in panel.notes]
    for text, line_font, fill in parts:
        for line in _wrapped(text, line_font, width):
            yield line, line_font, fill


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> Iterator[str]:
    """Break a text into lines that fit; words that do not fit alone are cut."""
    text = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    text = "".join(letter for letter in text if not unicodedata.combining(letter))
    line = ""
    for word in text.encode("ascii", "replace").decode().split():
        rest = word
        if line and font.getlength(f"{line} {rest}") <= width:
            line = f"{line} {rest}"
            continue
        if line:
            yield line
        while font.getlength(rest) > width and len(rest) > 1:
            fits = max((n for n in range(1, len(rest)) if font.getlength(rest[:n]) <= width), default=1)
            yield rest[:fits]
            rest = rest[fits:]
        line = rest
    if line:
        yield line


def built_in_font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's built-in scalable font.

    Raises:
        InputError: this Pillow has none.
    """
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise InputError("this Pillow was built without FreeType; figures need it, overlays do not")
    return font
