"""Where embeddings look: `python -m benchmarks.retrieving --write` writes docs/retrieval-maps.md.

Maps of queries on pairs of scenes, where the individual and its marking are known to the pixel; then a network trained
to tell the ants from the bees of real photographs, shown.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn

from benchmarks import page
from benchmarks.subjects import data, trained_network
from seewhy import L2CAF, Explainer, Network, Pairs, load, make
from seewhy.evaluation.controls import CentredGaussian, MeanActivation, RandomMap
from seewhy.evaluation.planted_truth import MEASURES, PlantedTruth, Scores, measured
from seewhy.evaluation.retrieval import ranking
from seewhy.render import figure
from seewhy.render.markdown import markdown_table
from seewhy.render.panels import panels, picture
from seewhy.render.sheet import sheet
from seewhy.targets import Similarity
from seewhy.zoo.triplet_loss import triplet_loss

INDIVIDUALS, SEED = 240, 8  # of no training and of no card
BATCH = 40
FIRST = "l2-caf, oblivious"


@dataclass(frozen=True)
class Asked:
    """A method and what it explains: the similarity to the match, to the query itself, or the whole embedding."""

    explainer: Explainer
    own: bool = False
    control: bool = False


METHODS: Mapping[str, Asked] = {
    FIRST: Asked(L2CAF(mode="oblivious")),
    "l2-caf, similarity to the match": Asked(L2CAF()),
    "grad-cam, similarity to itself": Asked(make("grad-cam"), own=True),
    "grad-cam, similarity to the match": Asked(make("grad-cam")),
    "layer-cam, similarity to the match": Asked(make("layer-cam")),
    "group-cam, similarity to the match": Asked(make("group-cam")),
    "input-x-gradient, similarity to the match": Asked(make("input-x-gradient")),
    "mean-activation": Asked(MeanActivation(), control=True),
    "centred-gaussian": Asked(CentredGaussian(), control=True),
    "random-map": Asked(RandomMap(), control=True),
}


def on_pairs() -> PlantedTruth:
    """How much of the first view's map lies on the individual and on its marking, matched with its second view."""
    network, pairs = load("demo-retriever"), Pairs(INDIVIDUALS, views=2, seed=SEED)
    found: dict[str, list[list[float]]] = {name: [] for name in METHODS}
    vectors = []
    for start in range(0, INDIVIDUALS, BATCH):
        scenes = [pairs[2 * each] for each in range(start, min(start + BATCH, INDIVIDUALS))]
        others = [pairs[2 * each + 1] for each in range(start, min(start + BATCH, INDIVIDUALS))]
        images, matches = (network.read([scene.image for scene in each]) for each in (scenes, others))
        mine, theirs = embedded(network, images.pixels), embedded(network, matches.pixels)
        vectors.append(torch.stack([mine, theirs], 1).flatten(0, 1))
        for name, asked in METHODS.items():
            # The cosine to itself is 1 whatever is seen; the inner product is not.
            target = Similarity(mine if asked.own else theirs, normalize=not asked.own)
            explanation = asked.explainer(network, images, target)
            for row, scene in enumerate(scenes):
                found[name].append(measured(explanation.original(row)[0][0].cpu(), scene.truth))
    scores = {
        name: Scores(name, METHODS[name].control, dict(zip(MEASURES, np.array(rows).T, strict=True)))
        for name, rows in found.items()
    }
    recall = ranking(torch.cat(vectors), torch.arange(2 * INDIVIDUALS) // 2).recall(1)
    return PlantedTruth(network.name, INDIVIDUALS, recall, scores)


def embedded(network: Network, pixels: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
    """What a network answers."""
    with torch.inference_mode():
        answer: Tensor = network(pixels)
    return answer.clone()


class Embedder(nn.Module):
    """The layers of MobileNetV2 as they were trained on ImageNet, pooled, and a linear head of its own."""

    def __init__(self, features: nn.Module, width: int = 64) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Linear(1280, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.head(self.pooled(x))
        return answer

    def pooled(self, x: Tensor) -> Tensor:
        """Before the head."""
        pooled: Tensor = self.features(x).mean((2, 3))
        return pooled


def trained_head(
    module: Embedder, inputs: Float[Tensor, "N K"], labels: Int[Tensor, " N"], steps: int = 300
) -> None:
    """Train the head by triplets with the hardest negatives, on pooled features that stay as they are."""
    optimizer = torch.optim.Adam(module.head.parameters(), 1e-3)
    for _ in range(steps):
        rows = torch.randperm(len(inputs))[:64]
        loss = triplet_loss(module.head(inputs[rows]), labels[rows], "hard")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def ants_and_bees() -> tuple[Network, float, list[str]]:
    """A head trained by triplets on the training photographs; recall at 1 among the others, and these."""
    whole = trained_network()
    torch.manual_seed(0)
    module = Embedder(whole.module.get_submodule("features")).eval()
    network = Network(module, preprocess=whole.preprocess, name="ants and bees")
    seen = {}
    for split in ("train", "val"):
        paths = sorted((data() / "ants-bees" / split).glob("*/*.jpg"))
        with torch.inference_mode():
            pooled = [module.pooled(network.read([path]).pixels) for path in paths]
        labels = torch.tensor([int(path.parent.name == "bees") for path in paths])
        seen[split] = paths, torch.cat(pooled).clone(), labels
    _, inputs, labels = seen["train"]
    trained_head(module, inputs, labels)
    paths, inputs, labels = seen["val"]
    with torch.inference_mode():
        recall = ranking(module.head(inputs), labels).recall(1)
    return network, recall, [str(path) for path in paths]


def shown(network: Network, paths: list[str], queries: Int[Tensor, " Q"]) -> Image.Image:
    """Queries with their best match, each by three methods, as one picture."""
    images = network.read([paths[each] for each in queries])
    vectors = torch.cat([embedded(network, network.read([path]).pixels) for path in paths])
    similar = torch.nn.functional.cosine_similarity(vectors[queries][:, None], vectors[None], dim=2)
    similar[torch.arange(len(queries)), queries] = -2
    target = Similarity(vectors[similar.argmax(1)])
    rows = []
    for method in (L2CAF(mode="oblivious"), L2CAF(), make("grad-cam")):
        explanation = method(network, images, target)
        rows.append(
            [figure(picture(explanation, row), panels(explanation, row)[0]) for row in range(len(queries))]
        )
    rows.insert(0, [picture(explanation, row) for row in range(len(queries))])
    return sheet(rows, 200, margin=4)


def text(found: PlantedTruth, recall: float) -> Iterator[str]:
    """The page, by paragraphs."""
    yield "# Where embeddings look"
    yield (
        f"`demo-retriever` on {found.pictures} individuals of `Pairs(seed={SEED})`, two views of each; for "
        f"{found.accuracy:.1%} of them the other view is the nearest of all. Maps of the first view, asked about "
        "the second. Mean ± standard error over individuals; in italics, maps that know nothing of the question. "
        "*pointing*: the highest pixel lies on the individual; *object*: share of the positive evidence on it; "
        "*parts*: share on its marking, which alone tells it from its look-alikes."
    )
    yield page.provenance("python -m benchmarks.retrieving --write", ["torch", "seewhy"])
    yield str(found)
    yield (
        f"How much more `{FIRST}` has than each other map, on the same pictures: mean difference, 95 % interval."
    )
    measures = [each for each in MEASURES if each != "shortcut"]
    rows = [[name, *(_difference(found, name, each) for each in measures)] for name in found if name != FIRST]
    yield markdown_table(["than", *measures], rows)
    yield (
        "Of a pooled linear head `l2-caf`, oblivious, and Grad-CAM of the similarity to itself are nearly "
        "one map, as the equations have it; both are little more than the mean activation. Maps that are asked about "
        "the match can differ from match to match, these cannot. The filter that raises the cosine most mixes "
        "whichever positions sum up to the match's direction, and lies on the individual no more than chance has it."
    )
    yield "## Real photographs"
    yield (
        "MobileNetV2's layers as trained on ImageNet, pooled, and a linear head of 64 numbers trained by triplets with "
        "the hardest negatives on the training photographs of ants and bees. Of each of the other photographs the "
        f"nearest is of the same insect for {recall:.1%}. Below: photographs, then `l2-caf` oblivious, `l2-caf` and "
        "`grad-cam` of the similarity to the best match."
    )
    yield "![ants and bees by three methods](images/ants-and-bees.png)"


def _difference(found: PlantedTruth, name: str, measure: str) -> str:
    mean, error = found.advantage(FIRST, name, measure)
    return f"{mean:+.3f} [{mean - 1.96 * error:+.3f}, {mean + 1.96 * error:+.3f}]"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieving", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/retrieval-maps.md")
    chosen = parser.parse_args()
    network, recall, paths = ants_and_bees()
    made = "\n\n".join(text(on_pairs(), recall)) + "\n"
    if chosen.write:
        queries = torch.linspace(0, len(paths) - 1, 6).round().long()
        shown(network, paths, queries).save(page.DOCS / "images" / "ants-and-bees.png")
        page.write(page.DOCS / "retrieval-maps.md", made)
    else:
        print(made)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
