"""`seewhy summarize`: what a network looks for in a class, over many pictures."""

from __future__ import annotations

import json as to_json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from seewhy.cli.options import Model, made_by, read_dataset
from seewhy.cli.progress import resumable
from seewhy.errors import SeewhyError, UsageError

if TYPE_CHECKING:
    from seewhy.summaries.partners import Partner
    from seewhy.summaries.result import Summaries
    from seewhy.summaries.summarize import Recipe

PARTS = "parts"
_WHOLE = 100
_STAGES = {"masks": (0, 90), "regions": (90, 95), "importance": (95, _WHOLE)}
"""Where each stage begins and ends, in hundredths of the time that a run usually takes."""


def summarize(
    label: str,
    *,
    data: Path,
    model: Model,
    out: Path,
    target: str | None = None,
    pictures: int | None = None,
    mask: str = "",
    regions: Literal["components", "windows"] = "components",
    descriptors: Literal["pooled", "hog", "features"] = "pooled",
    features_of: str | None = None,
    features_weights: str | None = None,
    clustering: Literal["linkage", "affinity-propagation", "spectral", "hdbscan"] = "linkage",
    names: str | None = None,
    beside: Path | None = None,
    kind: str = "auto",
    split: str | None = None,
    batch_size: int = 4,
    seed: int = 0,
    json: bool = False,
) -> int:
    """Find the parts that a network looks for in a class: crisp masks, their regions, clustered and tested.

    DIR/report.html shows the summaries, their members, what each is worth and how stable it is, and what they do not
    cover; DIR/summaries.json and DIR/regions.parquet hold the same. Masks take long: they are kept in DIR/store/, and
    the same command goes on where it was stopped.

    Args:
        label: The class, as the dataset names it.
        data: A folder of classes, a CSV, or a dataset: ImageNet, VOC, COCO, CUB, scenes.
        out: Folder for the report and all that is kept; made if need be.
        target: The class as the network names or numbers it; CLASS by default.
        pictures: Pictures at most, those whose SHA-256 come first; all of the class by default.
        mask: Settings of the masks (smooth=100,sharp=50), as of the method crisp-mask.
        regions: The connected parts of each mask, or also windows of several sizes within them.
        descriptors: Gradients and colours pooled over quarters, gradients alone, or feature maps of a network.
        features_of: That network, which should be another one; for --descriptors features.
        features_weights: Its weights, where they are not the source's own.
        clustering: How regions become clusters; affinity-propagation is the paper's.
        names: What summaries might be called: by the `parts` that the dataset marks, or by a CSV of tagged regions.
        beside: Another network's summaries.json of these pictures: which of its summaries are in the same places.
        kind: How to read the dataset: auto, folder, csv, imagenet, wsol, voc, coco, houses, cub, scenes.
        split: Such as train, where the dataset has splits.
        batch_size: Pictures whose masks are looked for at once, and kept together.
        seed: Of all that is drawn.
        json: Print the results as JSON.
    """
    from seewhy.files import written_whole
    from seewhy.network.load import load
    from seewhy.store.parquet import arrow, to_bytes
    from seewhy.summaries.names import PartNames, TagFile, named
    from seewhy.summaries.page import page
    from seewhy.summaries.partners import partners
    from seewhy.summaries.summarize import summarize as run

    if batch_size < 1 or (pictures is not None and pictures < 3):
        raise UsageError("--batch-size must be at least 1 and --pictures at least 3")
    if (descriptors == "features") != (features_of is not None):
        raise UsageError("--descriptors features needs --features-of NETWORK, and nothing else does")
    recipe = _recipe(mask, regions, descriptors, clustering, seed)
    try:
        tags = None if names in (None, PARTS) else TagFile(str(names))
    except SeewhyError as error:
        raise UsageError(f"--names: {error}") from error
    other_found = None if beside is None else _read(beside)
    manifest = read_dataset(data, kind, split)
    network = model.load_for_pictures()
    other = (
        None if features_of is None else load(features_of, weights=features_weights, offline=model.offline)
    )
    wanted = int(target) if target is not None and target.isdecimal() else target
    before = 0
    with resumable("summarising", _WHOLE) as advance:

        def progress(stage: str, done: int, total: int) -> None:
            nonlocal before
            begin, end = _STAGES[stage]
            now = begin + (end - begin) * done // max(total, 1)
            advance(now - before)
            before = now

        found = run(
            network, manifest, label, out / "store", recipe, target=wanted, pictures=pictures, batch=batch_size,
            other=other, progress=progress,
        )  # fmt: skip
    if names is not None:
        found = named(found, tags or PartNames(network, manifest))
    for name, content in (
        ("summaries.json", to_json.dumps(found.to_json(), indent=1).encode()),
        ("regions.parquet", to_bytes(arrow().Table.from_pylist(found.rows()))),
    ):
        with written_whole(out / name) as file:
            file.write(content)
    page(found, made_by()).save(out / "report.html")
    pairs = [] if other_found is None else partners(found, other_found)
    if other_found is not None:
        with written_whole(out / "partners.json") as file:
            file.write(to_json.dumps([vars(each) for each in pairs], indent=1).encode())
    if json:
        print(to_json.dumps(found.to_json(), indent=1))
    else:
        said = [_partner_said(each, beside) for each in pairs]
        if beside is not None and not said:
            said = [f"no summary counts here that could have a partner in {beside}"]
        print("\n".join([_said(found, out), *said]))
    return 3 if found.failed else 0


def _recipe(mask: str, regions: str, descriptors: str, clustering: str, seed: int) -> Recipe:
    from seewhy.explainers.crisp_mask import CrispMask
    from seewhy.summaries.summarize import Recipe

    try:
        method = CrispMask.from_text(mask)
    except SeewhyError as error:
        raise UsageError(f"--mask {mask}: {error}") from error
    return Recipe.model_validate(
        {
            "mask": method.model_dump(),
            "proposals": {"kind": regions},
            "descriptors": {"kind": descriptors, "seed": seed},
            "clustering": {"method": clustering, "seed": seed},
            "seed": seed,
        }
    )


def _read(path: Path) -> Any:
    try:
        return to_json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--beside {path}: {error}") from error


def _partner_said(each: Partner, beside: Path | None) -> str:
    overlap = f"overlap {each.overlap:.0%}, at random places {each.elsewhere:.0%}, chance {each.chance:.2g}"
    if each.partner is None:
        return f"{each.number} has no partner in {beside}: at best {overlap}"
    return f"{each.number} is where summary {each.partner} of {beside} is: {overlap}"


def _said(found: Summaries, out: Path) -> str:
    low, high = found.interval
    lines = [
        f"{len(found)} summaries of {found.label!r}, {low} to {high} clusters when a fifth of the pictures is left "
        f"out; they explain {found.completeness:.0%} of what the masks cost"
    ]
    for place, each in enumerate(found.summaries, 1):
        effect = each.effect
        lines.append(
            f"{place}. {'counts' if each.significant else 'does not count'}: in {each.pictures} of "
            f"{len(found.subjects)} pictures, importance {each.importance:.0%}; perturbed, {effect.drop:.0%} of the "
            f"probability is lost (at random places {effect.control:.0%}); alone it keeps {effect.kept:.0%} "
            f"({effect.kept_control:.0%}); chance {effect.chance:.2g}, stability {each.stability:.2f}"
        )
    lines.append(
        f"{found.asked} asked = {len(found.subjects)} summarised + {len(found.skipped)} taken for something else + "
        f"{len(found.failed)} failed; {len(found.rest)} regions in no summary"
    )
    lines += [f"failed: {id}: {reason}" for id, reason in list(found.failed.items())[:10]]
    return "\n".join([*lines, f"report: {out / 'report.html'}"])
