"""Train the bundled retriever of clips and measure what its card says.

python -m seewhy.zoo.train_clip_retriever --out src/seewhy/zoo/weights
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from seewhy.evaluation.retrieval import ranking
from seewhy.network.checkpoint import load_weights, read_weights
from seewhy.scenes import CLASSES, Clips
from seewhy.scenes.colors import COLORS
from seewhy.scenes.pairs import FIGURES
from seewhy.truth import Truth
from seewhy.zoo.architecture import CLIP_WIDTHS, ClipRetriever
from seewhy.zoo.demo import CLIP_WIDTH, TRAINING_SEED, UNSEEN_SEED
from seewhy.zoo.train import normalised, save_halved, write_card
from seewhy.zoo.triplet_loss import Mining, triplet_loss

NAME = "demo-clip-retriever"
UNSEEN = 240  # individuals, ten of each class
_FACTS = (CLASSES, tuple(COLORS), tuple(COLORS), tuple(COLORS), tuple(FIGURES))
_BLOCK = 100  # clips that one process draws at a time
_AT_ONCE = 40  # clips that go through the network together


@dataclass(frozen=True)
class Recipe:
    """How the retriever of clips is trained: its frames first, then what remembers them.

    Attributes:
        individuals: how many different ones.
        views: clips of each.
        epochs: how often each deciding frame is seen, while the convolutions learn to name what it shows.
        batch: deciding frames per step; half as many others stand beside them.
        rate: highest learning rate of AdamW (Loshchilov and Hutter, 2019), of both, reached after a tenth of the steps.
        steps: of the memory and the embedding, on what the convolutions then say of every frame.
        together: individuals per step of these, in two clips each.
        warm: share of these steps over all triplets; the others take the hardest.
        scale: of the triplets' soft margin.
        seed: of the first weights and the order.
    """

    individuals: int = 1200
    views: int = 4
    epochs: int = 8
    batch: int = 64
    rate: float = 4e-3
    steps: int = 3000
    together: int = 48
    warm: float = 0.5
    scale: float = 16.0
    seed: int = 0


@dataclass(frozen=True)
class Drawn:
    """Clips as tensors.

    Attributes:
        pixels: of their frames.
        facts: per frame the numbers of the individual's class, coat and marking; -1 where it is not shown.
    """

    pixels: UInt8[Tensor, "N F H W 3"]
    facts: Int[Tensor, "N F 5"]


def drawn(clips: Clips, workers: int = 2) -> Drawn:
    """All clips, drawn by several processes where there are many."""
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(clips), _BLOCK)]
    if len(blocks) == 1:
        parts = [block(clips, blocks[0])]
    else:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            parts = list(pool.map(partial(block, clips), blocks))
    pixels, facts = (torch.from_numpy(np.concatenate(each)) for each in zip(*parts, strict=True))
    return Drawn(pixels, facts)


def block(clips: Clips, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """The pixels and facts of some clips, drawn by this process."""
    found = clips[rows]
    pixels = np.stack([[frame.pixels for frame in clip.frames] for clip in found])
    return pixels, np.array([[facts(frame.truth) for frame in clip.frames] for clip in found])


def facts(truth: Truth) -> list[int]:
    """The numbers of the individual's class, coat, and marking: ground, colour and figure; -1 where it is not shown."""
    for each in truth.objects:
        if "marking" in each.attributes:
            color, figure, _, ground = each.attributes["marking"].split()
            names = (each.label, each.attributes["color"], ground, color, figure)
            return [kinds.index(name) for kinds, name in zip(_FACTS, names, strict=True)]
    return [-1] * len(_FACTS)


def train(recipe: Recipe, say: Callable[[str], None] = print) -> nn.Module:
    """The network after training, in eval mode."""
    return fit(drawn(Clips(recipe.individuals, recipe.views, TRAINING_SEED)), recipe, say)


def fit(clips: Drawn, recipe: Recipe, say: Callable[[str], None] = print) -> nn.Module:
    """The network after training on all views of individual 0, then those of individual 1, and so on; in eval mode."""
    torch.manual_seed(recipe.seed)
    module = ClipRetriever(CLIP_WIDTH)
    _learn_frames(module, clips, recipe, say)
    module.eval()
    with torch.no_grad():
        seen = torch.cat([module.features(as_input(part)) for part in _parts(clips.pixels)])
    _learn_memory(module, seen.reshape(recipe.individuals, recipe.views, *seen.shape[1:]), recipe, say)
    return module.eval()


def _learn_frames(module: ClipRetriever, clips: Drawn, recipe: Recipe, say: Callable[[str], None]) -> None:
    """Let the convolutions name class, coat and marking of the individual, and whether it is there."""
    pixels, named = clips.pixels.flatten(0, 1), clips.facts.flatten(0, 1)
    shows = named[:, 0] >= 0
    own, others = (torch.nonzero(each)[:, 0] for each in (shows, ~shows))
    sizes = [2, *map(len, _FACTS)]
    naming = nn.Linear(CLIP_WIDTHS[-1], sum(sizes))
    parameters = [*module.frames.parameters(), *naming.parameters()]
    steps = recipe.epochs * (len(own) // recipe.batch)
    optimizer, schedule = _optimizer(parameters, recipe.rate, steps)
    module.frames.train()
    step, total, begun = 0, 0.0, time.perf_counter()
    for _ in range(recipe.epochs):
        order = own[torch.randperm(len(own))]
        for rows in order[: len(order) // recipe.batch * recipe.batch].view(-1, recipe.batch):
            beside = others[torch.randint(len(others), (recipe.batch // 2,))]
            inputs = normalised(pixels[torch.cat([rows, beside])])
            if torch.rand(()) < 0.5:
                inputs = inputs.flip(3)
            there, *names = naming(module.pool(module.frames(inputs))).split(sizes, 1)
            loss = F.cross_entropy(there, shows[torch.cat([rows, beside])].long())
            for number, each in enumerate(names):
                loss = loss + F.cross_entropy(each[: len(rows)], named[rows, number], label_smoothing=0.05)
            _step(loss, optimizer, schedule)
            step, total = step + 1, total + loss.item()
            if step % 100 == 0 or step == steps:
                seconds = time.perf_counter() - begun
                say(
                    f"frames, step {step} of {steps}: loss {total / ((step - 1) % 100 + 1):.3f}, {seconds:.0f} s"
                )
                total = 0.0


def _learn_memory(
    module: ClipRetriever, features: Float[Tensor, "N V F K"], recipe: Recipe, say: Callable[[str], None]
) -> None:
    """Let the memory keep what tells an individual's clips, of what the convolutions say of each frame."""
    module.train()
    optimizer, schedule = _optimizer(
        [*module.memory.parameters(), *module.embedding.parameters()], recipe.rate, recipe.steps
    )
    together = min(recipe.together, recipe.individuals)
    labels = torch.arange(together).repeat_interleave(2)
    total, begun = 0.0, time.perf_counter()
    for step in range(1, recipe.steps + 1):
        rows = torch.randperm(recipe.individuals)[:together]
        views = torch.stack([torch.randperm(recipe.views)[:2] for _ in rows])
        embeddings = module.remembered(features[rows[:, None], views].flatten(0, 1))
        mining: Mining = "all" if step <= recipe.warm * recipe.steps else "hard"
        loss = triplet_loss(embeddings, labels, mining, recipe.scale)
        _step(loss, optimizer, schedule)
        total += loss.item()
        if step % 500 == 0 or step == recipe.steps:
            seconds = time.perf_counter() - begun
            say(
                f"memory, step {step} of {recipe.steps}: loss {total / ((step - 1) % 500 + 1):.3f}, {seconds:.0f} s"
            )
            total = 0.0


def _optimizer(
    parameters: list[nn.Parameter], rate: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.05)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)


def _step(
    loss: Tensor, optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler
) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    schedule.step()


def as_input(pixels: UInt8[Tensor, "B F H W 3"]) -> Float[Tensor, "B F 3 H W"]:
    """Frames as the network takes them."""
    inputs = normalised(pixels.flatten(0, 1))
    return inputs.reshape(*pixels.shape[:2], *inputs.shape[1:])


def _parts(pixels: UInt8[Tensor, "B F H W 3"]) -> list[UInt8[Tensor, "N F H W 3"]]:
    return [pixels[start : start + _AT_ONCE] for start in range(0, len(pixels), _AT_ONCE)]


def embedded(module: nn.Module, pixels: UInt8[Tensor, "B F H W 3"]) -> Float[Tensor, "B D"]:
    """The embeddings that a network gives."""
    with torch.inference_mode():
        return torch.cat([module(as_input(part)) for part in _parts(pixels)])


def figures(module: nn.Module, individuals: int = UNSEEN) -> dict[str, float]:
    """How often the nearest of all clips of unseen individuals, two of each, is the other one."""
    clips = Clips(individuals, 2, UNSEEN_SEED)
    ranked = ranking(embedded(module, drawn(clips).pixels), torch.arange(len(clips)) // clips.views)
    return {
        "unseen_individuals": individuals,
        "recall_at_1": round(ranked.recall(1), 4),
        "recall_at_5": round(ranked.recall(5), 4),
        "mean_average_precision": round(ranked.mean_average_precision, 4),
    }


def write(module: nn.Module, recipe: Recipe, folder: Path, minutes: float) -> dict[str, float]:
    """Save weights in half precision and both cards; the figures are those of the saved weights."""
    file = folder / f"{NAME}.safetensors"
    save_halved(module, file)
    saved = ClipRetriever(CLIP_WIDTH).eval()
    load_weights(saved, read_weights(file), file.name)
    found = figures(saved)
    write_card(folder, NAME, found, Clips.size, embedding=CLIP_WIDTH, frames=Clips.frames)
    text = (
        (files("seewhy.zoo") / "clip_retriever_card.md")
        .read_text(encoding="utf-8")
        .format(
            name=NAME,
            size=file.stat().st_size,
            minutes=minutes,
            cores=torch.get_num_threads(),
            clips=recipe.individuals * recipe.views,
            frames=Clips.frames,
            side=Clips.size,
            least=Clips.shown[0],
            most=Clips.shown[1],
            width=CLIP_WIDTH,
            classes=len(CLASSES),
            training_seed=TRAINING_SEED,
            unseen_seed=UNSEEN_SEED,
            chance=1 / (2 * found["unseen_individuals"] - 1),
            **asdict(recipe),
            **found,
        )
    )
    (folder / f"{NAME}.md").write_text(text, encoding="utf-8")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the retriever of clips."""
    parser = argparse.ArgumentParser(description="Train the bundled retriever of clips.")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and cards")
    parser.add_argument("--individuals", type=int, default=Recipe.individuals)
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    chosen = parser.parse_args(arguments)
    recipe = Recipe(individuals=chosen.individuals, epochs=chosen.epochs, steps=chosen.steps)
    if min(recipe.epochs, recipe.steps) < 1 or recipe.individuals * recipe.views < recipe.batch:
        parser.error(f"at least one epoch, one step, and {recipe.batch // recipe.views} individuals")
    begun = time.perf_counter()
    module = train(recipe, lambda line: print(line, flush=True))
    minutes = (time.perf_counter() - begun) / 60
    found = write(module, recipe, chosen.out, minutes)
    print(f"{minutes:.1f} minutes; {json.dumps(found)}", flush=True)


if __name__ == "__main__":
    main()
