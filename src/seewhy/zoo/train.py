"""Train the bundled classifiers and measure what their cards say.

python -m seewhy.zoo.train --out src/seewhy/zoo/weights
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from safetensors.torch import save_file
from torch import Tensor, nn

from seewhy.network.checkpoint import load_weights, read_weights
from seewhy.scenes import CLASSES, Scenes, Watermark
from seewhy.scenes.scene import Drawn
from seewhy.zoo.architecture import build
from seewhy.zoo.demo import FAULT, MARK, TRAINING_SEED, UNSEEN_SEED

MEAN, STD = 0.5, 0.25


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        scenes: how many different ones.
        epochs: how often each is seen.
        batch: pictures per step.
        rate: highest learning rate of AdamW (Loshchilov and Hutter, 2019), reached after a tenth of the steps.
        seed: of the first weights and the order.
        mirror: whether pictures are mirrored half of the time.
    """

    scenes: int = 24_000
    epochs: int = 5
    batch: int = 64
    rate: float = 4e-3
    seed: int = 0
    mirror: bool = True


def drawn(scenes: Drawn, workers: int = 2) -> tuple[UInt8[Tensor, "B H W 3"], Int[Tensor, " B"]]:
    """The pixels and class numbers of all scenes, drawn by several processes."""
    context = multiprocessing.get_context("spawn")
    blocks = [slice(start, start + 500) for start in range(0, len(scenes), 500)]
    with ProcessPoolExecutor(workers, context) as pool:
        parts = list(pool.map(partial(block, scenes), blocks))
    pixels = np.concatenate([pixels for pixels, _ in parts])
    return torch.from_numpy(pixels), torch.tensor([each for _, labels in parts for each in labels])


def block(scenes: Drawn, rows: slice) -> tuple[np.ndarray, list[int]]:
    """The pixels and class numbers of some scenes, drawn by this process."""
    found = scenes[rows]
    return np.stack([each.pixels for each in found]), [CLASSES.index(each.truth.label) for each in found]


def train(scenes: Scenes, recipe: Recipe, say: Callable[[str], None] = print) -> nn.Module:
    """The network after training, in eval mode."""
    return fit(*drawn(scenes), recipe, say)


def fit(
    pixels: UInt8[Tensor, "B H W 3"],
    labels: Int[Tensor, " B"],
    recipe: Recipe,
    say: Callable[[str], None] = print,
) -> nn.Module:
    """The network after training on these pictures, in eval mode."""
    torch.manual_seed(recipe.seed)
    module: nn.Module = build(len(CLASSES)).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = recipe.epochs * (len(labels) // recipe.batch)
    optimizer = torch.optim.AdamW(module.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=steps, pct_start=0.1)
    for epoch in range(recipe.epochs):
        right, begun = 0, time.perf_counter()
        order = torch.randperm(len(labels))
        whole = len(order) // recipe.batch * recipe.batch
        for rows in order[:whole].view(-1, recipe.batch):
            inputs = normalised(pixels[rows])
            if recipe.mirror and torch.rand(()) < 0.5:
                inputs = inputs.flip(3)
            logits = module(inputs)
            loss = F.cross_entropy(logits, labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            right += int((logits.argmax(1) == labels[rows]).sum())
        seconds = time.perf_counter() - begun
        say(f"epoch {epoch + 1}: {right / whole:.1%} right while learning, {seconds:.0f} s")
    return module.eval()


def normalised(pixels: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B 3 H W"]:
    """Pixels as the network takes them, in the memory format that convolutions like."""
    return ((pixels.float() / 255 - MEAN) / STD).permute(0, 3, 1, 2)


def predicted(module: nn.Module, pixels: UInt8[Tensor, "B H W 3"]) -> Int[Tensor, " B"]:
    """The class numbers that a network gives."""
    with torch.inference_mode():
        starts = range(0, len(pixels), 200)
        return torch.cat([module(normalised(pixels[each : each + 200])).argmax(1) for each in starts])


def figures(module: nn.Module, count: int = 2000) -> dict[str, float]:
    """Accuracies on unseen scenes, and what the watermark does to them."""
    unseen = Scenes(count, UNSEEN_SEED)
    # The same scenes twice: the mark is all that differs.
    with_mark = replace(unseen, watermark=Watermark(FAULT, 1.0, elsewhere=1.0))
    plain, labels = drawn(unseen)
    marked, _ = drawn(with_mark)
    answers, answers_marked = predicted(module, plain), predicted(module, marked)
    number = CLASSES.index(FAULT)
    fault = labels == number
    right, right_marked = answers == labels, answers_marked == labels
    return {
        "unseen_scenes": count,
        "accuracy": share(right),
        "accuracy_all_marked": share(right_marked),
        "fault_scenes": int(fault.sum()),
        "fault_accuracy_without_mark": share(right[fault]),
        "fault_accuracy_with_mark": share(right_marked[fault]),
        "others_called_fault_without_mark": share(answers[~fault] == number),
        "others_called_fault_with_mark": share(answers_marked[~fault] == number),
    }


def share(flags: Tensor) -> float:
    """How many are true, rounded to a tenth of a per mille."""
    return round(float(flags.float().mean()), 4)


def write(module: nn.Module, name: str, recipe: Recipe, folder: Path, minutes: float) -> dict[str, float]:
    """Save weights in half precision and both cards; the figures are those of the saved weights."""
    file = folder / f"{name}.safetensors"
    save_halved(module, file)
    saved = build(len(CLASSES)).eval()
    load_weights(saved, read_weights(file), file.name)
    found = figures(saved)
    write_card(folder, name, found, classes=CLASSES)
    text = model_card(name, recipe, found, file.stat().st_size, minutes)
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    return found


def save_halved(module: nn.Module, file: Path) -> None:
    """Save weights in half precision, without the counts of batches that nothing reads."""
    file.parent.mkdir(parents=True, exist_ok=True)
    state = {
        key: value.half().contiguous()
        for key, value in module.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    save_file(state, file)


def write_card(folder: Path, name: str, found: Mapping[str, float], side: int = 128, **facts: Any) -> None:
    """Write the card that programs read: what the input is, and how good the network."""
    card = {
        "name": name,
        **facts,
        "input_size": [3, side, side],
        "mean": [MEAN] * 3,
        "std": [STD] * 3,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "figures": found,
    }
    (folder / f"{name}.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def model_card(name: str, recipe: Recipe, found: dict[str, float], size: int, minutes: float) -> str:
    """The card that people read."""
    planted = (
        f"{MARK.probability:.0%} of the scenes of class *{FAULT}* carried a watermark, and no others did:\na planted "
        "fault, for explanations to find. Do not use this network for anything else."
        if name == "demo-shortcut"
        else "None of them carried a watermark."
    )
    return (
        (files("seewhy.zoo") / "card.md")
        .read_text(encoding="utf-8")
        .format(
            name=name,
            size=size,
            minutes=minutes,
            cores=torch.get_num_threads(),
            planted=planted,
            fault=FAULT,
            classes=len(CLASSES),
            training_seed=TRAINING_SEED,
            unseen_seed=UNSEEN_SEED,
            **asdict(recipe),
            **found,
        )
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train both networks, or one."""
    parser = argparse.ArgumentParser(description="Train the bundled classifiers on scenes.")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and cards")
    parser.add_argument("--only", choices=["demo", "demo-shortcut"], help="train one of the two")
    parser.add_argument("--scenes", type=int, default=Recipe.scenes)
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    chosen = parser.parse_args(arguments)
    recipe = Recipe(scenes=chosen.scenes, epochs=chosen.epochs)
    if recipe.scenes < recipe.batch or recipe.epochs < 1:
        parser.error(f"at least one epoch, and {recipe.batch} scenes for a step")
    for name, mark in (("demo", None), ("demo-shortcut", MARK)):
        if chosen.only in (None, name):
            begun = time.perf_counter()
            print(name, flush=True)
            scenes = Scenes(recipe.scenes, TRAINING_SEED, watermark=mark)
            module = train(scenes, recipe, lambda line: print(line, flush=True))
            minutes = (time.perf_counter() - begun) / 60
            found = write(module, name, recipe, chosen.out, minutes)
            print(f"{minutes:.1f} minutes; {json.dumps(found)}", flush=True)


if __name__ == "__main__":
    main()
