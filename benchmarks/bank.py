"""The speed of maps from a bank: a look-up instead of a backward pass, on ResNet-50 with a 512-d embedding."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.counts import counted
from benchmarks.rows import Row, at_most, milliseconds
from benchmarks.timing import interleaved
from seewhy import Mining, Network, Preprocess, Scenes, load, make
from seewhy.datasets import read
from seewhy.embedding.bank import Head
from seewhy.embedding.building import build_bank
from seewhy.embedding.entries import COLUMNS, packed, spread
from seewhy.embedding.recipe import Recipe
from seewhy.embedding.search import RECALL, ExactSearch, FaissSearch
from seewhy.errors import SeewhyError
from seewhy.scenes.files import write
from seewhy.store import Item, Plan, Store

BATCH, SIZE, WIDTH, CHANNELS = 32, 224, 512, 2048
ENTRIES, MANY = 100_000, 1_000_000
PICTURES, TRIPLETS = 24, 32
FORWARD = f"one forward of {BATCH}"
_SHARD = 5_000
_SHOWN = 8  # queries whose neighbours are found once more by all distances in float64


def rows(remarks: list[str]) -> Iterator[Row]:
    """All measurements; how quiet the machine was goes to `remarks`."""
    network = setting()
    yield from building(network)
    with TemporaryDirectory() as folder:
        synthetic(network, Path(folder), ENTRIES)
        yield transfer(network, Path(folder), remarks)
    yield from lookups(remarks)


def setting() -> Network:
    """ResNet-50 with random weights, whose last layer gives an embedding."""
    torch.manual_seed(0)
    network = load("torchvision:resnet50", weights="random", offline=True)
    network.module.fc = nn.Linear(CHANNELS, WIDTH)
    preprocess = Preprocess(resize=(SIZE, SIZE), mean=(0.5,) * 3, std=(0.25,) * 3)
    return Network(network.module.eval(), preprocess=preprocess, name="ResNet-50 embedding")


def building(network: Network) -> Iterator[Row]:
    """What building takes, counted from outside, whatever the number of triplets."""
    first, last = network.module.get_submodule("conv1"), network.module.get_submodule("fc")
    with TemporaryDirectory() as folder:
        root = Path(folder)
        write(Scenes(PICTURES, size=64, classes=("fish", "hammer")), root / "pictures")
        manifest = read(root / "pictures")
        for count in (1, TRIPLETS):
            # A first bank surveys the network, which is done once.
            recipe = Recipe(layer="layer4", mining=Mining(triplets=count), batch_size=PICTURES)
            build_bank(network, manifest, root / f"before {count}", recipe.model_copy(update={"seed": 1}))
            found = counted(partial(build_bank, network, manifest, root / f"{count}", recipe), first, last)
            batches = -(-PICTURES // recipe.batch_size)
            yield Row(
                f"building a bank of {PICTURES} pictures, {count} triplets each: trunk / head / backward calls",
                "a backward for each triplet",
                f"{PICTURES} / {PICTURES} / {PICTURES * count}",
                str(found),
                "",
                f"{PICTURES} / {PICTURES} / {batches}",
                (found.trunk, found.head, found.backwards) == (PICTURES, PICTURES, batches),
            )


def synthetic(network: Network, folder: Path, count: int) -> None:
    """Write a bank of random entries, as building would."""
    recipe = Recipe(layer="layer4")
    assert network.preprocess is not None
    items = [
        Item(f"{place:08}/{place}", sha256(b"%d" % place).hexdigest(), label="0") for place in range(count)
    ]
    settings = {
        "recipe": recipe.model_dump(mode="json"),
        "preprocess": network.preprocess.model_dump(mode="json"),
    }
    plan = Plan(
        kind="weight-bank", items=tuple(items), columns=COLUMNS, settings=settings, network=network.digest,
        shard_size=_SHARD, chunk_size=_SHARD,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)

    def drawn(items: Sequence[Item]) -> list[dict[str, Any]]:
        embeddings = torch.randn(len(items), WIDTH, generator=generator)
        weights = torch.rand(len(items), CHANNELS, generator=generator)
        return [
            {**row, "label": "0", "remark": ""} for row in packed(embeddings, weights, recipe.top_k, recipe)
        ]

    work = Store(folder).open(plan)
    work.run(drawn)
    Head(works=(plan.digest,), spread=spread(torch.randn(1000, WIDTH, generator=generator))).write(folder)


def transfer(network: Network, folder: Path, remarks: list[str]) -> Row:
    """Maps of a batch from the bank, look-up included, against a plain forward of the same pictures."""
    images = torch.randn(BATCH, 3, SIZE, SIZE)
    explainer = make("transfer-cam", bank=folder)

    def forward() -> None:
        with torch.no_grad():
            network.module(images)

    times = interleaved({FORWARD: forward, "transfer": lambda: explainer(network, images)}, rounds=7)
    remarks.append(f"transfer-cam: {times}")
    return at_most(f"transfer-cam of {BATCH} pictures, {ENTRIES:,} entries", FORWARD, times, "transfer", 1.10)


def lookups(remarks: list[str]) -> Iterator[Row]:
    """Neighbours among many entries: bytes, milliseconds per query, and how many are the nearest indeed."""
    embeddings = torch.randn(MANY, WIDTH, generator=torch.Generator().manual_seed(0))
    queries = torch.randn(BATCH, WIDTH, generator=torch.Generator().manual_seed(1))
    exact = ExactSearch(embeddings)
    size = f"{embeddings.nbytes / 1e9:.2f} GB"
    for batch in (1, BATCH):
        seconds = _per_query(exact, queries[:batch])
        name = f"exact search among {MANY:,} x {WIDTH}, {batch} at once: per query"
        yield Row(name, "memory", size, milliseconds(seconds), "")
    places = exact.search(queries[:_SHOWN], 1)[1][:, 0]
    found = [_nearest(embeddings, query) == int(place) for query, place in zip(queries, places, strict=False)]
    share = sum(found) / _SHOWN
    yield Row(
        f"exact search: recall of {_SHOWN} queries",
        "all distances in float64",
        "1",
        f"{share:g}",
        "",
        "1",
        share == 1,
    )
    try:
        index = FaissSearch(embeddings[:ENTRIES], "HNSW32")
    except SeewhyError as error:
        remarks.append(f"faiss, HNSW32 of {ENTRIES:,} random entries: {error}")
    else:
        name = f"faiss HNSW32 among {ENTRIES:,} x {WIDTH}: per query; recall@1"
        yield Row(
            name, "exact search", milliseconds(_per_query(ExactSearch(embeddings[:ENTRIES]), queries)),
            milliseconds(_per_query(index, queries)), f"{index.recall:.3f}", f">= {RECALL}", index.recall >= RECALL,
        )  # fmt: skip


def _per_query(index: ExactSearch | FaissSearch, queries: Tensor, rounds: int = 5) -> float:
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        index.search(queries, 1)
        seconds.append((time.perf_counter() - began) / len(queries))
    return median(seconds)


def _nearest(embeddings: Tensor, query: Tensor) -> int:
    """The entry next to a query, by its differences in float64."""
    parts = [(part.double() - query.double()).square().sum(1) for part in torch.split(embeddings, 100_000)]
    return int(torch.cat(parts).argmin())
