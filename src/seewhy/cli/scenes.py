"""`seewhy scenes`: pictures whose truth is known, as files."""

from __future__ import annotations

import json as to_json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from seewhy.cli.progress import progress
from seewhy.errors import InputError, UsageError

CLIPS = "clips.jsonl"


@dataclass(frozen=True)
class ClipFolders:
    """Clips as folders of frames."""

    count: int
    seed: int
    size: int
    classes: tuple[str, ...]
    views: int
    alike: int
    frames: int

    def write(self, out: Path) -> None:
        """A folder per clip with its frames and their truths, and `clips.jsonl`."""
        from seewhy.files import written_whole
        from seewhy.scenes import Clips
        from seewhy.scenes.files import write

        try:
            clips = Clips(
                self.count // self.views, self.views, self.seed, self.frames, (1, min(3, self.frames)), self.size,
                self.classes, self.alike,
            )  # fmt: skip
        except InputError as error:
            raise UsageError(str(error)) from error
        with progress("drawing", self.count) as advance, written_whole(out / CLIPS) as lines:
            for number, clip in enumerate(clips):
                name = f"{number:06d}"
                write(clip.frames, out / name)
                line = {"folder": name, "individual": clip.individual, "deciding": list(clip.deciding)}
                lines.write(f"{to_json.dumps(line)}\n".encode())
                advance(1)


def scenes(
    *,
    out: Path,
    count: int,
    seed: int = 0,
    size: int | None = None,
    classes: list[str] | None = None,
    second: float = 0.35,
    occluded: float = 0.35,
    watermark: str | None = None,
    probability: float | None = None,
    elsewhere: float | None = None,
    views: int | None = None,
    alike: int | None = None,
    frames: int | None = None,
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
        size: Height and width in pixels; 128 by default, 64 of clips.
        classes: Only these classes; repeat for several. All 24 by default.
        second: How often a second object of another class stands behind.
        occluded: How often something is put before the main object, unless it would hide what tells the class.
        watermark: A class that a watermark goes with; no watermark by default.
        probability: How often a picture of that class carries it; always by default.
        elsewhere: How often a picture of another class does; never by default.
        views: Draw individuals that come again, so many pictures of each, one after the other; the truth names them.
        alike: How many individuals only their markings tell apart; 4 by default, 1 in clips.
        frames: Draw clips of so many frames instead, a folder each, of individuals that come again in --views (2 by
            default); DIR/clips.jsonl says which frames of each decide.
        json: Print the summary as JSON.
    """
    from seewhy.scenes import CLASSES, Pairs, Scenes, Watermark
    from seewhy.scenes.files import Kept, write

    if watermark is None and (probability, elsewhere) != (None, None):
        raise UsageError("--probability and --elsewhere are those of a --watermark CLASS")
    mark = None
    if watermark is not None:
        mark = Watermark(watermark, 1.0 if probability is None else probability, elsewhere or 0.0)
    if frames is not None:
        if mark or count % (views or 2):
            raise UsageError(
                "--count must be a multiple of --views, and a --watermark does not go with --frames"
            )
        made = ClipFolders(count, seed, size or 64, tuple(classes or CLASSES), views or 2, alike or 1, frames)
        made.write(out)
        summary = {"out": str(out), "count": count, "frames": frames}
        print(to_json.dumps(summary, indent=1) if json else f"{count} clips of {frames} frames in {out}")
        return
    if alike is not None and views is None:
        raise UsageError("--alike is that of individuals, which come in --views")
    if views and (mark or count % views):
        raise UsageError("--count must be a multiple of --views, and a --watermark goes with classes only")
    kinds = tuple(classes or CLASSES)
    drawn: Scenes | Pairs
    try:
        if views is None:
            drawn = Scenes(count, seed, size or 128, kinds, second, occluded, mark)
        else:
            individuals = count // max(views, 1)
            drawn = Pairs(
                individuals, views, seed, size or 128, kinds, 4 if alike is None else alike, second, occluded
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
