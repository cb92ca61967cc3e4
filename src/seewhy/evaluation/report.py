"""An evaluation for people: tables with intervals and ranks, curves, the best and the worst pictures, verdicts."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from seewhy.evaluation.campaign import SAMPLE, Campaign, Part
from seewhy.evaluation.standings import COLUMNS, cell_text, rows
from seewhy.evaluation.subjects import Pictures
from seewhy.network.images import open_picture
from seewhy.render.curves import curves
from seewhy.render.markdown import markdown_table
from seewhy.render.overlay import Panel
from seewhy.render.panels import method_infos
from seewhy.render.report import MethodInfo, Report, Row

_SHOWN = 3  # best and worst pictures of each method
_INSERTION = "Insertion: probability of the class as the highest pixels enter a blurred picture"
_DELETION = "Deletion: probability of the class as the highest pixels are taken away"
_CURVES = (
    ("insertion", "curve", _INSERTION),
    ("deletion", "curve", _DELETION),
    ("insertion-deletion", "insertion_curve", _INSERTION),
    ("insertion-deletion", "deletion_curve", _DELETION),
    ("road", "morf", "ROAD: score without the most relevant pixels"),
)
_READING = (
    "Values with 95 % bootstrap intervals over pictures; #1 ranks first among the methods. Maps in brackets are "
    "controls, which know nothing of the decision: a method that does not beat them shows nothing of it. † clearly "
    "differs from {first} (Holm-adjusted p below 0.05 in its column)."
)


def table(part: Mapping[str, Any], subset: str, controls: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of one table: methods down, metrics across.

    Args:
        part: one of the parts of `Campaign.to_json`.
        subset: which of its pictures.
        controls: names that are put in brackets.
    """
    metrics = [each["name"] for each in part["metrics"]]
    arrows = {"higher": " ↑", "lower": " ↓", "neither": ""}
    head = ["method", *(f"{each['name']}{arrows[each['better']]}" for each in part["metrics"])]
    found = part["tables"][subset]
    return head, [
        [f"({name})" if name in controls else name, *(cell_text(own.get(metric)) for metric in metrics)]
        for name, own in found.items()
    ]


def markdown(results: Mapping[str, Any]) -> str:
    """All tables, for a terminal or a page of documentation."""
    lines: list[str] = []
    for part, subset, title in tables(results):
        head, cells = table(part, subset, results["controls"])
        protocols = [f"* {each['name']}: {each['brief']}" for each in part["metrics"]]
        lines += [title, "", markdown_table(head, cells), "", *protocols, ""]
    return "\n".join(lines)


def tables(results: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str, str]]:
    """Parts and subsets, with a title for each."""
    for part in results["parts"]:
        for subset, found in part["tables"].items():
            cells = [cell for own in found.values() for cell in own.values()]
            count = max((cell["pictures"] for cell in cells), default=0)
            what = part["title"] if len(part["tables"]) == 1 else f"{part['title']}, {subset}"
            yield part, subset, f"{what} ({count})"


def comma_separated(results: Mapping[str, Any]) -> str:
    """One line per part, subset, method and metric."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(results))
    return text.getvalue()


def left_out(results: Mapping[str, Any]) -> dict[str, str]:
    """Metrics that were not measured, methods that the network was not fit for, and why."""
    refused = {name: why for part in results["parts"] for name, why in part["refused"].items()}
    return {**results["left_out"], **refused}


def report(campaign: Campaign, results: Mapping[str, Any], made_by: Mapping[str, str]) -> Report:
    """The page.

    Args:
        campaign: what was run.
        results: its `to_json`.
        made_by: when, by which version and by which command.
    """
    network = campaign.network
    facts = {
        "Network": f"{network.name}, sha256 {network.digest[:12]}",
        "Pictures": f"{results['dataset']} ({results['kind']}), explained for the {results['target']}",
        "Seed": str(results["seed"]),
        **made_by,
    }
    for part in results["parts"]:
        for metric in part["metrics"]:
            facts[f"{metric['title']}"] = metric["protocol"]
    infos = {each.name: each for each in method_infos(campaign.named)}
    page = Report(f"How far the maps of {network.name} can be trusted", facts, list(infos.values()))
    compared = next((c["against"]["method"] for c in _cells(results) if c.get("against")), "the first method")
    page.note(_READING.format(first=compared))
    for name, reason in left_out(results).items():
        page.note(f"{name} left out: {reason}")
    for fault in results["faults"][:20]:
        page.note(f"in the dataset: {fault}")
    for part, subset, title in tables(results):
        page.table(title, *table(part, subset, results["controls"]))
    for part in results["parts"]:
        for html in _charts(part["tables"][SAMPLE]):
            page.figure(html)
    _sanity(page, results["sanity"])
    for made in campaign.parts:
        _gallery(page, campaign, made, infos)
    sanity = results["sanity"] or {}
    failed = {
        id: reason for part in (*results["parts"], sanity) for id, reason in part.get("failed", {}).items()
    }
    for id, reason in failed.items():
        page.fail(id, reason)
    for _ in range(results["parts"][0]["explained"] if results["parts"] else sanity["pictures"]):
        page.count()
    return page


def _cells(results: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for part in results["parts"]:
        for found in part["tables"].values():
            for own in found.values():
                yield from own.values()


def _charts(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for metric, key, title in _CURVES:
        details = {name: own.get(metric, {}).get("details", {}) for name, own in found.items()}
        known = {name: own for name, own in details.items() if key in own}
        # ROAD is measured at some shares of the pixels, and starts from the clean pictures.
        removed = next((own["removed"] for own in known.values() if "removed" in own), None)
        at = None if removed is None else [0.0, *removed]
        lines = {name: own[key] if at is None else [*own["clean"], *own[key]] for name, own in known.items()}
        yield curves(title, "of the pixels", lines, at)


def _sanity(page: Report, sanity: Mapping[str, Any] | None) -> None:
    if not sanity or "methods" not in sanity:
        return
    made = []
    for name, own in sanity["methods"].items():
        verdict = own["verdict"]
        fate = {True: "dies", False: "stays", None: "undefined"}[verdict["dies"]]
        head = {True: "yes", False: "no", None: "undefined"}[verdict["ignores_head"]]
        made.append([name, fate + ("" if verdict["clear"] else " (not beyond doubt)"), head, verdict["text"]])
    page.table(
        f"Sanity: maps of the same network with random weights ({sanity['pictures']} pictures)",
        ["method", "its map", "ignores the last layer", "in figures"],
        made,
    )


def _gallery(page: Report, campaign: Campaign, part: Part, infos: Mapping[str, MethodInfo]) -> None:
    """The best and the worst pictures of each method, by the first metric that ranks."""
    subjects = part.evaluation.subjects
    metric = next((each for each in part.evaluation.metrics if each.better != "neither"), None)
    if metric is None or not isinstance(subjects, Pictures) or part is not campaign.parts[0]:
        return
    for name, own in part.evaluation.results.items():
        if name not in campaign.methods:
            continue
        result = own[metric.name]
        values = {
            key: value
            for key, value, good in zip(
                result.keys, result.values.tolist(), result.defined.tolist(), strict=True
            )
            if good
        }
        order = sorted(values, key=lambda key: (values[key] * (-1 if metric.better == "higher" else 1), key))
        most = min(_SHOWN, len(order) // 2)
        places = [*range(most), *range(len(order) - most, len(order))]
        kept = {row["id"]: row for row in part.evaluation.rows(name) if row["failed"] is None}
        shown = [
            _row(
                campaign,
                subjects,
                name,
                kept[order[k][0]],
                order[k][1],
                f"{metric.name} {values[order[k]]:.3f}, #{k + 1} of {len(order)}",
            )
            for k in places
        ]
        if shown:
            page.gallery(
                f"{infos[name].title}: its best and its worst pictures by {metric.name}", shown, infos[name]
            )


def _row(
    campaign: Campaign, subjects: Pictures, name: str, kept: Mapping[str, Any], label: str, note: str
) -> Row:
    path = subjects.path(kept["id"])
    images = campaign.network.read([path])
    column = kept["labels"].index(label)
    values = images.frames[0].to_original(torch.from_numpy(kept["map"][column : column + 1].copy()))
    seen = images.frames[0].visible(values.device).numpy()
    panel = Panel(
        method=name,
        values=np.ascontiguousarray(values[0].clamp_min(0).numpy(), dtype=np.float32),
        signed=False,
        visible=None if seen.all() else seen,
        target=label,
        score=kept["scores"][column],
        layer=kept["layer"],
        cost=kept["cost"],
        notes=(note,),
    )
    return Row(kept["id"], open_picture(path), (), (panel,))
