"""Train the bundled retriever and measure what its card says.

python -m seewhy.zoo.train_retriever --out src/seewhy/zoo/weights
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from seewhy.evaluation.retrieval import ranking
from seewhy.network.checkpoint import load_weights, read_weights
from seewhy.network.load import load
from seewhy.scenes import CLASSES, Pairs
from seewhy.zoo.architecture import build_retriever
from seewhy.zoo.demo import TRAINING_SEED, UNSEEN_SEED, WIDTH
from seewhy.zoo.train import drawn, normalised, save_halved, write_card
from seewhy.zoo.triplet_loss import Mining, triplet_loss

NAME = "demo-retriever"
ALIKE = 4
PER_CLASS = 20  # unseen individuals


@dataclass(frozen=True)
class Recipe:
    """How the retriever is trained.

    Attributes:
        individuals: how many different ones, in groups of four look-alikes.
        views: pictures of each.
        epochs: how often each picture is seen.
        groups: groups of look-alikes per step.
        shown: views of each individual per step.
        warm: share of the steps over all triplets; the others take the hardest. From the beginning, the hardest ones
            draw all embeddings to one point.
        scale: of the triplets' soft margin.
        rate: highest learning rate of AdamW (Loshchilov and Hutter, 2019), reached after a tenth of the steps.
        seed: of the head's first weights and the order.
    """

    individuals: int = 2400
    views: int = 6
    epochs: int = 6
    groups: int = 6
    shown: int = 2
    warm: float = 0.65
    rate: float = 3e-3
    scale: float = 16.0
    seed: int = 0

    @property
    def steps(self) -> int:
        """How often the weights change."""
        return self.epochs * (self.views // self.shown) * (self.individuals // ALIKE // self.groups)


def train(recipe: Recipe, say: Callable[[str], None] = print) -> nn.Module:
    """The network after training, in eval mode; its convolutions begin as those of the classifier "demo"."""
    pairs = Pairs(recipe.individuals, recipe.views, TRAINING_SEED, alike=ALIKE)
    flat, _ = drawn(pairs, workers=1)
    pixels = flat.view(recipe.individuals, recipe.views, *flat.shape[1:])
    torch.manual_seed(recipe.seed)
    module: nn.Module = build_retriever(WIDTH).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trunk = load("demo").module.state_dict()
    own = module.state_dict()
    module.load_state_dict({**own, **{key: value for key, value in trunk.items() if key in own}})
    optimizer = torch.optim.AdamW(module.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, total_steps=recipe.steps, pct_start=0.1
    )
    labels = torch.arange(recipe.groups * ALIKE).repeat_interleave(recipe.shown)
    total, begun = 0.0, time.perf_counter()
    for step, (individuals, views) in enumerate(batches(recipe), 1):
        inputs = normalised(pixels[individuals, views])
        with torch.autocast("cpu", torch.bfloat16):  # twice as fast on processors that know it
            embeddings = module(inputs)
        mining: Mining = "all" if step <= recipe.warm * recipe.steps else "hard"
        loss = triplet_loss(embeddings, labels, mining, recipe.scale)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % 100 == 0 or step == recipe.steps:
            seconds = time.perf_counter() - begun
            say(f"step {step} of {recipe.steps}: loss {total / ((step - 1) % 100 + 1):.3f}, {seconds:.0f} s")
            total = 0.0
    return module.eval()


def batches(recipe: Recipe) -> Iterator[tuple[Int[Tensor, " B"], Int[Tensor, " B"]]]:
    """Individual and view of every picture of every step: whole groups, since look-alikes are the hardest negatives."""
    groups = recipe.individuals // ALIKE
    for _ in range(recipe.epochs * (recipe.views // recipe.shown)):
        for rows in torch.randperm(groups)[: groups // recipe.groups * recipe.groups].view(-1, recipe.groups):
            individuals = (rows[:, None] * ALIKE + torch.arange(ALIKE)).flatten()
            views = torch.stack([torch.randperm(recipe.views)[: recipe.shown] for _ in individuals])
            yield individuals.repeat_interleave(recipe.shown), views.flatten()


def embedded(module: nn.Module, pixels: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B D"]:
    """The embeddings that a network gives."""
    with torch.inference_mode():
        starts = range(0, len(pixels), 200)
        return torch.cat([module(normalised(pixels[each : each + 200])) for each in starts])


def figures(module: nn.Module, per_class: int = PER_CLASS) -> dict[str, float]:
    """How often the nearest of all pictures of unseen individuals, two views of each, is the other view.

    Once with few look-alikes, once with all individuals of a class alike, so that only markings tell them apart.
    """
    count = per_class * len(CLASSES)
    found: dict[str, float] = {"unseen_individuals": count, "per_class": per_class}
    for key, alike in (("", ALIKE), ("_all_alike", per_class)):
        pairs = Pairs(count, 2, UNSEEN_SEED, alike=alike)
        ranked = ranking(embedded(module, drawn(pairs)[0]), torch.arange(len(pairs)) // pairs.views)
        found[f"recall_at_1{key}"] = round(ranked.recall(1), 4)
        found[f"recall_at_5{key}"] = round(ranked.recall(5), 4)
        found[f"mean_average_precision{key}"] = round(ranked.mean_average_precision, 4)
    return found


def write(module: nn.Module, recipe: Recipe, folder: Path, minutes: float) -> dict[str, float]:
    """Save weights in half precision and both cards; the figures are those of the saved weights."""
    file = folder / f"{NAME}.safetensors"
    save_halved(module, file)
    saved = build_retriever(WIDTH).eval()
    load_weights(saved, read_weights(file), file.name)
    found = figures(saved)
    write_card(folder, NAME, found, embedding=WIDTH)
    text = (
        (files("seewhy.zoo") / "retriever_card.md")
        .read_text(encoding="utf-8")
        .format(
            name=NAME,
            size=file.stat().st_size,
            minutes=minutes,
            cores=torch.get_num_threads(),
            steps=recipe.steps,
            batch=recipe.groups * ALIKE * recipe.shown,
            pictures=recipe.individuals * recipe.views,
            alike=ALIKE,
            width=WIDTH,
            classes=len(CLASSES),
            training_seed=TRAINING_SEED,
            unseen_seed=UNSEEN_SEED,
            **asdict(recipe),
            **found,
        )
    )
    (folder / f"{NAME}.md").write_text(text, encoding="utf-8")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the retriever."""
    parser = argparse.ArgumentParser(description="Train the bundled retriever on pairs of scenes.")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and cards")
    parser.add_argument("--individuals", type=int, default=Recipe.individuals)
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    chosen = parser.parse_args(arguments)
    recipe = Recipe(individuals=chosen.individuals, epochs=chosen.epochs)
    if recipe.steps < 1:
        parser.error(f"at least one epoch, and {recipe.groups * ALIKE} individuals for a step")
    begun = time.perf_counter()
    module = train(recipe, lambda line: print(line, flush=True))
    minutes = (time.perf_counter() - begun) / 60
    found = write(module, recipe, chosen.out, minutes)
    print(f"{minutes:.1f} minutes; {json.dumps(found)}", flush=True)


if __name__ == "__main__":
    main()
