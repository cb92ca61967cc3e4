"""What makes this price? A network that prices houses by their photographs, and maps for and against it.

    python examples/price.py learn HOUSES --out out/prices --weights mobilenet_v2.safetensors
    python examples/price.py explain 12 60 --prices out/prices --out out/pair.png

HOUSES is the public Houses data (Ahmed and Moustafa, 2016): `HousesInfo.txt` and four photographs of each house. The
first command trains, and says how far its prices are off for houses that it did not learn from, beside what a table
without photographs and the mean price achieve. The second shows what of each photograph speaks for a higher price than
another house's, and what against.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from cyclopts import App
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from seewhy import EmbeddingGradCAM, Network, Preprocess, TransferCAM, load
from seewhy.datasets import Manifest, read
from seewhy.datasets.houses import VIEWS
from seewhy.embedding.building import build_bank
from seewhy.embedding.mining import Mining
from seewhy.embedding.recipe import Recipe
from seewhy.render import figure
from seewhy.render.panels import panels, picture
from seewhy.render.sheet import sheet
from seewhy.targets import Regression

FOLDS, WIDTH, CHANNELS = 5, 64, 1280
CLOSE = 0.1  # of the logarithm: prices within a tenth are alike
SIDE = 160  # of a picture on the sheet

app = App(help=__doc__)


class Priced(nn.Module):
    """MobileNetV2's layers, pooled; an embedding, and the logarithm of the price as a linear map of it."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.embed = nn.Linear(CHANNELS, WIDTH)
        self.price = nn.Linear(WIDTH, 1)

    def forward(self, photographs: Tensor) -> dict[str, Tensor]:
        embedding = self.embed(self.features(photographs).mean((2, 3)))
        return {"embedding": embedding, "price": self.price(embedding)}


@dataclass(frozen=True)
class Errors:
    """How far prices of unseen houses are off.

    Attributes:
        median: of the error, in shares of the price.
        logarithm: mean absolute error of the logarithm.
        explained: R^2 of the logarithm.
    """

    median: float
    logarithm: float
    explained: float

    @classmethod
    def of(cls, said: Tensor, true: Tensor) -> Errors:
        off = (said - true).abs()
        explained = 1 - (said - true).square().sum() / (true - true.mean()).square().sum()
        return cls(float(off.expm1().median()), float(off.mean()), float(explained))


@app.command
def learn(
    houses: Path, *, out: Path, weights: Path | None = None, bank: bool = True, seed: int = 0
) -> dict[str, Errors]:
    """Train the head, cross-validate it beside a table's regression and the mean, and build a bank.

    Args:
        houses: Folder of the Houses data.
        out: Folder for the head, the figures and the bank; made if need be.
        weights: Of MobileNetV2 as trained on ImageNet; random ones by default.
        bank: Whether to build a bank for maps without back-propagation.
        seed: Of the folds and of the training.
    """
    manifest = read(houses)
    network = priced(weights)
    numbers = sorted({int(each.attributes["house"]) for each in manifest})
    pooled = torch.stack([_pooled(network, manifest, house) for house in numbers])
    first = [manifest[f"{house}_{VIEWS[0]}.jpg"].attributes for house in numbers]
    logarithms = torch.tensor([float(each["log-price"]) for each in first])
    said = {name: torch.zeros(len(numbers)) for name in ("photographs", "table", "mean")}
    order = torch.randperm(len(numbers), generator=torch.Generator().manual_seed(seed))
    table = _table(first)
    for fold in range(FOLDS):
        unseen = torch.zeros(len(numbers), dtype=torch.bool)
        unseen[order[fold::FOLDS]] = True
        head = fitted(pooled[~unseen], logarithms[~unseen], seed)
        with torch.no_grad():
            said["photographs"][unseen] = head(pooled[unseen]).mean((1, 2))
        said["table"][unseen] = _regressed(table[~unseen], logarithms[~unseen], table[unseen])
        said["mean"][unseen] = logarithms[~unseen].mean()
    errors = {name: Errors.of(each, logarithms) for name, each in said.items()}
    out.mkdir(parents=True, exist_ok=True)
    embed, price = fitted(pooled, logarithms, seed)
    save_file({"embed.weight": embed.weight, "embed.bias": embed.bias, "price.weight": price.weight,
               "price.bias": price.bias}, out / "head.safetensors")  # fmt: skip
    where = {"houses": str(houses.resolve()), "weights": weights and str(weights.resolve())}
    facts = {**where, "errors": {name: asdict(each) for name, each in errors.items()}}
    (out / "prices.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    if bank:
        recipe = Recipe(output="embedding", mining=Mining(tolerance=CLOSE))
        build_bank(opened(out)[0], manifest.labelled_by("log-price"), out / "bank", recipe)
    for name, each in errors.items():
        print(f"{name}: off by {each.median:.1%} in the median, R^2 of the logarithm {each.explained:.2f}")
    return errors


@app.command
def explain(house: int, other: int, *, prices: Path, out: Path) -> None:
    """What of a house's photographs speaks for a higher price than another's, and what against it.

    The sheet has a column for each photograph. Below it: what is for and what against the price that the network
    sees, by back-propagation, then what the nearest photograph of the bank says makes its price like that of its like.

    Args:
        house: Number of its line in HousesInfo.txt.
        other: Of another house.
        prices: Folder that `learn` wrote.
        out: The sheet, a picture.
    """
    network, manifest = opened(prices)
    shown, said = pair(network, manifest, house, other, prices / "bank")
    out.parent.mkdir(parents=True, exist_ok=True)
    shown.save(out)
    for number, (own, true) in said.items():
        print(f"house {number}: {true:,.0f} dollars; by its photographs {own:,.0f}")
    print(f"sheet: {out}")


def priced(weights: Path | None) -> Network:
    """The network with an untrained head."""
    whole = load("torchvision:mobilenet_v2", weights=weights or "random", offline=True)
    preprocess = whole.preprocess or Preprocess(resize=(224, 224), mean=(0.5,) * 3, std=(0.5,) * 3)
    torch.manual_seed(0)
    module = Priced(whole.module.get_submodule("features")).eval()
    return Network(module, preprocess=preprocess, name="house prices")


def opened(folder: Path) -> tuple[Network, Manifest]:
    """What `learn` left: the network with its head, and the data."""
    facts = json.loads((folder / "prices.json").read_text(encoding="utf-8"))
    network = priced(facts["weights"] and Path(facts["weights"]))
    network.module.load_state_dict(load_file(folder / "head.safetensors"), strict=False)
    return network, read(facts["houses"])


def fitted(pooled: Tensor, logarithms: Tensor, seed: int, steps: int = 400) -> nn.Sequential:
    """The head, trained on houses (N, 4, K): each photograph says a price, and the house's is their mean.

    Triplets draw together what costs about the same: an anchor's positives are within `CLOSE` of its log price, its
    negatives beyond twice of it.
    """
    torch.manual_seed(seed)
    mean, scale = pooled.mean((0, 1)), pooled.std((0, 1)) + 1e-3
    inputs, middle = (pooled - mean) / scale, logarithms.mean()
    embed, price = nn.Linear(CHANNELS, WIDTH), nn.Linear(WIDTH, 1)
    optimizer = torch.optim.AdamW([*embed.parameters(), *price.parameters()], 1e-3, weight_decay=0.3)
    for _ in range(steps):
        rows = torch.randperm(len(inputs))[:128]
        dropped = F.dropout(inputs[rows], 0.5)
        embedding = embed(dropped)
        wrong = F.huber_loss(price(embedding).mean((1, 2)), logarithms[rows] - middle)
        loss = wrong + 0.05 * _triplets(embedding.mean(1), logarithms[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():  # so that the head reads features as they are, and says prices as they are
        embed.bias -= embed.weight @ (mean / scale)
        embed.weight /= scale
        price.bias += middle
    return nn.Sequential(embed, price).requires_grad_(False)


def _triplets(embeddings: Tensor, values: Tensor) -> Tensor:
    apart = torch.cdist(embeddings, embeddings).square()
    gaps = (values[:, None] - values).abs()
    same = (gaps < CLOSE) & ~torch.eye(len(values), dtype=torch.bool)
    hinges = (apart[:, :, None] - apart[:, None, :] + 1).clamp_min(0)
    return hinges[same[:, :, None] & (gaps > 2 * CLOSE)[:, None, :]].mean()


def _pooled(network: Network, manifest: Manifest, house: int) -> Tensor:
    images = network.read([manifest[f"{house}_{view}.jpg"].path for view in VIEWS])
    with torch.inference_mode():
        found: Tensor = network.module.get_submodule("features")(images.pixels).mean((2, 3))
    return found.clone()


def _table(rows: Sequence[Mapping[str, str]]) -> Tensor:
    """What is known without photographs: rooms, the logarithm of the area, and the district."""
    districts = sorted({each["zipcode"] for each in rows})
    numbers = [
        [float(each["bedrooms"]), float(each["bathrooms"]), np.log(float(each["area"]))] for each in rows
    ]
    places = [[float(each["zipcode"] == district) for district in districts] for each in rows]
    return torch.cat([torch.tensor(numbers), torch.tensor(places)], 1).float()


def _regressed(seen: Tensor, values: Tensor, unseen: Tensor, ridge: float = 1.0) -> Tensor:
    """Ridge regression (Hoerl and Kennard, 1970) on standardised columns."""
    mean, scale, middle = seen.mean(0), seen.std(0) + 1e-6, values.mean()
    inputs = (seen - mean) / scale
    slopes = torch.linalg.solve(
        inputs.T @ inputs + ridge * torch.eye(inputs.shape[1]), inputs.T @ (values - middle)
    )
    return (unseen - mean) / scale @ slopes + middle


def pair(
    network: Network, manifest: Manifest, house: int, other: int, bank: Path
) -> tuple[Image.Image, dict[int, tuple[float, float]]]:
    """The sheet of two houses, and of each what its photographs say it costs, and what it did."""
    said: dict[int, tuple[float, float]] = {}
    rows: list[list[Image.Image]] = []
    for number in (house, other):
        images = network.read([manifest[f"{number}_{view}.jpg"].path for view in VIEWS])
        with torch.no_grad():
            own = float(network(images.pixels)["price"].mean().exp())
        said[number] = own, float(manifest[f"{number}_{VIEWS[0]}.jpg"].attributes["price"])
        target = Regression(output="price")
        found = [
            EmbeddingGradCAM()(network, images, target),
            EmbeddingGradCAM(sign=-1)(network, images, target),
        ]
        if bank.exists():
            found.append(TransferCAM(bank=bank)(network, images, target))
        rows.append([picture(found[0], row) for row in range(len(VIEWS))])
        rows += [
            [figure(picture(each, row), panels(each, row)[0]) for row in range(len(VIEWS))] for each in found
        ]
    return sheet(rows, SIDE, margin=4), said


if __name__ == "__main__":
    app()
