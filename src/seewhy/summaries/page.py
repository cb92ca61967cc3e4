"""The page of a class: its summaries, what they are worth, what they do not cover, and every picture's mask."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
from PIL import Image

from seewhy.render.overlay import Panel
from seewhy.render.panels import method_infos
from seewhy.render.report import Prediction, Report, Row, inlined
from seewhy.summaries.display import grid, side_by_side
from seewhy.summaries.result import Summaries, Summary

_MOST_ROWS, _ACROSS = 40, 10
_HEAD = (
    "summary", "verdict", "names", "pictures", "importance", "drop", "at random places", "alone keeps",
    "at random places ", "chance", "stability", "likeness",
)  # fmt: skip


def page(found: Summaries, facts: Mapping[str, str]) -> Report:
    """The report of a class.

    Args:
        found: its summaries.
        facts: of the run: date, version, command.
    """
    asked = (
        f"{found.asked} pictures asked = {len(found.subjects)} summarised + {len(found.skipped)} taken for "
        f"something else + {len(found.failed)} failed"
    )
    low, high = found.interval
    report = Report(
        f"What {found.network} looks for in {found.label!r}",
        {
            "Found": f"{len(found)} summaries; when a fifth of the pictures is left out, {low} to {high} clusters",
            "Completeness": f"their regions cost {found.completeness:.0%} of what the whole masks cost",
            "Network": f"{found.network}, sha256 {found.digest[:12]}",
            "Descriptors": str(found.settings["descriptors"]),
            **facts,
        },
        method_infos(["crisp-mask"]),
        asked,
    )
    report.note(
        "A summary counts where it is found again in most subsets of the pictures (stability of 0.6 or more), and "
        "where perturbing its regions, or all but them, does more than regions of the same shapes at random places "
        "(chance below 0.05, both tests and all stable summaries allowed for)."
    )
    report.table("Summaries", _HEAD, [_row(place, each) for place, each in enumerate(found.summaries, 1)])
    for place, each in enumerate(found.summaries, 1):
        verdict = "" if each.significant else " (does not count)"
        title = f"Summary {place}{verdict}: {_names(each)}"
        report.figure(_figure(title, grid(found.subjects, each), f"members of summary {place}"))
    if found.rest:
        shown = found.rest[:_MOST_ROWS]
        tiles = side_by_side(found.subjects, shown, min(_ACROSS, len(shown)))
        report.figure(_figure(f"{len(found.rest)} regions in no summary", tiles, "regions in no summary"))
    for place, subject in enumerate(found.subjects):
        if place >= _MOST_ROWS:
            report.count()
            continue
        own = [number for number, each in enumerate(found.summaries, 1) if _has(each, place)]
        note = f"summaries {', '.join(map(str, own))}" if own else "in no summary"
        panel = Panel(
            method="crisp-mask",
            values=np.ascontiguousarray(subject.mask, np.float32),
            signed=False,
            visible=None,
            target=found.label,
            score=subject.probability,
            layer="pixels",
            cost="",
            notes=(note, f"masked, the probability is {subject.masked:.1%}"),
        )
        prediction = (Prediction(found.label, subject.probability),)
        report.add(Row(subject.id, Image.fromarray(subject.picture), prediction, (panel,)))
    for id, reason in {**found.skipped, **found.failed}.items():
        report.fail(id, reason)
    return report


def _has(summary: Summary, subject: int) -> bool:
    return any(each.subject == subject for each in summary.members)


def _names(summary: Summary) -> str:
    return ", ".join(f"{name} ({score:.0%})" for name, score in summary.names[:3]) or "no name"


def _row(place: int, summary: Summary) -> list[str]:
    effect = summary.effect
    return [
        str(place),
        "counts" if summary.significant else "does not count",
        _names(summary),
        str(summary.pictures),
        f"{summary.importance:.0%}",
        f"{effect.drop:.0%}",
        f"{effect.control:.0%}",
        f"{effect.kept:.0%}",
        f"{effect.kept_control:.0%}",
        f"{effect.chance:.2g}",
        f"{summary.stability:.2f}",
        "" if summary.quality is None else f"{summary.quality:.2f}",
    ]


def _figure(title: str, image: Image.Image, description: str) -> str:
    """A picture of its own, inlined."""
    caption = f"<figcaption><strong>{escape(title)}</strong></figcaption>"
    return f"<figure>\n{caption}\n{inlined(image, description, quality=85)}</figure>\n"
