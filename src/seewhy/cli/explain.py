"""`seewhy explain`: maps, predictions and a report for any number of pictures."""

from __future__ import annotations

import json as to_json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from seewhy.cli.labels import Labels
from seewhy.cli.options import Model, made_by
from seewhy.cli.progress import progress
from seewhy.errors import NotApplicableError, SeewhyError, UsageError

if TYPE_CHECKING:
    from seewhy.explainers.base import Explainer
    from seewhy.explanation import Explanation
    from seewhy.network.images import Images
    from seewhy.network.network import Network
    from seewhy.render import Report
    from seewhy.targets import Target, TargetLike


def explain(
    images: Annotated[
        list[str] | None, Parameter(help="Pictures, folders, globs; - reads paths from stdin.")
    ] = None,
    *,
    model: Model,
    out: Path,
    method: list[str] | None = None,
    target: str = "predicted",
    layer: list[str] | None = None,
    labels: Path | None = None,
    signed: bool = False,
    png: bool = False,
    rows: int = 200,
    batch_size: int = 16,
    frames: str | None = None,
    clip_length: int = 8,
    every: int = 1,
    clips: int = 20,
    animation: Literal["webp", "gif", "none"] = "webp",
    json: bool = False,
) -> int:
    """Explain pictures: maps, predictions and one self-contained report.

    DIR/report.html shows the first pictures by all methods; DIR/results.json holds all predictions, scores and
    notes; DIR/maps/ the values as numpy files. What failed is listed with its reason.

    With --frames, clips: DIR/strips/ shows the frames of each, their maps and what each frame counts, DIR/animations/
    the same in motion.

    Args:
        out: Folder for the report, the results and the maps; made if need be.
        method: A method, with settings after a colon (grad-cam:layer=layer3,sign=-1, or a JSON object); repeat for
            several. `seewhy methods` lists them. Grad-CAM by default.
        target: What is explained: predicted, a class number or name, top3, or A-B for A rather than B.
        layer: A layer by name; repeat for several. `seewhy layers` lists them and the automatic choice.
        labels: CSV of file name and true class (number or name), to tell right from wrong.
        signed: Show evidence against as well, where a method has it.
        png: Also write every map as a PNG.
        rows: How many pictures the report shows; results.json always holds all.
        batch_size: Pictures per pass.
        frames: A folder of frames or a video instead of pictures, cut into clips, by --method clip-attention.
        clip_length: Frames per clip.
        every: Take every n-th frame only.
        clips: How many clips are explained at most.
        animation: Format of the animations of clips.
        json: Print the results as JSON.
    """
    from seewhy.network.images import find, stream
    from seewhy.targets import parse_target

    if frames is not None:
        from seewhy.cli.clips import clip_method, explain_clips

        if images or min(clip_length, every, clips) < 1:
            raise UsageError(
                "--frames stands instead of pictures; --clip-length, --every and --clips are at least 1"
            )
        if labels or signed or png:
            raise UsageError("--labels, --signed and --png are for pictures, not for --frames")
        own = clip_method(method or [], layer or [], "oblivious" if target == "predicted" else "class")
        asked = None if target == "predicted" else target
        return explain_clips(frames, model, own, asked, out, (clip_length, every, clips), animation, json)
    if rows < 0 or batch_size < 1:
        raise UsageError("--rows must be at least 0 and --batch-size at least 1")
    explainers = made_explainers(method or ["grad-cam"], layer)
    paths = list(find(listed(images or [])))
    if not paths:
        raise UsageError("no pictures were asked for")
    network = model.load_for_pictures()
    assert network.preprocess is not None
    try:
        question = parse_target(target, network)
    except SeewhyError as error:
        raise UsageError(f"--target {target}: {error}") from error
    truth = Labels.read(labels, network) if labels else Labels({})

    run = _Run(network, explainers, question, truth, out, rows, signed, png)
    with progress("explaining", len(paths)) as advance:
        for batch in stream(paths, network.preprocess, batch_size):
            run.batch(batch)
            advance(batch.asked)
    results = run.finish(asked=len(paths))
    if labels and not results["labelled"]:
        print(
            f"none of the {len(truth.classes)} files that {labels} names is among the pictures",
            file=sys.stderr,
        )
    print(to_json.dumps(results, indent=1) if json else run.summary(results))
    return 3 if run.failed else 0


@dataclass
class _Run:
    """What accumulates while batches go by; pictures and maps are written out, not kept."""

    network: Network
    explainers: list[Explainer]
    target: Target
    truth: Labels
    out: Path
    rows: int
    signed: bool
    png: bool
    items: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    report: Report | None = None

    def __post_init__(self) -> None:
        (self.out / "maps").mkdir(parents=True, exist_ok=True)

    def batch(self, images: Images) -> None:
        """Explain one batch and write what came of it."""
        from seewhy.render import panels

        self.failed += [{"path": failure.path, "reason": failure.reason} for failure in images.failed]
        if not len(images):
            return
        found = explained(self.network, images, self.explainers, self.target, self.refused)
        if self.report is None:
            self.report = self._new_report(found)
        first = len(self.items)
        maps = f"maps/{first:06d}"
        for each, name in zip(found, panels.column_names(found), strict=True):
            each.to_npz(self.out / f"{maps}--{name}.npz")
        for index, path in enumerate(images.paths):
            verdict = self.truth.verdict(path, found[0].predictions[index])
            self.items.append(_item(found, index, path, f"{maps}--METHOD.npz") | verdict)
            if len(self.items) <= self.rows:
                self.report.add(panels.row(found, index, self.signed, **verdict))
            else:
                self.report.count(verdict.get("correct"))
        if self.png:
            folder = self.out / "png"
            folder.mkdir(exist_ok=True)
            for each, name in zip(found, panels.column_names(found), strict=True):
                panels.save_panels(each, folder, first, self.signed, name)

    def _new_report(self, found: list[Explanation]) -> Report:
        from seewhy.render import Report, panels

        network, first = self.network, found[0]
        parameters = sum(each.numel() for each in network.module.parameters())
        layers = ", ".join(dict.fromkeys(str(site) for each in found for site in each.maps))
        assert network.preprocess is not None
        facts = {
            "Network": f"{network.name}, {parameters / 1e6:.3g} million parameters, sha256 {first.digest[:12]}",
            "Preprocessing": _shown(network.preprocess.model_dump(exclude_defaults=True)),
            "Layer": f"{layers} ({first.reason})",
            **made_by(),
        }
        report = Report(f"Why {network.name} decides so", facts, panels.methods(found))
        for note in [*network.notes, *(f"{name} left out: {why}" for name, why in self.refused.items())]:
            report.note(note)
        return report

    def finish(self, asked: int) -> dict[str, Any]:
        """Write the report and the results, and return them."""
        if self.report is None:
            reasons = "; ".join(f"{item['path']}: {item['reason']}" for item in self.failed[:3])
            raise SeewhyError(f"none of the {asked} pictures could be explained: {reasons}")
        for item in self.failed:
            self.report.fail(item["path"], item["reason"])
        self.report.save(self.out / "report.html")
        verdicts = [item["correct"] for item in self.items if "correct" in item]
        results = {
            "network": self.network.name,
            "digest": self.network.digest,
            "target": repr(self.target),
            "methods": [each.model_dump(mode="json") for each in self.explainers],
            "refused": self.refused,
            "asked": asked,
            "explained": len(self.items),
            "failed": self.failed,
            "labelled": len(verdicts),
            "top1": sum(verdicts) / len(verdicts) if verdicts else None,
            "report": str(self.out / "report.html"),
            "items": self.items,
        }
        (self.out / "results.json").write_text(to_json.dumps(results, indent=1) + "\n", encoding="utf-8")
        return results

    def summary(self, results: dict[str, Any]) -> str:
        """A few lines for a terminal."""
        lines = [f"{results['asked']} asked = {results['explained']} explained + {len(self.failed)} failed"]
        if results["top1"] is not None:
            lines.append(f"top-1 accuracy {results['top1']:.3f} of {results['labelled']} labelled pictures")
        lines += [f"failed: {item['path']}: {item['reason']}" for item in self.failed[:10]]
        return "\n".join([*lines, f"report: {results['report']}"])


def explained(
    network: Network, images: Images, explainers: list[Explainer], target: TargetLike, refused: dict[str, str]
) -> list[Explanation]:
    """All methods; one that is not defined for this network is dropped, and `refused` says why."""
    from seewhy.explainers.base import explain_all

    while True:
        try:
            return list(explain_all(network, images, explainers, target).values())
        except NotApplicableError as error:
            if error.place is None or len(explainers) == 1:
                raise
            name = explainers.pop(error.place).name
            refused[name] = str(error)
            print(f"seewhy: {network.name}: {name} left out: {error}", file=sys.stderr)


def made_explainers(specs: list[str], layers: list[str] | None = None) -> list[Explainer]:
    """The methods that the command line names.

    Raises:
        UsageError: there is no such method or setting.
    """
    from seewhy.explainers.base import make

    settings = {"layer": layers[0] if len(layers) == 1 else layers} if layers else {}
    try:
        return [make(spec, **settings) for spec in specs]
    except SeewhyError as error:
        raise UsageError(str(error)) from error


def listed(images: Iterable[str]) -> Iterator[str]:
    """The patterns, with `-` replaced by the lines of stdin."""
    from seewhy.cli import STDIN

    for pattern in images:
        if pattern == STDIN:
            yield from (line.rstrip("\r\n") for line in sys.stdin if line.strip())
        else:
            yield pattern


def _item(found: list[Explanation], index: int, path: str, maps: str) -> dict[str, Any]:
    """One picture's line in results.json."""
    return {
        "path": path,
        "predictions": [each._asdict() for each in found[0].predictions[index]],
        "maps": maps,
        "explanations": [
            {
                "method": each.method,
                "targets": [
                    {"label": label, "score": score}
                    for label, score in zip(each.labels[index], each.scores[index].tolist(), strict=True)
                ],
                "layers": [str(site) for site in each.maps],
                "notes": each.notes[index],
            }
            for each in found
        ],
    }


def _shown(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())
