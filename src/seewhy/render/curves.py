"""Line charts as SVG text: no script, legible in light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT, _LEFT, _TOP, _BELOW = 640, 320, 44, 12, 34
_LABELS = 190  # room at the right for the names
_LINE = 14  # height of a name
# Okabe and Ito (2008): told apart by those who see colours differently.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a8a")
_DASHES = ("", "6 3", "2 2", "8 2 2 2")


def curves(
    title: str,
    across: str,
    lines: Mapping[str, Sequence[float | None]],
    at: Sequence[float] | None = None,
) -> str:
    """Lines over shares from 0 to 1, each named at its end.

    Args:
        title: what the chart shows, for those who do not see it and as its caption.
        across: of what they are shares.
        lines: values by name; None where there is none.
        at: the shares at which the values of every line lie; in equal steps from 0 to 1 by default.

    Returns:
        A `<figure>`; empty where no line has a value.
    """
    values = [value for line in lines.values() for value in line if value is not None]
    if not values:
        return ""
    low, high = min(0.0, *values), max(values)
    high = high if high > low else low + 1
    right, bottom = _WIDTH - _LABELS, _HEIGHT - _BELOW

    def x(share: float) -> float:
        return _LEFT + (right - _LEFT) * share

    def y(value: float) -> float:
        return bottom - (bottom - _TOP) * (value - low) / (high - low)

    drawn = [
        f'<line x1="{_LEFT}" x2="{right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" class="grid"/>'
        f'<text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.2g}</text>'
        for tick in _ticks(low, high)
    ]
    drawn += [
        f'<text x="{x(share):.1f}" y="{bottom + 15}" text-anchor="middle">{share:.0%}</text>'
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    drawn.append(
        f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 4}" text-anchor="middle">{escape(across)}</text>'
    )
    ends = {name: next((v for v in reversed(line) if v is not None), low) for name, line in lines.items()}
    places = _apart({name: y(end) for name, end in ends.items()}, max(bottom, _TOP + _LINE * len(lines)))
    for number, (name, line) in enumerate(lines.items()):
        colour, dash = _COLOURS[number % len(_COLOURS)], _DASHES[number // len(_COLOURS) % len(_DASHES)]
        shares = at or [step / max(len(line) - 1, 1) for step in range(len(line))]
        points = " ".join(
            f"{x(share):.1f},{y(value):.1f}"
            for share, value in zip(shares, line, strict=True)
            if value is not None
        )
        style = f'stroke="{colour}"' + (f' stroke-dasharray="{dash}"' if dash else "")
        drawn.append(f'<polyline points="{points}" fill="none" stroke-width="1.6" {style}/>')
        drawn.append(
            f'<line x1="{right + 3}" x2="{right + 23}" y1="{places[name] - 4:.1f}" y2="{places[name] - 4:.1f}" '
            f'stroke-width="1.6" {style}/><text x="{right + 28}" y="{places[name]:.1f}">{escape(name)}</text>'
        )
    height = max(_HEIGHT, _TOP + _LINE * (len(lines) + 1))
    return (
        f'<figure class="chart"><svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(drawn)}</svg><figcaption>{escape(title)}</figcaption></figure>\n"
    )


def _ticks(low: float, high: float) -> list[float]:
    """About four round numbers."""
    step = 10 ** math.floor(math.log10((high - low) / 3))
    step = next(step * factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 5)
    first = math.ceil(low / step)
    return [step * number for number in range(first, math.floor(high / step) + 1)]


def _apart(places: Mapping[str, float], bottom: float) -> dict[str, float]:
    """Heights of the names, moved so that none lies on another."""
    found: dict[str, float] = {}
    last = float(_TOP)
    order = sorted(places, key=lambda name: places[name])
    for place, name in enumerate(order):
        room = bottom - _LINE * (len(order) - 1 - place)
        last = min(max(places[name] + 4, last + _LINE if found else last), room)
        found[name] = last
    return found
