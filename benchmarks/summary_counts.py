"""Do better networks have more summaries? `python -m benchmarks.summary_counts --write` writes the docs' table.

Networks of the demo's architecture learn small scenes for longer or shorter, from more or fewer of them. All are asked
about the same pictures, whether they get them right or not, and their summaries are counted among all their regions and
among as many as the network with the fewest has. Every network is kept under `--out`; some ten minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from benchmarks import page
from seewhy import CrispMask, Network, Preprocess, Scenes
from seewhy.evaluation.similarity import spearman
from seewhy.network.memory import keep_memory
from seewhy.render.markdown import markdown_table
from seewhy.scenes import CLASSES
from seewhy.summaries.descriptors import Descriptors
from seewhy.summaries.proposals import proposed
from seewhy.summaries.result import Subject, Summaries
from seewhy.summaries.summarize import Recipe, summarized
from seewhy.summaries.visible import visible
from seewhy.zoo.architecture import build
from seewhy.zoo.demo import TRAINING_SEED, UNSEEN_SEED
from seewhy.zoo.train import Recipe as Training
from seewhy.zoo.train import block, fit, predicted

MODULE = "benchmarks.summary_counts"
LEARNT = ("cat", "rabbit", "fish", "whale", "car", "truck", "hammer", "axe")
SUMMARISED = ("cat", "car", "hammer")
SIZE, UNSEEN, PICTURES, DRAWS, RESAMPLES = 64, 400, 16, 2, 2000
RECIPE = Recipe(mask=CrispMask(smooth=40, sharp=20), descriptors=Descriptors(crops=16))
TRAININGS = tuple(
    Training(scenes=scenes, epochs=epochs, batch=32, seed=seed)
    for scenes, epochs, seed in (
        (500, 3, 0), (700, 3, 1), (1000, 3, 0), (1400, 3, 1), (2000, 3, 0), (2600, 3, 1), (3500, 3, 0), (4500, 4, 1),
        (6000, 4, 1), (6000, 5, 0), (6000, 10, 2),
    )
)  # fmt: skip
RANDOM = "random weights"


@dataclass(frozen=True, eq=False)
class Learner:
    """A network and its masks.

    Attributes:
        name: what it learnt from.
        accuracy: on unseen scenes.
        network: in eval mode.
        masks: (K, N, H, W) of the summarised classes' pictures.
    """

    name: str
    accuracy: float
    network: Network
    masks: Float[np.ndarray, "K N H W"]


@dataclass(frozen=True)
class Counts:
    """Means over classes.

    Attributes:
        regions: of a class, as many as there were.
        clusters: of these.
        summaries: of these that count.
        matched_clusters: among as many regions as any network has.
        matched_summaries: that count among so many.
        elsewhere: that count among the same masks, each moved to a random place.
    """

    regions: float
    clusters: float
    summaries: float
    matched_clusters: float
    matched_summaries: float
    elsewhere: float


def learners(out: Path) -> Iterator[Learner]:
    """All networks, trained and explained unless that was kept; one of random weights comes last."""
    most = max(each.scenes for each in TRAININGS)
    pool = [_drawn(most, TRAINING_SEED), _drawn(UNSEEN, UNSEEN_SEED)] if not _kept(out) else []
    for recipe in (*TRAININGS, None):
        name = RANDOM if recipe is None else f"{recipe.scenes} x {recipe.epochs}, seed {recipe.seed}"
        file = _file(out, name)
        if not file.exists():
            torch.manual_seed(0)
            module: nn.Module = build(len(CLASSES)).eval()
            if recipe is not None:
                pixels, labels = (each[: recipe.scenes] for each in pool[0])
                module = fit(pixels, labels, recipe, lambda line: None)
            accuracy = float((predicted(module, pool[1][0]) == pool[1][1]).float().mean())
            masks = np.stack([_masks(_network(module), label) for label in SUMMARISED])
            kept = {"weights": module.state_dict(), "accuracy": accuracy, "masks": torch.from_numpy(masks)}
            out.mkdir(parents=True, exist_ok=True)
            torch.save(kept, file.with_suffix(".part"))
            file.with_suffix(".part").rename(file)
            print(f"{name}: {accuracy:.1%} right", flush=True)
        found = torch.load(file, weights_only=True)
        module = build(len(CLASSES)).eval()
        module.load_state_dict(found["weights"])
        yield Learner(name, found["accuracy"], _network(module), found["masks"].numpy())


def counted(every: Sequence[Learner], out: Path) -> dict[str, Counts]:
    """The counts of all networks, unless they are kept; the number of regions is matched among those that learnt."""
    regions = {each.name: [_regions(own) for own in each.masks] for each in every}
    least = [
        min(len(regions[each.name][place]) for each in every if each.name != RANDOM)
        for place in range(len(SUMMARISED))
    ]
    found = {}
    for each in every:
        file = _file(out, each.name).with_suffix(".json")
        if not file.exists() or json.loads(file.read_text())["least"] != least:
            counts = _counts(each, regions[each.name], least)
            file.write_text(json.dumps({"least": least, "counts": asdict(counts)}))
            print(f"{each.name}: {counts}", flush=True)
        found[each.name] = Counts(**json.loads(file.read_text())["counts"])
    return found


def correlation(accuracy: Sequence[float], counts: Sequence[float]) -> tuple[float, float, float]:
    """Spearman's rank correlation with its 95 % bootstrap interval over networks."""
    pairs = torch.tensor([accuracy, counts], dtype=torch.float64)
    rows = torch.randint(
        pairs.shape[1], (RESAMPLES, pairs.shape[1]), generator=torch.Generator().manual_seed(0)
    )
    drawn = spearman(pairs[0][rows], pairs[1][rows])
    low, high = drawn.nan_to_num(0.0).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return float(spearman(pairs[0], pairs[1]).nan_to_num(0.0)), low, high


def text(every: Sequence[Learner], counts: Mapping[str, Counts]) -> Iterator[str]:
    """What the page says, by paragraphs."""
    yield page.provenance(f"python -m {MODULE} --write", ["torch", "seewhy"])
    columns = {
        "regions": "regions",
        "clusters": "clusters",
        "summaries": "that count",
        "matched_clusters": "clusters, regions matched",
        "matched_summaries": "that count, regions matched",
        "elsewhere": "that count, masks moved at random",
    }
    rows = [
        [each.name, f"{each.accuracy:.1%}", *(f"{getattr(counts[each.name], name):.1f}" for name in columns)]
        for each in sorted(every, key=lambda each: (each.name == RANDOM, each.accuracy))
    ]
    learnt = [each for each in every if each.name != RANDOM]
    half = [each for each in learnt if each.accuracy >= 0.5]
    for title, chosen in (
        ("rank correlation with accuracy", learnt),
        (f"the same, of the {len(half)} that get half right", half),
    ):
        if len(chosen) < 3:
            continue
        accuracy = [each.accuracy for each in chosen]
        found = [
            correlation(accuracy, [getattr(counts[each.name], name) for each in chosen]) for name in columns
        ]
        rows.append([title, "", *(f"{r:+.2f} [{low:+.2f}, {high:+.2f}]" for r, low, high in found)])
    yield markdown_table(["scenes x epochs", "accuracy", *columns.values()], rows)


def _file(out: Path, name: str) -> Path:
    return out / f"{name.replace(' ', '-').replace(',', '')}.pt"


def _kept(out: Path) -> bool:
    return len(list(out.glob("*.pt"))) == len(TRAININGS) + 1


def _drawn(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    pixels, labels = block(Scenes(count, seed, SIZE, LEARNT), slice(0, count))
    return torch.from_numpy(pixels), torch.tensor(labels)


def _network(module: nn.Module) -> Network:
    preprocess = Preprocess(resize=(SIZE, SIZE), mean=(0.5,) * 3, std=(0.25,) * 3)
    return Network(module, preprocess=preprocess, classes=CLASSES, name="demo architecture")


def _pictures(network: Network, label: str) -> torch.Tensor:
    scenes = Scenes(PICTURES, UNSEEN_SEED + 1000, SIZE, (label,))
    pixels: torch.Tensor = network.read([each.image for each in scenes]).pixels
    return pixels


def _masks(network: Network, label: str) -> Float[np.ndarray, "N H W"]:
    found = RECIPE.mask(network, _pictures(network, label), network.class_index(label))
    return np.asarray(found.grid()[:, 0].clamp(0, 1).numpy())


def _regions(masks: Float[np.ndarray, "N H W"]) -> list[tuple[int, np.ndarray]]:
    """The regions of a class, each with the number of its picture."""
    return [(row, part) for row, mask in enumerate(masks) for part in proposed(mask, RECIPE.proposals)[1]]


def _counts(
    learner: Learner, regions: Sequence[Sequence[tuple[int, np.ndarray]]], least: Sequence[int]
) -> Counts:
    generator = np.random.default_rng(0)
    found: list[list[float]] = []
    for label, masks, parts, few in zip(SUMMARISED, learner.masks, regions, least, strict=True):
        whole = _summaries(learner.network, label, masks)
        matched = []
        for _ in range(DRAWS):
            chosen = np.zeros_like(masks)
            for place in generator.choice(len(parts), min(few, len(parts)), replace=False):
                row, part = parts[place]
                chosen[row] = np.maximum(chosen[row], part)
            matched.append(_summaries(learner.network, label, chosen))
        shifts = generator.integers(0, SIZE, (len(masks), 2))
        moved = np.stack([np.roll(mask, shift, (0, 1)) for mask, shift in zip(masks, shifts, strict=True)])
        found.append(
            [
                len(parts),
                len(whole.summaries),
                len(whole),
                float(np.mean([len(each.summaries) for each in matched])),
                float(np.mean([len(each) for each in matched])),
                len(_summaries(learner.network, label, moved)),
            ]
        )
    return Counts(*np.mean(found, 0).tolist())


def _summaries(network: Network, label: str, masks: Float[np.ndarray, "N H W"]) -> Summaries:
    pixels = _pictures(network, label)
    subjects = [
        Subject(f"{row:03}", picture, mask, 1.0, 0.0)
        for row, (picture, mask) in enumerate(zip(visible(network, pixels), masks, strict=True))
    ]
    return summarized(network, pixels, subjects, network.class_index(label), RECIPE)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("out/summary-counts"), help="where networks are kept"
    )
    parser.add_argument("--write", action="store_true", help="write the table of the docs")
    chosen = parser.parse_args(arguments)
    keep_memory()
    every = list(learners(chosen.out))
    said = "\n\n".join(text(every, counted(every, chosen.out)))
    if chosen.write:
        page.insert(page.DOCS / "summaries.md", MODULE, said)
    else:
        print(said)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
