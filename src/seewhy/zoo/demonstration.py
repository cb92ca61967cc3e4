"""The demonstration: two networks see the same scenes, and their maps give the cheat away."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from seewhy import __version__
from seewhy.evaluation.planted_truth import PlantedTruth, planted_truth
from seewhy.explainers.base import explain_all
from seewhy.explanation import Explanations
from seewhy.network.images import Images
from seewhy.network.load import load
from seewhy.network.network import Network
from seewhy.render import Report, panels
from seewhy.scenes import CLASSES, Scene, Scenes, Watermark
from seewhy.zoo.demo import FAULT, SHOWN_SEED

NETWORKS = ("demo", "demo-shortcut")
METHODS = ("grad-cam", "grad-cam++", "layer-cam")
SUSPICIOUS = 5.0  # times its share of area that a mark's share of evidence must reach
STEPS = 2 * len(NETWORKS) + 1


@dataclass(frozen=True)
class Finding:
    """What one method says of one network, over scenes with the mark.

    Attributes:
        network, method: whose map.
        on_mark: median share of positive evidence on the watermark.
        mark: median share of the picture that the watermark covers.
        on_object: median share of positive evidence on the object.
        object: median share of the picture that the object covers.
    """

    network: str
    method: str
    on_mark: float
    mark: float
    on_object: float
    object: float

    @property
    def times(self) -> float:
        """How many times its area the mark's share of evidence is."""
        return self.on_mark / self.mark

    @property
    def suspicious(self) -> bool:
        """Whether this is far more than an irrelevant mark would get."""
        return self.times >= SUSPICIOUS


@dataclass(frozen=True)
class Accuracy:
    """How one network answers.

    Attributes:
        network: its name.
        without_mark, with_mark: share of the class's scenes that it names right.
        others_called_it: share of other classes' scenes that it takes for the class once they carry the mark.
    """

    network: str
    without_mark: float
    with_mark: float
    others_called_it: float


@dataclass(frozen=True)
class Findings:
    """The demonstration's result.

    Attributes:
        label: the class that the mark goes with.
        scenes: how many pictures each figure is of.
        findings: per network and method.
        accuracies: per network.
        report: the page that shows it.
    """

    label: str
    scenes: int
    findings: tuple[Finding, ...]
    accuracies: tuple[Accuracy, ...]
    report: Path

    def caught(self) -> list[str]:
        """The networks that all methods accuse."""
        names = dict.fromkeys(each.network for each in self.findings)
        return [name for name in names if all(f.suspicious for f in self.findings if f.network == name)]

    def verdict(self) -> str:
        """One sentence."""
        caught = self.caught()
        if not caught:
            return f"No network is accused by every method of looking at the watermark for {self.label!r}."
        least = min(f.times for f in self.findings if f.network in caught)
        return (
            f"{' and '.join(caught)} looks at the watermark, not at the {self.label}: by every method it holds at "
            f"least {math.floor(least)} times the evidence that its area would."
        )

    def tables(self) -> list[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
        """Title, head and rows of the two tables that people read."""
        evidence = [
            (
                f.network,
                f.method,
                f"{f.on_mark:.1%}",
                f"{f.times:.1f}",
                f"{f.on_object:.1%}",
                f"{f.on_object / f.object:.1f}",
            )
            for f in self.findings
        ]
        answers = [
            (a.network, f"{a.with_mark:.0%}", f"{a.without_mark:.0%}", f"{a.others_called_it:.0%}")
            for a in self.accuracies
        ]
        name = self.label
        return [
            (
                f"Where the evidence for {name!r} lies: medians over {self.scenes} scenes of it, with the watermark",
                ("network", "method", "on the mark", "times its area", "on the object", "times its area"),
                evidence,
            ),
            (
                f"What happens without the mark, and with it elsewhere: {self.scenes} scenes each",
                ("network", f"{name} with mark", f"{name} without", f"others with mark called {name}"),
                answers,
            ),
        ]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "label": self.label,
            "scenes": self.scenes,
            "caught": self.caught(),
            "verdict": self.verdict(),
            "findings": [
                asdict(each) | {"times": each.times, "suspicious": each.suspicious} for each in self.findings
            ],
            "accuracies": [asdict(each) for each in self.accuracies],
            "report": str(self.report),
        }


def demonstrate(
    out: Path,
    count: int = 100,
    shown: int = 6,
    methods: Sequence[str] = METHODS,
    step: Callable[[], None] = lambda: None,
) -> Findings:
    """Explain the same scenes by both bundled networks, measure, and write `report.html` and the scenes shown.

    Args:
        out: folder for the report, and for the scenes that it shows.
        count: scenes with the mark that the figures are of.
        shown: how many of them the report shows, each beside a marked scene of another class.
        methods: registry names.
        step: called after each of `STEPS` steps.
    """
    mark = Watermark(FAULT, elsewhere=1.0)
    scenes = Scenes(count, SHOWN_SEED, classes=(FAULT,), watermark=mark)
    own, bare = list(scenes), list(replace(scenes, watermark=None))
    others = list(replace(scenes, classes=tuple(each for each in CLASSES if each != FAULT)))
    networks = [load(name) for name in NETWORKS]
    findings, accuracies = [], []
    for network in networks:
        measured = planted_truth(methods, network, own)
        findings += [_finding(measured, method) for method in methods]
        step()
        without, elsewhere = (_called_fault(network, each) for each in (bare, others))
        accuracies.append(Accuracy(network.name, without, measured.accuracy, elsewhere))
        step()
    found = Findings(FAULT, count, tuple(findings), tuple(accuracies), out / "report.html")
    chosen = [each for pair in zip(own[:shown], others[:shown], strict=True) for each in pair]
    _report(found, networks, methods, chosen, out / "scenes").save(found.report)
    step()
    return found


def _finding(measured: PlantedTruth, method: str) -> Finding:
    shares = [
        measured[name].median(measure) for measure in ("shortcut", "object") for name in (method, "constant")
    ]
    return Finding(measured.network, method, *shares)


def _called_fault(network: Network, scenes: Sequence[Scene]) -> float:
    """Share of the scenes that a network takes for the class with the fault."""
    said = _said(network, network.read([scene.image for scene in scenes]))
    return said.count(network.class_index(FAULT)) / len(said)


def _said(network: Network, images: Images) -> list[int]:
    """The number of the class that a network gives each picture."""
    found: list[int] = network(images.pixels.to(network.device)).argmax(1).tolist()
    return found


def _explained(
    network: Network, paths: Sequence[Path], scenes: Sequence[Scene], methods: Sequence[str]
) -> Explanations:
    """Maps for the class with the fault where it is shown, for what the network says elsewhere."""
    images = network.read(paths)
    targets = [
        FAULT if scene.truth.label == FAULT else answer
        for scene, answer in zip(scenes, _said(network, images), strict=True)
    ]
    return explain_all(network, images, methods, target=targets)


def _report(
    found: Findings,
    networks: Sequence[Network],
    methods: Sequence[str],
    scenes: Sequence[Scene],
    folder: Path,
) -> Report:
    """Both networks' maps of the same scenes side by side, under the tables of figures."""
    paths = []
    folder.mkdir(parents=True, exist_ok=True)
    for name in CLASSES:
        for old in folder.glob(f"[0-9][0-9]-{name.replace(' ', '-')}.png"):  # of an earlier run
            old.unlink()
    for number, scene in enumerate(scenes):
        paths.append(folder / f"{number:02d}-{scene.truth.label.replace(' ', '-')}.png")
        scene.image.save(paths[-1])
    explained = {
        network.name: list(_explained(network, paths, scenes, methods).values()) for network in networks
    }
    facts = {
        "Question": f"Which network knows a {found.label} by its looks, and which by a watermark?",
        "Answer": found.verdict(),
        "Networks": "; ".join(f"{network.name}, sha256 {network.digest[:12]}" for network in networks),
        "Version": f"seewhy {__version__}",
        "Command": "seewhy demo",
    }
    report = Report(
        "A network that cheats, and one that does not", facts, panels.side_by_side_methods(explained)
    )
    for title, head, rows in found.tables():
        report.table(title, head, rows)
    for number, scene in enumerate(scenes):
        report.add(panels.side_by_side(explained, number, truth=scene.truth.label))
    return report
