"""`seewhy scenes`: pictures whose truth is known, as files."""

from __future__ import annotations

import json as to_json
from collections import Counter
from pathlib import Path

from seewhy.cli.progress import progress
from seewhy.errors import InputError, UsageError


def scenes(
    *,
    out: Path,
    count: int,
    seed: int = 0,
    size: int = 128,
    classes: list[str] | None = None,
    second: float = 0.35,
    occluded: float = 0.35,
    watermark: str | None = None,
    probability: float | None = None,
    elsewhere: float | None = None,
    views: int | None = None,
    alike: int | None = None,
    json: bool = False,
) -> None:
    """Draw pictures whose truth is known to the pixel: DIR/000000.png …, and DIR/truth.jsonl.

    Each line of truth.jsonl says of one picture: its file, its objects with label, box, attributes and masks (of the
    object and of every part, as COCO run lengths), a caption, and the watermark's mask. The same options draw the same
    pictures on any machine.

    Args:
        out: Folder, made if need be; it must not hold a truth.jsonl yet.
        count: How many pictures.
        seed: Another seed, other pictures.
        size: Height and width in pixels.
        classes: Only these classes; repeat for several. All 24 by default.
        second: How often a second object of another class stands behind.
        occluded: How often something is put before the main object, unless it would hide what tells the class.
        watermark: A class that a watermark goes with; no watermark by default.
        probability: How often a picture of that class carries it; always by default.
        elsewhere: How often a picture of another class does; never by default.
        views: Draw individuals that come again, so many pictures of each, one after the other; the truth names them.
        alike: How many individuals only their markings tell apart; 4 by default.
        json: Print the summary as JSON.
    """
    from seewhy.scenes import CLASSES, Pairs, Scenes, Watermark
    from seewhy.scenes.files import Kept, write

    if watermark is None and (probability, elsewhere) != (None, None):
        raise UsageError("--probability and --elsewhere are those of a --watermark CLASS")
    mark = None
    if watermark is not None:
        mark = Watermark(watermark, 1.0 if probability is None else probability, elsewhere or 0.0)
    if alike is not None and views is None:
        raise UsageError("--alike is that of individuals, which come in --views")
    if views and (mark or count % views):
        raise UsageError("--count must be a multiple of --views, and a --watermark goes with classes only")
    kinds = tuple(classes or CLASSES)
    drawn: Scenes | Pairs
    try:
        if views is None:
            drawn = Scenes(count, seed, size, kinds, second, occluded, mark)
        else:
            individuals = count // max(views, 1)
            drawn = Pairs(
                individuals, views, seed, size, kinds, 4 if alike is None else alike, second, occluded
            )
    except InputError as error:
        raise UsageError(str(error)) from error
    labels: Counter[str] = Counter()
    with progress("drawing", count) as advance:

        def written(picture: Kept) -> None:
            labels[picture.truth.label] += 1
            advance(1)

        write(drawn, out, written)
    if json:
        print(
            to_json.dumps({"out": str(out), "count": count, "labels": dict(sorted(labels.items()))}, indent=1)
        )
    else:
        print(f"{count} scenes of {len(labels)} classes in {out}")
