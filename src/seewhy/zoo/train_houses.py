"""Train the bundled appraiser of drawn houses and measure what its card says.

python -m seewhy.zoo.train_houses --out src/seewhy/zoo/weights
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from seewhy.network.checkpoint import load_weights, read_weights
from seewhy.network.network import Network
from seewhy.network.preprocess import Preprocess
from seewhy.scenes import Houses
from seewhy.scenes.houses import BASE
from seewhy.zoo.appraisal import appraised
from seewhy.zoo.architecture import Pricer
from seewhy.zoo.demo import HOUSE_WIDTH, TRAINING_SEED, UNSEEN_SEED
from seewhy.zoo.train import MEAN, STD, normalised, save_halved, write_card
from seewhy.zoo.triplet_loss import value_triplet_loss

NAME = "demo-houses"


@dataclass(frozen=True)
class Recipe:
    """How the appraiser is trained.

    Attributes:
        houses: how many different ones.
        epochs: how often each is seen.
        batch: pictures per step.
        rate: highest learning rate of AdamW (Loshchilov and Hutter, 2019), reached after a fifth of the steps.
        close: prices that are no farther apart are alike, in thousands; those beyond twice of it are not.
        alike: weight of the triplet loss.
        silent: weight of what all cells say, unsigned, of houses at the price of a plain one. Without it, cells that
            see nothing of worth say much that cancels: then the price is right, and no map of it is.
        terse: weight of the same of any house. Much of it makes cells that see two parts say what both are worth.
        free: share of the epochs before these two weights count. From the beginning, they silence what takes value
            away.
        seed: of the first weights and the order.
    """

    houses: int = 6000
    epochs: int = 10
    batch: int = 32
    rate: float = 5e-3
    close: float = 15.0
    alike: float = 0.05
    silent: float = 0.3
    terse: float = 0.01
    free: float = 0.5
    seed: int = 0

    @property
    def steps(self) -> int:
        """How often the weights change."""
        return self.epochs * (self.houses // self.batch)


def drawn(houses: Houses) -> tuple[UInt8[Tensor, "B H W 3"], Float[Tensor, " B"]]:
    """The pixels of all houses, and their prices in thousands."""
    pixels, prices = [], []
    for scene in houses:
        pixels.append(torch.from_numpy(scene.pixels))
        prices.append(float(scene.truth.objects[0].attributes["price"]))
    return torch.stack(pixels), torch.tensor(prices)


def train(recipe: Recipe, say: Callable[[str], None] = print) -> Pricer:
    """The network after training, in eval mode."""
    pixels, prices = drawn(Houses(recipe.houses, TRAINING_SEED))
    torch.manual_seed(recipe.seed)
    module = Pricer(HOUSE_WIDTH).train()
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(module.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, total_steps=recipe.steps, pct_start=0.2
    )
    whole = recipe.houses // recipe.batch * recipe.batch
    for epoch in range(recipe.epochs):
        off, begun = 0.0, time.perf_counter()
        for rows in torch.randperm(recipe.houses)[:whole].view(-1, recipe.batch):
            inputs = normalised(pixels[rows])
            if torch.rand(()) < 0.5:
                inputs = inputs.flip(3)
            with torch.autocast("cpu", torch.bfloat16):
                features = module.features(inputs)
            found, said = module.appraised(features.float()), module.said(features.float())
            error = (found["price"][:, 0] - prices[rows]) / 100
            plain = prices[rows] == BASE
            loss = error.square().mean()
            loss += recipe.alike * value_triplet_loss(found["embedding"], prices[rows], recipe.close)
            if epoch >= recipe.free * recipe.epochs:
                loss += recipe.silent * said[plain].sum() / plain.sum().clamp_min(1)
                loss += recipe.terse * said.mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            off += 100 * float(error.detach().abs().sum()) / whole
        seconds = time.perf_counter() - begun
        say(f"epoch {epoch + 1}: off by {off:.1f} thousand while learning, {seconds:.0f} s")
    module.eval()
    return module


def figures(module: Pricer, count: int = 300) -> dict[str, float]:
    """How far prices of unseen houses are off, and for how many of them sign and place of the maps are right."""
    houses = Houses(count, UNSEEN_SEED)
    pixels, prices = drawn(houses)
    with torch.inference_mode():
        starts = range(0, count, 100)
        said = torch.cat([module(normalised(pixels[each : each + 100]))["price"][:, 0] for each in starts])
    network = Network(module, preprocess=Preprocess(resize=(128, 128), mean=(MEAN,) * 3, std=(STD,) * 3))
    found = list(appraised(network, houses[:]))
    return {
        "unseen_houses": count,
        "mean_error": round(float((said - prices).abs().mean()), 2),
        "mean_error_of_the_mean": round(float((prices - prices.mean()).abs().mean()), 2),
        "houses_with_parts": len(found),
        "maps_right": round(float(np.mean([each.right for each in found])), 4),
    }


def write(module: Pricer, recipe: Recipe, folder: Path, minutes: float) -> dict[str, float]:
    """Save weights in half precision and both cards; the figures are those of the saved weights."""
    file = folder / f"{NAME}.safetensors"
    save_halved(module, file)
    saved = Pricer(HOUSE_WIDTH).eval()
    load_weights(saved, read_weights(file), file.name)
    found = figures(saved)
    write_card(folder, NAME, found, embedding=HOUSE_WIDTH)
    text = (
        (files("seewhy.zoo") / "houses_card.md")
        .read_text(encoding="utf-8")
        .format(
            name=NAME,
            size=file.stat().st_size,
            minutes=minutes,
            cores=torch.get_num_threads(),
            steps=recipe.steps,
            width=HOUSE_WIDTH,
            training_seed=TRAINING_SEED,
            unseen_seed=UNSEEN_SEED,
            **asdict(recipe),
            **found,
        )
    )
    (folder / f"{NAME}.md").write_text(text, encoding="utf-8")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the appraiser."""
    parser = argparse.ArgumentParser(description="Train the bundled appraiser on drawn houses.")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and cards")
    parser.add_argument("--houses", type=int, default=Recipe.houses)
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    chosen = parser.parse_args(arguments)
    recipe = Recipe(houses=chosen.houses, epochs=chosen.epochs)
    if recipe.steps < 1:
        parser.error(f"at least one epoch, and {recipe.batch} houses for a step")
    begun = time.perf_counter()
    module = train(recipe, lambda line: print(line, flush=True))
    minutes = (time.perf_counter() - begun) / 60
    found = write(module, recipe, chosen.out, minutes)
    print(f"{minutes:.1f} minutes; {json.dumps(found)}", flush=True)


if __name__ == "__main__":
    main()
