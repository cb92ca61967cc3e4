"""One self-contained HTML report: a row per picture, a column per method; no script, no request, no font."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from seewhy.errors import InputError
from seewhy.files import written_whole
from seewhy.render.colormaps import DIVERGING, INFERNO, Colormap
from seewhy.render.overlay import Panel, color_bar, fitted, overlay

THUMBNAIL = 320
_NO_MAP = '<p class="none">no map</p>'

_KEY_STOPS = 13
_LEGENDS = (
    (INFERNO, (0.0, 1.0), "no evidence", "most", "Magnitude: the brighter, the more this place counts."),
    (DIVERGING, (-1.0, 1.0), "against", "for", "Signed: orange speaks for the target, blue against it."),
)
_READING = (
    "Where a map sees no evidence, the picture shows through unchanged. Each map has its own scale, "
    "written under it. Grey hatching: cut off by the preprocessing, never seen by the network."
)
_PAGE_STYLE = """
html { color-scheme: light dark; background: #fbfaf8; }
@media (prefers-color-scheme: dark) { html { background: #171614; } }
body { margin: 0; }
main { padding: clamp(1rem, 3vw, 2.5rem); max-width: 120rem; margin: 0 auto; }
"""


@dataclass(frozen=True)
class Prediction:
    """One answer of the network: a label and its probability, in [0, 1]."""

    label: str
    probability: float


@dataclass(frozen=True)
class MethodInfo:
    """One column: registry name, title, and the paper with its year."""

    name: str
    title: str
    paper: str


@dataclass(frozen=True, eq=False)
class Row:
    """One picture: name, pixels, best predictions first, maps, the true label and whether it was met.

    `truth` is shown where known; `correct` marks the row right or wrong and counts for the accuracy.
    """

    name: str
    picture: Image.Image
    predictions: tuple[Prediction, ...]
    panels: tuple[Panel, ...]
    truth: str | None = None
    correct: bool | None = None


class Report:
    """A report that is filled picture by picture and keeps only HTML, never the pictures.

    Args:
        title: the page's heading.
        facts: what the reader must know, in order: network, preprocessing and where it came from, date,
            version, command. A fact named "command" is set as code.
        methods: the columns.
        lead: what was counted, where rows are not pictures; the pictures asked for, explained and failed by default.
        reading: how the maps are to be read, where that differs from maps of pictures.
    """

    def __init__(
        self,
        title: str,
        facts: Mapping[str, str],
        methods: Sequence[MethodInfo],
        lead: str = "",
        reading: str = _READING,
    ) -> None:
        self.title = title
        self.lead = lead
        self.reading = reading
        self.facts = dict(facts)
        self.methods = tuple(methods)
        self._rows: list[str] = []
        self._failures: list[tuple[str, str]] = []
        self._notes: list[str] = []
        self._figures: list[str] = []
        self._galleries: list[str] = []
        self._verdicts: list[bool] = []
        self._unshown = 0

    def add(self, row: Row) -> None:
        """Render a picture's row at once.

        Raises:
            InputError: a panel of a method without a column, or a map that is not in the picture's frame.
        """
        self._rows.append(_table_row(row, self.methods))
        if row.correct is not None:
            self._verdicts.append(row.correct)

    def count(self, correct: bool | None = None) -> None:
        """Count a picture that was explained but is not shown, and whether its prediction was right."""
        self._unshown += 1
        if correct is not None:
            self._verdicts.append(correct)

    def fail(self, name: str, reason: str) -> None:
        """List a picture that could not be explained."""
        self._failures.append((name, reason))

    def note(self, text: str) -> None:
        """Say something about the whole report, in its header."""
        self._notes.append(text)

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show figures above the pictures; a row's first cell names it.

        Raises:
            InputError: a row has not as many cells as the head.
        """
        if any(len(row) != len(head) for row in rows):
            raise InputError(f"{title}: every row needs {len(head)} cells, as the head has")
        top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
        body = "".join(
            f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>\n'
            for row in rows
        )
        self._figures.append(
            f'<div class="wide" role="region" aria-label="{escape(title)}" tabindex="0">\n'
            f'<table class="figures">\n<caption>{escape(title)}</caption>\n<thead><tr>{top}</tr></thead>\n'
            f"<tbody>\n{body}</tbody>\n</table>\n</div>\n"
        )

    def figure(self, html: str) -> None:
        """Show a chart above the pictures, after the tables and charts that are there."""
        self._figures.append(html)

    def gallery(self, title: str, rows: Sequence[Row], method: MethodInfo) -> None:
        """Show some pictures by one method, under a heading of their own; they are not counted.

        Raises:
            InputError: as `add`.
        """
        made = "".join(_table([method], [_table_row(row, [method]) for row in rows], title))
        self._galleries.append(f"<details>\n<summary>{escape(title)}</summary>\n{made}</details>\n")

    def html(self) -> str:
        """The whole page."""
        return "".join(self._page())

    def save(self, path: str | Path) -> None:
        """Write the page, whole or not at all."""
        with written_whole(path) as file:
            for part in self._page():
                # File names may hold bytes that are no UTF-8; a question mark is better than no report.
                file.write(part.encode("utf-8", "replace"))

    def _page(self) -> Iterator[str]:
        """The page in pieces, so that a large one is not held twice."""
        yield (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n'
            # The browser itself enforces what the report promises: nothing is fetched, nothing runs.
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
            "style-src 'unsafe-inline'\">\n"
            f"<title>{escape(self.title)}</title>\n<style>{_PAGE_STYLE}{_style()}</style>\n</head>\n"
            '<body class="seewhy">\n<main>\n'
        )
        yield self._header()
        yield from self._figures
        yield _legend(self.reading)
        if len(set(self._verdicts)) == 2:
            yield '<label class="filter"><input type="checkbox"> Show only wrong predictions</label>\n'
        if self._rows:
            yield from _table(self.methods, self._rows, "Pictures and their maps")
        yield from self._galleries
        if self._failures:
            yield from self._failed()
        yield "</main>\n</body>\n</html>\n"

    def _header(self) -> str:
        """Title, counts, facts, methods, notes."""
        explained, failed = len(self._rows) + self._unshown, len(self._failures)
        counts = f"<strong>{explained + failed}</strong> asked = {explained} explained + {failed} failed"
        if self._verdicts:
            right, labelled = sum(self._verdicts), len(self._verdicts)
            counts += f" · accuracy <strong>{right / labelled:.1%}</strong> ({right} of {labelled} labelled)"
        facts = [(name, _fact(name, value)) for name, value in self.facts.items()]
        listed = "; ".join(f"{escape(method.title)} ({escape(method.paper)})" for method in self.methods)
        facts.append(("Methods", listed or "none"))
        pairs = "".join(f"<dt>{escape(name)}</dt><dd>{value}</dd>\n" for name, value in facts)
        hidden = f"The first {len(self._rows)} of {explained} explained pictures are shown."
        notes = [*self._notes, *([hidden] if self._unshown and self._rows else [])]
        remarks = "".join(f"<li>{escape(note)}</li>" for note in notes)
        return (
            f'<header>\n<h1>{escape(self.title)}</h1>\n<p class="lead">{escape(self.lead) or counts}</p>\n'
            f'<dl class="facts">\n{pairs}</dl>\n'
            + (f'<ul class="remarks">{remarks}</ul>\n' if remarks else "")
            + "</header>\n"
        )

    def _failed(self) -> Iterator[str]:
        """The pictures that could not be explained, with reasons."""
        yield (
            f"<h2>Failed ({len(self._failures)})</h2>\n"
            '<div class="scroll" role="region" aria-label="Failed pictures" tabindex="0">\n'
            '<table class="failures">\n<thead><tr class="head"><th scope="col">Picture</th>'
            '<th scope="col">Reason</th></tr></thead>\n<tbody>\n'
        )
        for name, reason in self._failures:
            yield f'<tr class="head"><th scope="row">{escape(name)}</th><td>{escape(reason)}</td></tr>\n'
        yield "</tbody>\n</table>\n</div>\n"


def fragment(rows: Row | Sequence[Row], methods: Sequence[MethodInfo]) -> str:
    """The table alone, for a notebook: one `<div>` with its own style that touches nothing around it.

    Args:
        rows: one picture or several.
        methods: the columns.

    Returns:
        HTML, without script or request, legible in light and dark pages.

    Raises:
        InputError: as `Report.add`.
    """
    rows = [rows] if isinstance(rows, Row) else list(rows)
    table = "".join(_table(methods, [_table_row(row, methods) for row in rows], "Pictures and their maps"))
    return f'<div class="seewhy fragment">\n<style>{_style()}</style>\n{table}{_legend()}</div>\n'


def _table(methods: Sequence[MethodInfo], rows: Sequence[str], name: str) -> Iterator[str]:
    """A table of rendered rows in its own scrolling region."""
    yield (
        f'<div class="scroll" role="region" aria-label="{escape(name)}" tabindex="0">\n<table>\n'
        '<thead><tr class="head"><th scope="col"><strong>Picture</strong><small>best predictions</small></th>'
    )
    for method in methods:
        title, paper = escape(method.title), escape(method.paper)
        yield f'<th scope="col"><strong>{title}</strong><small>{paper}</small></th>'
    yield "</tr></thead>\n<tbody>\n"
    yield from rows
    yield "</tbody>\n</table>\n</div>\n"


def _table_row(row: Row, methods: Sequence[MethodInfo]) -> str:
    """One picture's row: the picture and what the network says, then the maps of each method."""
    names = [method.name for method in methods]
    for panel in row.panels:
        if panel.method not in names:
            raise InputError(f"{row.name}: no column for {panel.method!r}; the report has {', '.join(names)}")
    picture, small = fitted(row.picture, [panel for panel in row.panels if panel.picture is None], THUMBNAIL)
    own = iter(small)
    drawn = [
        (panel, overlay(picture, next(own)) if panel.picture is None else _on_its_own(panel, panel.picture))
        for panel in row.panels
    ]
    cells = []
    for name in names:
        figures = [_figure(row, panel, image) for panel, image in drawn if panel.method == name]
        cells.append(f"<td>{''.join(figures) or _NO_MAP}</td>\n")
    kind = {None: "unlabelled", True: "right", False: "wrong"}[row.correct]
    return f'<tr class="{kind}">\n{_picture_cell(row, picture)}{"".join(cells)}</tr>\n'


def _on_its_own(panel: Panel, picture: Image.Image) -> Image.Image:
    """A map on a picture that is not the row's."""
    below, (small,) = fitted(picture, [panel], THUMBNAIL)
    return overlay(below, small)


def _picture_cell(row: Row, picture: Image.Image) -> str:
    """The row's head: picture, name, verdict, predictions."""
    verdicts = {
        None: "",
        True: '<b class="right">✓ right</b>',
        False: '<b class="wrong">✗ wrong</b>',
    }
    truth = f"true label: {escape(row.truth)} " if row.truth is not None else ""
    verdict = f'<p class="truth">{truth}{verdicts[row.correct]}</p>\n'
    bars = "".join(
        f"<li><span>{escape(prediction.label)}</span>"
        f'<span class="number">{prediction.probability:.1%}</span>'
        f'<i style="width:{100 * min(max(prediction.probability, 0), 1):.1f}%"></i></li>'
        for prediction in row.predictions
    )
    return (
        f'<th scope="row"><div class="subject">{inlined(picture, f"picture {row.name}")}'
        f'<p class="name">{escape(row.name)}</p>\n'
        + (verdict if truth or row.correct is not None else "")
        + (f'<ol class="predictions">{bars}</ol>' if bars else "")
        + "</div></th>\n"
    )


def _figure(row: Row, panel: Panel, drawn: Image.Image) -> str:
    """One map: the overlay, its scale, and everything needed to judge it."""
    notes = [] if panel.has_evidence else ["no evidence"]
    if panel.share_seen < 1:
        notes.append(f"hatched: {1 - panel.share_seen:.0%} of the picture was not seen by the network")
    notes += [note for note in panel.notes if note not in notes]
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes)
    low, high = (f"{limit:.3g}" for limit in panel.limits)
    key = _key(panel.colormap, panel.limits)
    origin = f"layer <code>{escape(panel.layer)}</code> · {escape(panel.cost)}"
    return (
        f"<figure>{inlined(drawn, _description(row, panel))}"
        f'<div class="scale"><span>{low}</span>{key}<span>{high}</span></div>\n'
        f'<figcaption><p class="target"><strong>{escape(panel.target)}</strong>'
        f'<span class="number">score {panel.score:.4g}</span></p>'
        f'<p class="origin">{origin}</p>'
        + (f'<ul class="notes">{listed}</ul>' if listed else "")
        + "</figcaption></figure>\n"
    )


def _description(row: Row, panel: Panel) -> str:
    """What the map shows, for those who do not see it."""
    what = f"{panel.method} map of {row.name} for {panel.target}"
    if not panel.has_evidence:
        return f"{what}: no evidence"
    height, width = panel.values.shape
    y, x = np.unravel_index(
        int(np.abs(panel.values).argmax() if panel.signed else panel.values.argmax()), (height, width)
    )
    across, down = (x + 0.5) / width, (y + 0.5) / height
    side = " against the target" if panel.values[y, x] < 0 else ""
    return f"{what}: strongest{side} {across:.0%} from the left, {down:.0%} from the top"


def _fact(name: str, value: str) -> str:
    """A fact's value as HTML."""
    return f"<code>{escape(value)}</code>" if name.lower() == "command" else escape(value)


def inlined(image: Image.Image, description: str, quality: int = 80) -> str:
    """A picture as HTML that holds it (WebP: a third smaller than JPEG at the same sight)."""
    buffer = io.BytesIO()
    image.save(buffer, format="webp", quality=quality, method=2)
    source = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return (
        f'<img class="picture" src="{source}" alt="{escape(description)}" '
        f'width="{image.width}" height="{image.height}" decoding="async" loading="lazy">\n'
    )


def _key(colormap: Colormap, limits: tuple[float, float]) -> str:
    """A horizontal colour scale."""
    bar = np.asarray(color_bar(colormap, limits, (1, _KEY_STOPS)))[::-1, 0]
    stops = ",".join(f"#{stop.tobytes().hex()}" for stop in bar)
    return f'<i class="key" style="background-image:linear-gradient(90deg,{stops})"></i>'


def _legend(reading: str = _READING) -> str:
    """How to read both colour scales."""
    keys = "".join(
        f"<div>{_key(colormap, limits)}"
        f'<p class="ends muted"><span>{low}</span><span>{high}</span></p><p>{sentence}</p></div>\n'
        for colormap, limits, low, high, sentence in _LEGENDS
    )
    return f'<section class="legend" aria-label="How to read">\n{keys}<div><p>{escape(reading)}</p></div>\n</section>\n'


@cache
def _style() -> str:
    """The style sheet; every selector begins with the class, so that it can stand in any page."""
    return files("seewhy.render").joinpath("report.css").read_text(encoding="utf-8")
