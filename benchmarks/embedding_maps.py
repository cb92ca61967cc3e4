"""What Grad-CAM for embedding networks claims: `python -m benchmarks.embedding_maps --write` writes its page.

Maps of pictures that a bank never saw, on drawn individuals whose pixels are known and on photographs of animals with
boxes: one triplet and many, all channels and fifty, triplets and pairs, back-propagated and transferred.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from jaxtyping import Int
from torch import Tensor

from benchmarks import page
from benchmarks.retrieving import Embedder, embedded, trained_head
from benchmarks.subjects import data, trained_network
from seewhy import (
    EmbeddingGradCAM,
    EnergyPointingGame,
    Explainer,
    Gallery,
    MaxBoxAccV2,
    Mining,
    Network,
    Pairs,
    Triplets,
    load,
    make,
)
from seewhy.datasets import Item, Manifest, read
from seewhy.embedding.building import build_bank
from seewhy.embedding.gallery import distances
from seewhy.embedding.losses import ContrastiveLoss
from seewhy.embedding.recipe import Recipe
from seewhy.evaluation.campaign import reported
from seewhy.evaluation.controls import CentredGaussian, MeanActivation, RandomMap
from seewhy.evaluation.metric import Batch, Measurement, Metric
from seewhy.evaluation.result import Result, compare
from seewhy.evaluation.retrieval import ranking
from seewhy.evaluation.subjects import share_of_picture
from seewhy.render.markdown import markdown_table
from seewhy.scenes.files import write
from seewhy.targets import Similarity, Target
from seewhy.truth import Object, Truth

INDIVIDUALS, VIEWS, SEED = 200, 4, 31  # the last view of each is asked about, the others are the bank's
BATCH, TRIPLETS, SMALL = 25, 32, 0.33
OBJECT, MARKING, BOX = "energy on the object", "energy on the marking", "max-box-acc-v2"
PAPER, ONE, ALL, PLAIN = "32 triplets", "1 triplet", "32 triplets, all channels", "1 triplet, all channels"
PAIR, PAIRS, TRANSFER = "1 pair", "32 pairs", "transferred"
CLAIMS = {
    "many triplets > one": (PAPER, ONE),
    "the 50 strongest channels > all": (PAPER, ALL),
    "a triplet > a pair": (ONE, PAIR),
    "triplets > pairs, 32 of each": (PAPER, PAIRS),
    "adapted > plain Grad-CAM (1 triplet, all channels)": (PAPER, PLAIN),
    "transferred ~ back-propagated": (TRANSFER, PAPER),
    "transferred > plain Grad-CAM": (TRANSFER, PLAIN),
    "transferred > weights of any entry": (TRANSFER, "transferred, shuffled"),
}
CONTROLS = ("mean-activation", "centred-gaussian", "random-map")

# Ranges of ILSVRC's class numbers, which follow WordNet.
KINDS: Mapping[str, Sequence[range]] = {
    "fish": (range(7), range(389, 398)),
    "bird": (range(7, 25), range(80, 101), range(127, 147)),
    "amphibian": (range(25, 33),),
    "turtle": (range(33, 38),),
    "lizard": (range(38, 49),),
    "snake": (range(52, 69),),
    "spider": (range(72, 78),),
    "crustacean": (range(118, 126),),
    "dog": (range(151, 269),),
    "wolf or fox": (range(269, 281),),
    "cat": (range(281, 294),),
    "bear": (range(294, 298),),
    "beetle": (range(300, 308),),
    "other insect": (range(308, 321),),
    "butterfly": (range(321, 327),),
    "hoofed animal": (range(339, 356),),
    "primate": (range(365, 385),),
}


@dataclass(frozen=True, eq=False)
class Subject:
    """A network, what its bank is built from, and the pictures that are asked about.

    Attributes:
        title: heading on the page.
        network: an embedding network, compared by cosines.
        bank: pictures with labels.
        queries: other pictures of these labels, with masks or boxes of what they show.
    """

    title: str
    network: Network
    bank: Manifest
    queries: Sequence[Item]


@dataclass(frozen=True, eq=False)
class Found:
    """Results by method and measure, and how often a query's nearest entry has its label."""

    subject: Subject
    recall: float
    results: Mapping[str, Mapping[str, Result]]


def individuals(folder: Path) -> Subject:
    """The bundled retriever on drawn individuals."""
    write(Pairs(INDIVIDUALS, VIEWS, SEED), folder / "individuals")
    manifest = read(folder / "individuals").labelled_by("individual")
    last = {f"{each * VIEWS + VIEWS - 1:06d}.png" for each in range(INDIVIDUALS)}
    return _split("Drawn individuals", load("demo-retriever"), manifest, last)


def animals() -> Subject:
    """MobileNetV2's layers as trained on ImageNet, and a head trained here to tell kinds of animals."""
    whole = trained_network()
    manifest = read(data() / "imagenet-val")
    kinds = {number: kind for kind, ranges in KINDS.items() for each in ranges for number in each}
    numbers = {each.id: manifest.index(each.labels[0]) for each in manifest.faultless if each.boxes}
    chosen = [
        replace(manifest[id], labels=(kinds[number],)) for id, number in numbers.items() if number in kinds
    ]
    chosen.sort(key=lambda each: (each.labels, each.id))
    torch.manual_seed(0)
    module = Embedder(whole.module.get_submodule("features")).eval()
    network = Network(module, preprocess=whole.preprocess, name="kinds of animals")
    kinds_alone = replace(manifest, items=tuple(chosen), errors=(), classes={})
    subject = _split("Photographs of animals", network, kinds_alone, {each.id for each in chosen[1::2]})
    with torch.inference_mode():
        pooled = [module.pooled(network.read([each.path]).pixels) for each in subject.bank.items]
    trained_head(module, torch.cat(pooled).clone(), _numbered(subject.bank.items))
    return subject


def _split(title: str, network: Network, manifest: Manifest, queries: set[str]) -> Subject:
    bank = tuple(each for each in manifest.items if each.id not in queries)
    return Subject(
        title, network, replace(manifest, items=bank), [each for each in manifest.items if each.id in queries]
    )


def _numbered(items: Sequence[Item]) -> Int[Tensor, " N"]:
    names = sorted({each.labels[0] for each in items})
    return torch.tensor([names.index(each.labels[0]) for each in items])


def measure(subject: Subject, folder: Path) -> Found:
    """Build the bank, explain the queries by everything, and measure the maps."""
    network, bank = subject.network, subject.bank
    build_bank(network, bank, folder / "bank", Recipe(normalize=True, mining=Mining(triplets=TRIPLETS)))
    pixels = [network.read([each.path]).pixels for each in bank.items]
    gallery = Gallery(torch.cat([embedded(network, each) for each in pixels]), _numbered(bank.items))
    measurements: dict[str, dict[str, Measurement]] = {}
    vectors, labels = [], _numbered(subject.queries)
    for start in range(0, len(subject.queries), BATCH):
        items = subject.queries[start : start + BATCH]
        images = network.read([each.path for each in items])
        mine = embedded(network, images.pixels)
        vectors.append(mine)
        for name, (explainer, target) in _asked(
            gallery, mine, labels[start : start + BATCH], folder / "bank"
        ).items():
            explanation = explainer(network, images, target)
            # Rows are told by picture and label: here all methods answer one question.
            explanation = replace(explanation, labels=(("match",),) * len(items))
            for measure, (metric, truths) in _measures([each.truth for each in items]).items():
                own = measurements.setdefault(name, {}).setdefault(measure, metric.start())
                own.add(Batch.of(network, images, explanation, truths, [each.id for each in items]))
    recall = ranking(torch.cat(vectors), labels, gallery.embeddings, gallery.labels).recall(1)
    results = {
        name: {measure: each.compute() for measure, each in own.items()} for name, own in measurements.items()
    }
    return Found(subject, recall, results)


def _asked(
    gallery: Gallery, mine: Tensor, labels: Int[Tensor, " B"], bank: Path
) -> dict[str, tuple[Explainer, Target | None]]:
    """Every method with its question."""

    def triplets(count: int, miner: str = "random") -> Triplets:
        mining = Mining.model_validate({"miner": miner, "triplets": count})
        return Triplets(gallery, labels, mining=mining, normalize=True)

    def pairs(count: int) -> ContrastiveLoss:
        # The mean of the positives has the gradient of the mean of their losses.
        units = gallery.normalized().embeddings
        mining, nobody = Mining(triplets=count), torch.zeros(len(labels), len(gallery), dtype=torch.bool)
        positives, negatives = mining.partners(labels, gallery.labels, nobody)
        near, _, _ = mining.mine(distances(mine, gallery.embeddings), positives, negatives)
        return ContrastiveLoss(units[near].mean(1), same=True, normalize=True)

    nearest = gallery.embeddings[
        torch.cosine_similarity(mine[:, None], gallery.embeddings[None], dim=2).argmax(1)
    ]
    strongest, every = EmbeddingGradCAM(), EmbeddingGradCAM(top_k=None, select="signed")
    return {
        PAPER: (strongest, triplets(TRIPLETS)),
        ONE: (strongest, triplets(1)),
        ALL: (every, triplets(TRIPLETS)),
        PLAIN: (every, triplets(1)),
        "32 hard triplets": (strongest, triplets(TRIPLETS, "hard")),
        "32 semi-hard triplets": (strongest, triplets(TRIPLETS, "semi-hard")),
        PAIRS: (strongest, pairs(TRIPLETS)),
        PAIR: (strongest, pairs(1)),
        TRANSFER: (make("transfer-cam", bank=bank), None),
        "transferred, 5 blended": (make("transfer-cam", bank=bank, neighbours=5), None),
        "transferred, shuffled": (make("transfer-cam", bank=bank, shuffled=True), None),
        "grad-cam, similarity to the nearest": (make("grad-cam"), Similarity(nearest)),
        "grad-cam, similarity to itself": (make("grad-cam"), Similarity(mine, normalize=False)),
        "mean-activation": (MeanActivation(), None),
        "centred-gaussian": (CentredGaussian(), None),
        "random-map": (RandomMap(), None),
    }  # fmt: skip


def _measures(truths: Sequence[Truth]) -> dict[str, tuple[Metric, list[Truth]]]:
    """Each measure with what it compares maps with: the object, or its marking where it has one."""
    energy, boxes = EnergyPointingGame(match="main"), MaxBoxAccV2(match="main")
    found: dict[str, tuple[Metric, list[Truth]]] = {
        OBJECT: (energy, list(truths)),
        BOX: (boxes, list(truths)),
    }
    if all(each.objects[0].parts for each in truths):
        found[MARKING] = (energy, [replace(each, objects=(_marking(each.objects[0]),)) for each in truths])
    return found


def _marking(whole: Object) -> Object:
    return replace(whole, mask=whole.distinguishing(), parts=())


def text(founds: Sequence[Found]) -> Iterator[str]:
    """The page, by paragraphs."""
    yield "# Grad-CAM for embedding networks: what its paper claims"
    yield (
        "Chen et al. (WACV 2020) say of maps of embedding networks that many triplets are better than one, the 50 "
        "strongest channels better than all, triplets better than pairs, and that weights taken over from the nearest "
        "training picture serve as well as back-propagation. Here that is measured, with other networks and pictures, "
        "on queries that the bank does not hold. *Energy*: share of the positive evidence on the object, its boxes or "
        "its marking; `max-box-acc-v2` with thresholds from a third of the pictures, on the others. 95 % "
        "bootstrap intervals over pictures; a claim holds where that of the paired difference excludes zero. In "
        "brackets, maps that know nothing of the question; † clearly differs from the first row (paired, adjusted)."
    )
    yield page.provenance("python -m benchmarks.embedding_maps --write", ["torch", "torchvision", "seewhy"])
    for found in founds:
        yield f"## {found.subject.title}"
        yield _introduced(found)
        for said, ids in _subsets(found):
            results = {
                name: {each: reported(result, ids) for each, result in own.items()}
                for name, own in found.results.items()
            }
            yield said
            yield _claims(results)
            yield page.standings_table(results, CONTROLS, title="maps")


def _subsets(found: Found) -> Iterator[tuple[str, frozenset[str]]]:
    ids = frozenset(each.id for each in found.subject.queries)
    yield f"All {len(ids)}:", ids
    shares = {each.id: share_of_picture(each) for each in found.subject.queries}
    small = frozenset(id for id, share in shares.items() if share is not None and share < SMALL)
    if len(small) < len(ids) / 2:
        yield f"The {len(small)} of them whose boxes cover less than {SMALL:.0%} of the picture:", small


def _introduced(found: Found) -> str:
    subject = found.subject
    count, entries = len(subject.queries), len(subject.bank.items)
    if subject.network.name == "demo-retriever":
        said = (
            f"`demo-retriever` on individuals of `Pairs(seed={SEED})` in {VIEWS} views: the last view of each of "
            f"{count} is asked about, the other {entries} pictures are the bank."
        )
    else:
        said = (
            f"MobileNetV2's layers as trained on ImageNet, pooled, and a linear head trained by triplets to tell "
            f"{len(KINDS)} kinds of animals on {entries} ImageNet pictures, which are the bank; {count} others are "
            "asked about. The head learned from the bank's pictures only."
        )
    return f"{said} The nearest entry is of the same label for {found.recall:.1%}."


def _claims(results: Mapping[str, Mapping[str, Result]]) -> str:
    measures = list(next(iter(results.values())))
    rows = [
        [claim, *(_verdict(results[one][each], results[other][each], "~" in claim) for each in measures)]
        for claim, (one, other) in CLAIMS.items()
    ]
    return markdown_table(["claim", *measures], rows)


def _verdict(one: Result, other: Result, alike: bool) -> str:
    found = compare(one, other)
    low, high = found.interval.tolist()
    if low > 0:
        said = "better" if alike else "holds"
    elif high < 0:
        said = "worse" if alike else "the opposite"
    else:
        said = "no clear difference"
    return f"{found.difference:+.3f} [{low:+.3f}, {high:+.3f}]: {said}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.embedding_maps", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/embedding-maps.md")
    chosen = parser.parse_args()
    founds = []
    with TemporaryDirectory() as folder:
        for place, subject in enumerate((individuals(Path(folder)), animals())):
            founds.append(measure(subject, Path(folder) / f"{place}"))
    made = "\n\n".join(text(founds)) + "\n"
    if chosen.write:
        page.write(page.DOCS / "embedding-maps.md", made)
    else:
        print(made)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
