"""From explanations to what is drawn: panels in each picture's own frame. The one file here that knows torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from seewhy import __version__, registry
from seewhy.render.overlay import Panel, figure, save_png
from seewhy.render.report import MethodInfo, Prediction, Row, fragment

if TYPE_CHECKING:
    from torch import Tensor

    from seewhy.explanation import Explanation

_MOST_IN_NOTEBOOK = 16
_VERDICTS = {True: " ✓", False: " ✗", None: ""}


def picture(explanation: Explanation, row: int) -> Image.Image:
    """The explained picture: the file it came from, or the network's input stretched to grey levels."""
    if explanation.images is not None:
        return explanation.images.picture(row)
    height, width = explanation.size
    if explanation.pixels is None:
        return Image.new("RGB", (width, height), "gray")
    pixels = explanation.pixels[row].float().cpu()
    low, high = pixels.min(), pixels.max()
    levels = ((pixels - low) / (high - low).clamp_min(1e-12) * 255).round().byte()
    shown = levels[:3] if len(levels) >= 3 else levels[:1].expand(3, -1, -1)
    return Image.fromarray(shown.permute(1, 2, 0).numpy())


def panels(
    explanation: Explanation, row: int, signed: bool = False, method: str | None = None
) -> list[Panel]:
    """One panel per target and layer of a picture; with several layers, one more that combines them.

    Args:
        explanation: what to draw.
        row: which picture.
        signed: show evidence against as well, where the method has a sign.
        method: what to call the method.
    """
    signed = signed and explanation.signed
    found = []
    for site in explanation.maps:
        maps, seen = explanation.original(row, site, signed)
        found += _per_target(explanation, row, maps, seen, str(site), signed, method)
    if len(explanation.maps) > 1 and len({site.input for site in explanation.maps}) == 1:
        maps = explanation.select([row]).combined()[0]
        seen = explanation.original(row, next(iter(explanation.maps)))[1]
        if explanation.images is not None:
            maps = explanation.images.frames[row].to_original(maps)
        found += _per_target(explanation, row, maps, seen, "combined", False, method)
    return found


def _per_target(
    explanation: Explanation,
    row: int,
    maps: Tensor,
    seen: Tensor,
    layer: str,
    signed: bool,
    method: str | None,
) -> list[Panel]:
    visible = seen.cpu().numpy()
    labels = ("any target",) if explanation.class_agnostic else explanation.labels[row]
    return [
        Panel(
            method=method or explanation.method,
            values=np.ascontiguousarray(maps[t].cpu().numpy(), dtype=np.float32),
            signed=signed,
            visible=None if visible.all() else visible,
            target=label,
            score=float(explanation.scores[row, t]),
            layer=layer,
            cost=explanation.cost_per_picture,
            notes=explanation.notes[row],
        )
        for t, label in enumerate(labels)
    ]


def row(explanations: Sequence[Explanation], index: int, signed: bool = False, **facts: object) -> Row:
    """One line of a report: a picture by all methods.

    Args:
        explanations: of the same pictures, one per method.
        index: which picture.
        signed: show evidence against as well.
        facts: `truth` and `correct` of `render.Row`.
    """
    first = explanations[0]
    path = Path(first.images.paths[index]) if first.images is not None else Path(f"picture {index}")
    found = [
        panel
        for each, name in zip(explanations, column_names(explanations), strict=True)
        for panel in panels(each, index, signed, name)
    ]
    predictions = tuple(Prediction(each.label, each.probability) for each in first.predictions[index])
    return Row(str(Path(*path.parts[-2:])), picture(first, index), predictions, tuple(found), **facts)  # type: ignore[arg-type]


def column_names(explanations: Sequence[Explanation]) -> list[str]:
    """Names of the columns: the methods', numbered where one stands twice."""
    return registry.numbered(each.method for each in explanations)


def methods(explanations: Sequence[Explanation]) -> list[MethodInfo]:
    """The columns of a report; of those of one method the title says in which settings they differ."""
    infos = method_infos(column_names(explanations))
    return [
        replace(info, title=info.title + _apart(each, explanations))
        for info, each in zip(infos, explanations, strict=True)
    ]


def _apart(explanation: Explanation, beside: Iterable[Explanation]) -> str:
    """The settings that others of the same method have otherwise, in words."""
    others = [dict(_flat(each.settings)) for each in beside if each.method == explanation.method]
    own = [
        f"{key} {value}"
        for key, value in _flat(explanation.settings)
        if any(key not in other or other[key] != value for other in others)
    ]
    return f" ({', '.join(own)})" if own else ""


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings, and those of the steps among them by dotted names."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def method_infos(columns: Iterable[str]) -> list[MethodInfo]:
    """What the registry knows of methods, by their names or numbered names."""
    known = {entry.name: entry for entry in (*registry.explainers(), *registry.controls())}
    infos = []
    for column in columns:
        method, sign, number = column.partition("#")
        entry = known.get(method)
        title = entry.title if entry and entry.title else method
        infos.append(MethodInfo(column, title + sign + number, entry.paper if entry else ""))
    return infos


def side_by_side_methods(explained: Mapping[str, Sequence[Explanation]]) -> list[MethodInfo]:
    """The columns of a report on several networks: each one's methods beside the next one's.

    Args:
        explained: of the same pictures, by the name of each network.
    """
    return [
        replace(info, name=f"{network} {info.name}", title=f"{network}: {info.title}")
        for network, each in explained.items()
        for info in methods(each)
    ]


def side_by_side(
    explained: Mapping[str, Sequence[Explanation]],
    index: int,
    signed: bool = False,
    truth: str | None = None,
    correct: Sequence[bool | None] | None = None,
) -> Row:
    """One line of a report on several networks: what each says of a picture, and its maps.

    Args:
        explained: of the same pictures, by the name of each network.
        index: which picture.
        signed: show evidence against as well.
        truth: what the picture shows, where known.
        correct: of each network whether it says so, where known.
    """
    answers = {network: row(each, index, signed, truth=truth) for network, each in explained.items()}
    verdicts = [_VERDICTS[each] for each in correct or [None] * len(answers)]
    return replace(
        next(iter(answers.values())),
        predictions=tuple(
            replace(best, label=f"{network} says {best.label}{verdict}")
            for (network, each), verdict in zip(answers.items(), verdicts, strict=True)
            for best in each.predictions[:1]
        ),
        panels=tuple(
            replace(panel, method=f"{network} {panel.method}")
            for network, each in answers.items()
            for panel in each.panels
        ),
    )


def notebook(explanations: Sequence[Explanation]) -> str:
    """A self-contained HTML fragment: the first pictures by all methods."""
    count = min(len(explanations[0]), _MOST_IN_NOTEBOOK)
    return fragment([row(explanations, index) for index in range(count)], methods(explanations))


def provenance(explanation: Explanation, index: int, panel: Panel) -> dict[str, str]:
    """What a PNG says about itself: enough to make it again."""
    source = explanation.images.paths[index] if explanation.images is not None else f"picture {index}"
    return {
        "Software": f"seewhy {__version__}",
        "Source": str(source),
        "Network": f"{explanation.network} sha256:{explanation.digest}",
        "Method": str(dict(explanation.settings)),
        "Layer": panel.layer,
        "Target": f"{panel.target} (score {panel.score:.6g})",
        "Limits": f"{panel.limits[0]:.6g} {panel.limits[1]:.6g}",
        "Notes": "; ".join(panel.notes),
    }


def save_panels(
    explanation: Explanation, folder: Path, start: int = 0, signed: bool = False, method: str | None = None
) -> list[Path]:
    """Write one PNG per picture, target and layer.

    Args:
        explanation: what to draw.
        folder: where.
        start: number of the first picture in the file names.
        signed: show evidence against as well.
        method: what to call the method, where one is used twice.
    """
    written = []
    for index in range(len(explanation)):
        shown = picture(explanation, index)
        stem = Path(explanation.images.paths[index]).stem if explanation.images is not None else "picture"
        for panel in panels(explanation, index, signed, method):
            parts = [f"{start + index:05d}", stem, panel.method, panel.target, panel.layer]
            path = folder / ("--".join(map(_safe, parts)) + ".png")
            save_png(figure(shown, panel), path, provenance(explanation, index, panel))
            written.append(path)
    return written


def _safe(text: str) -> str:
    """Text as part of a file name; long texts that begin alike stay apart."""
    safe = re.sub(r"[^\w.+-]+", "_", text).encode("utf-8", "replace")
    if len(safe) <= 48:  # bytes, which file systems count
        return safe.decode()
    return f"{safe[:39].decode(errors='ignore')}-{sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"
