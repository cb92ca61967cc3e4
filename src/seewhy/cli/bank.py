"""`seewhy bank`: weights of training pictures, so that serving needs no back-propagation."""

from __future__ import annotations

import json as to_json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cyclopts import App

from seewhy.cli.options import Model, read_dataset
from seewhy.cli.progress import resumable
from seewhy.errors import InputError, UsageError

if TYPE_CHECKING:
    from seewhy.datasets import Manifest
    from seewhy.store import Counts

bank = App(name="bank", help="Weights of training pictures, so that serving needs no back-propagation.")


@bank.command
def build(
    data: Path,
    *,
    model: Model,
    out: Path,
    layer: str | None = None,
    miner: Literal["random", "hard", "semi-hard"] = "random",
    triplets: int = 32,
    margin: float = 0.2,
    tolerance: float | None = None,
    top_k: int = 50,
    clusters: int | None = None,
    normalize: bool = False,
    weights_format: Literal["float16", "float32"] = "float16",
    kind: str = "auto",
    split: str | None = None,
    label_by: str | None = None,
    batch_size: int = 48,
    seed: int = 0,
    json: bool = False,
) -> int:
    """Build a bank from a dataset with labels: a forward and a backward of the head for each picture.

    The same command again goes on where it was stopped.

    Args:
        data: A folder of classes, a CSV, or a dataset.
        out: Folder of the bank; made if need be.
        layer: Layer, by dotted name; the last feature map that counts by default.
        miner: Which triplets: random, hard or semi-hard ones.
        triplets: Triplets per picture; any number takes one backward pass.
        margin: Of the triplet loss, in squared distance.
        tolerance: Labels are values, and those within it belong together; by default labels are classes.
        top_k: Channels kept of each picture.
        clusters: Keep the mean weights of so many clusters instead (needs scikit-learn).
        normalize: Bring embeddings to unit length, so that cosines decide.
        weights_format: Number format of the weights; float32 is exact, and twice as large.
        kind: How to read the dataset: auto, folder, csv, imagenet, wsol, voc, coco, houses, cub, scenes.
        split: Such as train, where the dataset has splits.
        label_by: An attribute of the main objects that says who belongs together, as `individual` of scenes in views.
        batch_size: Pictures per pass, among which triplets are chosen; a multiple of six.
        seed: Of all that is drawn.
        json: Print the counts as JSON.
    """
    from pydantic import ValidationError

    from seewhy.embedding.building import build_bank
    from seewhy.embedding.recipe import Recipe

    try:
        recipe = Recipe.model_validate(
            {
                "layer": layer,
                "mining": {
                    "miner": miner, "triplets": triplets, "margin": margin, "tolerance": tolerance, "seed": seed,
                },
                "top_k": top_k,
                "clusters": clusters,
                "normalize": normalize,
                "weights": weights_format,
                "batch_size": batch_size,
                "seed": seed,
            }
        )  # fmt: skip
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{first['loc'][-1]}: {first['msg']}") from error
    manifest, network = _read(data, kind, split, label_by), model.load()
    return _made(
        "building",
        out,
        len(manifest.faultless),
        json,
        lambda seen: build_bank(network, manifest, out, recipe, seen),
    )


@bank.command
def append(
    data: Path,
    *,
    model: Model,
    bank: Path,
    kind: str = "auto",
    split: str | None = None,
    label_by: str | None = None,
    json: bool = False,
) -> int:
    """Add the pictures of a dataset that a bank does not have yet.

    Args:
        data: A folder of classes, a CSV, or a dataset.
        bank: Folder of the bank.
        kind: How to read the dataset: auto, folder, csv, imagenet, wsol, voc, coco, houses, cub, scenes.
        split: Such as train, where the dataset has splits.
        label_by: As when it was built.
        json: Print the counts as JSON.
    """
    from seewhy.embedding.building import append_to_bank

    manifest, network = _read(data, kind, split, label_by), model.load()
    return _made(
        "appending",
        bank,
        len(manifest.faultless),
        json,
        lambda seen: append_to_bank(network, manifest, bank, seen),
    )


@bank.command
def remove(ids: list[str], *, bank: Path) -> None:
    """Let pictures no longer count.

    Args:
        ids: Of the pictures, as `seewhy bank list` shows them.
        bank: Folder of the bank.
    """
    from seewhy.embedding.building import remove_from_bank

    print(f"{remove_from_bank(bank, ids)} entries left in {bank}")


@bank.command(name="list")
def listing(bank: Path) -> None:
    """List the entries of a bank: id, label, and what was said of its weights.

    Args:
        bank: Folder of the bank.
    """
    from seewhy.embedding.bank import WeightBank

    entries = WeightBank(bank).entries
    for id, label, remark in zip(entries.ids, entries.labels, entries.remarks, strict=True):
        print(id, label, remark, sep="\t")


@bank.command
def verify(bank: Path) -> int:
    """Check every file of a bank; those that are damaged or missing are named, and the exit code is 1.

    Args:
        bank: Folder of the bank.
    """
    from seewhy.embedding.bank import WeightBank
    from seewhy.embedding.bank import verify as damaged

    if files := damaged(bank):
        print(*files, sep="\n")
        print(
            f"seewhy: {len(files)} files are damaged or missing; delete them, and build again",
            file=sys.stderr,
        )
        return 1
    print(f"whole: {len(WeightBank(bank).entries)} entries in {bank}")
    return 0


def _read(data: Path, kind: str, split: str | None, label_by: str | None) -> Manifest:
    manifest = read_dataset(data, kind, split)
    if label_by is not None:
        try:
            manifest = manifest.labelled_by(label_by)
        except InputError as error:
            raise UsageError(f"--label-by: {error}") from error
    for row in manifest.errors[:10]:
        print(f"seewhy: {row}", file=sys.stderr)
    return manifest


def _made(
    doing: str, folder: Path, total: int, json: bool, run: Callable[[Callable[[Counts], object]], Counts]
) -> int:
    """Run it with a progress bar, and say how many pictures were done and failed."""
    before = 0
    with resumable(doing, total) as advance:

        def seen(counts: Counts) -> None:
            nonlocal before
            advance(counts.done + counts.failed - before)
            before = counts.done + counts.failed

        counts = run(seen)
    found = {"asked": counts.asked, "done": counts.done, "failed": counts.failed, "bank": str(folder)}
    if json:
        print(to_json.dumps(found, indent=1))
    else:
        print(f"{counts.asked} asked = {counts.done} done + {counts.failed} failed, in {folder}")
    return 3 if counts.failed else 0
