"""`seewhy compare`: several networks side by side on the same pictures."""

from __future__ import annotations

import json as to_json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from seewhy.cli.explain import explained, listed, made_explainers
from seewhy.cli.labels import Labels
from seewhy.cli.options import Model, Models, made_by, read_dataset
from seewhy.cli.progress import progress
from seewhy.errors import InputError, SeewhyError, UsageError

if TYPE_CHECKING:
    from seewhy.datasets import Manifest
    from seewhy.evaluation.answers import Answers
    from seewhy.explainers.base import Explainer
    from seewhy.explanation import Explanation
    from seewhy.network.network import Network
    from seewhy.render import MethodInfo, Report
    from seewhy.targets import TargetLike

LABEL = "label"
METHODS = ("lrp", "salient-relevance:preset=blurred", "salient-relevance")
"""What is shown by default: Salient Relevance, the map that it is made of, and the blur that it must be better than."""
Only = Literal["all", "disagree", "all-right", "all-wrong", "some-right", "first-right", "first-wrong"]


def compare(
    images: Annotated[
        list[str] | None, Parameter(help="Pictures, folders, globs; - reads paths from stdin.")
    ] = None,
    *,
    models: Models,
    method: list[str] | None = None,
    only: Only = "all",
    target: str = "predicted",
    labels: Path | None = None,
    dataset: Path | None = None,
    kind: str = "auto",
    split: str | None = None,
    out: Path = Path("seewhy-compare"),
    signed: bool = False,
    rows: int = 50,
    batch_size: int = 16,
    json: bool = False,
) -> int:
    """See several networks side by side on the same pictures: what each says, who is right, and why.

    All networks answer all pictures; the first of those that `--only` leaves are explained, each for what the network
    itself says. DIR/report.html shows them, a column per network; DIR/results.json holds all answers; DIR/maps/ the
    values as numpy files.

    Args:
        method: A method, with settings after a colon; repeat for several. By default LRP, its blurred magnitude and
            Salient Relevance, which share a pass.
        only: Which pictures: all, those whose networks disagree, all-right, all-wrong, some-right, first-right (and
            all others wrong) or first-wrong (and all others right). All but the first two need true classes.
        target: What is explained: predicted, label (the true class), a class number or name, top3, or A-B.
        labels: CSV of file name and true class (number or name).
        dataset: Pictures and their true classes instead: whatever `seewhy evaluate` reads.
        kind: How to read the dataset: auto, folder, csv, imagenet, wsol, voc, coco, houses, cub, scenes.
        split: Such as val, where the dataset has splits.
        out: Folder for the report, the results and the maps; made if need be.
        signed: Show evidence against as well, where a method has it.
        rows: How many of the pictures are explained and shown; results.json holds all answers.
        batch_size: Pictures per pass.
        json: Print the results as JSON.
    """
    from seewhy import registry
    from seewhy.evaluation.answers import answers
    from seewhy.network.images import find

    if len(models.model) < 2:
        raise UsageError("give two networks or more: --model A --model B")
    if rows < 0 or batch_size < 1:
        raise UsageError("--rows must be at least 0 and --batch-size at least 1")
    if (dataset is None) == (not images):
        raise UsageError("give pictures, or a --dataset; one of the two")
    if dataset is not None and labels is not None:
        raise UsageError("a --dataset has labels of its own; leave --labels out")
    explainers = made_explainers(method or list(METHODS))
    manifest = None if dataset is None else read_dataset(dataset, kind, split)
    if manifest is None:
        paths = list(dict.fromkeys(find(listed(images or ()))))
    else:
        paths = [str(each.path) for each in manifest.faultless]
    if not paths:
        raise UsageError("no pictures were asked for")
    networks = [each.load_for_pictures() for each in Model.each(models)]
    names = registry.numbered(_short(each.name) for each in networks)
    truths = [_truth(network, paths, manifest, labels) for network in networks]
    with progress("asking", len(paths) * len(networks)) as advance:
        found = answers(networks, paths, truths, batch_size, advance)
    if not found.of:
        reasons = "; ".join(f"{each.path}: {each.reason}" for each in found.failed[:3])
        raise SeewhyError(f"none of the {len(paths)} pictures could be read: {reasons}")
    try:
        chosen = found.chosen(only)
    except InputError as error:
        raise UsageError(f"--only {only}: {error}; give --labels CSV or --dataset FOLDER") from error
    run = _Run(dict(zip(names, networks, strict=True)), truths, explainers, target, found, out, signed)
    shown = chosen[:rows]
    with progress("explaining", len(shown)) as advance:
        for start in range(0, len(shown), batch_size):
            run.batch(shown[start : start + batch_size])
            advance(len(shown[start : start + batch_size]))
    faults = [] if manifest is None else [str(each) for each in manifest.errors]
    results = run.finish(len(paths), only, chosen, faults)
    print(to_json.dumps(results, indent=1) if json else run.summary(results))
    return 3 if found.failed or faults else 0


@dataclass
class _Run:
    """What accumulates while batches go by; pictures and maps are written out, not kept."""

    networks: Mapping[str, Network]
    truths: Sequence[Mapping[str, int]]
    explainers: list[Explainer]
    target: str
    answers: Answers
    out: Path
    signed: bool
    maps: dict[str, str] = field(default_factory=dict)
    refused: dict[str, dict[str, str]] = field(default_factory=dict)
    report: Report | None = None

    def __post_init__(self) -> None:
        (self.out / "maps").mkdir(parents=True, exist_ok=True)
        self._own = {name: list(self.explainers) for name in self.networks}

    def batch(self, paths: Sequence[str]) -> None:
        """Explain some pictures by all networks, and write what came of it."""
        from seewhy.render import panels

        found = {
            name: self._explained(name, truth, paths)
            for name, truth in zip(self.networks, self.truths, strict=True)
        }
        if self.report is None:
            self.report = self._new_report(panels.side_by_side_methods(found), found)
        first = f"maps/{len(self.maps):06d}"
        for number, each in enumerate(found.values()):
            for explanation, column in zip(each, panels.column_names(each), strict=True):
                explanation.to_npz(self.out / f"{first}--{number}--{column}.npz")
        self.maps |= dict.fromkeys(paths, f"{first}--NETWORK--METHOD.npz")
        for index, path in enumerate(paths):
            correct = [each.correct for each in self.answers.of[path]]
            self.report.add(panels.side_by_side(found, index, self.signed, self._true(path), correct))

    def _explained(self, name: str, truth: Mapping[str, int], paths: Sequence[str]) -> list[Explanation]:
        """One network's maps.

        Raises:
            UsageError: it cannot be asked for the target.
            SeewhyError: no method is defined for it.
        """
        network = self.networks[name]
        question = self._question(network, truth, paths)
        try:
            images = network.read(paths)
            if images.failed:  # they were read when the networks were asked, so only their sizes can differ
                failure = images.failed[0]
                raise SeewhyError(f"{failure.path}: {failure.reason} (--batch-size 1)")
            return explained(network, images, self._own[name], question, self.refused.setdefault(name, {}))
        except SeewhyError as error:
            raise SeewhyError(f"{name}: {error}") from error

    def _question(self, network: Network, truth: Mapping[str, int], paths: Sequence[str]) -> TargetLike:
        """What a network is asked of some pictures.

        Raises:
            UsageError: it cannot be asked that.
        """
        from seewhy.targets import parse_target

        if self.target == LABEL:
            if unknown := [path for path in paths if path not in truth]:
                raise UsageError(f"--target {LABEL}: the true class of {unknown[0]} is not known")
            return [truth[path] for path in paths]
        try:
            return parse_target(self.target, network)
        except SeewhyError as error:
            raise UsageError(f"--target {self.target}: {error}") from error

    def _true(self, path: str) -> str | None:
        """A picture's true class, as the first network that knows it calls it."""
        for network, truth in zip(self.networks.values(), self.truths, strict=True):
            if path in truth:
                return network.class_name(truth[path])
        return None

    def _new_report(
        self, columns: Sequence[MethodInfo], found: Mapping[str, Sequence[Explanation]]
    ) -> Report:
        from seewhy.render import Report

        answered, failed = len(self.answers.of), len(self.answers.failed)
        layers = {
            name: ", ".join(dict.fromkeys(str(site) for one in each for site in one.maps))
            for name, each in found.items()
        }
        facts = {
            "Explained": f"{self.target}, of each network by itself",
            "Layers": "; ".join(f"{name}: {where}" for name, where in layers.items()),
            **made_by(),
        }
        lead = f"{answered + failed} asked = {answered} answered + {failed} failed"
        report = Report(f"Side by side: {', '.join(self.networks)}", facts, columns, lead)
        report.table(
            "Networks",
            ["network", "million parameters", "right", "input", "sha256"],
            list(self._table()),
        )
        counts = self.answers.counts()
        report.table(
            "Pictures",
            ["which", "pictures"],
            [[name, str(count)] for name, count in counts.items() if name != "all"],
        )
        for network in self.networks.values():
            for note in network.notes:
                report.note(f"{network.name}: {note}")
        return report

    def _table(self) -> Iterator[list[str]]:
        for number, (name, network) in enumerate(self.networks.items()):
            parameters = sum(each.numel() for each in network.module.parameters()) / 1e6
            right, known = self.answers.right(number)
            share = f"{right} of {known} ({right / known:.1%})" if known else "not known"
            size = network.preprocess.input_size if network.preprocess else None
            shape = "any" if size is None else " x ".join(map(str, size))
            yield [name, f"{parameters:.3g}", share, shape, network.digest[:12]]

    def finish(self, asked: int, only: str, chosen: Sequence[str], faults: Sequence[str]) -> dict[str, Any]:
        """Write the report, where any picture fits, and the results, and return them."""
        report = self.report
        if report is not None:
            if len(self.maps) < len(chosen):
                report.note(
                    f"The first {len(self.maps)} of {len(chosen)} pictures are shown (--only {only})."
                )
            for name, refused in self.refused.items():
                for method, why in refused.items():
                    report.note(f"{name}: {method} left out: {why}")
            for failure in self.answers.failed:
                report.fail(failure.path, failure.reason)
            for fault in faults:
                report.note(fault)
            report.save(self.out / "report.html")
        results = {
            "networks": [
                {
                    "name": name,
                    "loaded": network.name,
                    "digest": network.digest,
                    "right": self.answers.right(number)[0],
                    "labelled": self.answers.right(number)[1],
                    "refused": self.refused.get(name, {}),
                }
                for number, (name, network) in enumerate(self.networks.items())
            ],
            "methods": [each.model_dump(mode="json") for each in self.explainers],
            "target": self.target,
            "asked": asked,
            "answered": len(self.answers.of),
            "failed": [{"path": each.path, "reason": each.reason} for each in self.answers.failed],
            "faults": list(faults),
            "only": only,
            "counts": self.answers.counts(),
            "chosen": len(chosen),
            "explained": len(self.maps),
            "report": None if report is None else str(self.out / "report.html"),
            "items": [
                {
                    "path": path,
                    "truth": self._true(path),
                    "answers": [{**one.best._asdict(), "correct": one.correct} for one in said],
                    "maps": self.maps.get(path),
                }
                for path, said in self.answers.of.items()
            ],
        }
        (self.out / "results.json").write_text(to_json.dumps(results, indent=1) + "\n", encoding="utf-8")
        return results

    def summary(self, results: dict[str, Any]) -> str:
        """A few lines for a terminal."""
        lines = [
            f"{results['asked']} asked = {results['answered']} answered + {len(results['failed'])} failed",
            *(
                f"{each['name']}: {each['right']} of {each['labelled']} right"
                for each in results["networks"]
                if each["labelled"]
            ),
            ", ".join(f"{count} {which}" for which, count in results["counts"].items()),
            *(f"failed: {each['path']}: {each['reason']}" for each in results["failed"][:10]),
        ]
        what = f"explained: {results['explained']} of {results['chosen']} (--only {results['only']})"
        where = f"report: {results['report']}" if results["report"] else "no report: nothing to show"
        return "\n".join([*lines, what, where])


def _truth(
    network: Network, paths: Sequence[str], manifest: Manifest | None, labels: Path | None
) -> dict[str, int]:
    """The network's number of the true class, by path, where it is known.

    Raises:
        UsageError: the network has no such class.
    """
    if manifest is not None:
        from seewhy.evaluation.subjects import class_of

        try:
            return {
                str(each.path): class_of(each, manifest, network)
                for each in manifest.faultless
                if each.labels
            }
        except SeewhyError as error:
            raise UsageError(f"--dataset {manifest.root}: {error}") from error
    known = Labels.read(labels, network) if labels else Labels({})
    return {path: found[0] for path in paths if (found := known.known(path)) is not None}


def _short(name: str) -> str:
    """What a network is called in a column: of a file its name."""
    return Path(name.removeprefix("file:")).stem if name.startswith("file:") else name
