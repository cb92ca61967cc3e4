"""What makes this price? A network that prices houses by their photographs, and maps for and against it.

    python examples/price.py learn HOUSES --out out/prices --weights mobilenet_v2.safetensors
    python examples/price.py explain 12 60 --prices out/prices --out out/pair.png
    python examples/price.py explain 12 --prices out/prices --out out/district.png

HOUSES is the public Houses data (Ahmed and Moustafa, 2016): `HousesInfo.txt` and four photographs of each house. The
first command trains, and says how far its prices are off for houses that it did not learn from, beside what a table
without photographs and the mean price achieve. The others show what of each photograph speaks for its house being
dearer than another, or than its district's mean, and what against.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from cyclopts import App
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from seewhy import EmbeddingGradCAM, Explanation, Network, Preprocess, WeightBank, load
from seewhy.datasets import Manifest, read
from seewhy.datasets.houses import VIEWS
from seewhy.embedding.building import build_bank
from seewhy.embedding.mining import Mining
from seewhy.embedding.recipe import Recipe
from seewhy.render import overlay
from seewhy.render.panels import panels, picture
from seewhy.render.sheet import sheet
from seewhy.targets import Regression
from seewhy.zoo.triplet_loss import value_triplet_loss

FOLDS, WIDTH, CHANNELS, STEPS = 5, 64, 1280, 400
CLOSE = 0.1  # of the logarithm: prices within a tenth are alike
SIDE = 120  # of a picture on the sheet
MAPS = ("embedding Grad-CAM", "transferred")

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
        """Of logarithms (N,): `median` is of exp |said - true| - 1, which over- and underpricing share."""
        off = (said - true).abs()
        explained = 1 - (said - true).square().sum() / (true - true.mean()).square().sum()
        return cls(float(off.expm1().median()), float(off.mean()), float(explained))


@dataclass(frozen=True, eq=False)
class Prices:
    """What `learn` left in its folder.

    Attributes:
        folder: of it.
        network: that prices photographs.
        manifest: the Houses data.
        features: of all photographs, pooled, by house: (4, K), in the order of `VIEWS`.
        unseen: houses that the network did not learn from.
        errors: of the cross-validation, by what prices.
    """

    folder: Path
    network: Network
    manifest: Manifest
    features: Mapping[int, Tensor]
    unseen: frozenset[int]
    errors: Mapping[str, Errors]

    @cached_property
    def bank(self) -> WeightBank | None:
        """The bank of the houses that it learned from, where one was built."""
        if not (self.folder / "bank").exists():
            return None
        bank = WeightBank(self.folder / "bank")
        bank.check(self.network, self.network.digest)
        return bank

    def facts(self, house: int) -> Mapping[str, str]:
        """What the listing says of a house."""
        return self.manifest[f"{house}_{VIEWS[0]}.jpg"].attributes

    def reference(self, house: int, other: int | None) -> Tensor:
        """The pooled features (4, K) that a house is compared with: another's, or the mean of its district's others."""
        if other is not None:
            return self.features[int(self.facts(other)["house"])]
        near = self.neighbours(house)
        if not near:
            code = self.facts(house)["zipcode"]
            raise ValueError(f"house {house} is the only one of the district {code}; name another house")
        return torch.stack([self.features[each] for each in near]).mean(0)

    def neighbours(self, house: int) -> list[int]:
        """The others of its district."""
        code = self.facts(house)["zipcode"]
        return [each for each in self.features if each != house and self.facts(each)["zipcode"] == code]

    def priced(self, features: Tensor) -> float:
        """The logarithm of the price of a house with such pooled features (4, K)."""
        head = self.network.module
        with torch.no_grad():
            found: Tensor = head.get_submodule("price")(head.get_submodule("embed")(features))
        return float(found.mean())


@dataclass(frozen=True, eq=False)
class Gap:
    """Why a house is priced otherwise than another, or than its district's mean.

    Attributes:
        own, than: the logarithms of both prices, by the photographs.
        maps: signed, of the four photographs, by `MAPS`. Those by Grad-CAM sum up to own - than, in the mean of the
            four: each position has what it adds to the price, less what a position of the other's adds on average.
    """

    own: float
    than: float
    maps: Mapping[str, Explanation]


@app.command
def learn(houses: Path, *, out: Path, weights: Path | None = None, bank: bool = True, seed: int = 0) -> None:
    """Train the head, cross-validate it beside a table's regression and the mean, and build a bank.

    The head that is kept is that of the first fold, so that there are houses to explain that it did not learn from.
    Pooled features are kept, too: the same command again does not compute them again.

    Args:
        houses: Folder of the Houses data.
        out: Folder for the head, the figures and the bank; made if need be.
        weights: Of MobileNetV2 as trained on ImageNet; random ones by default.
        bank: Whether to build a bank for maps without back-propagation.
        seed: Of the folds and of the training.
    """
    manifest = read(houses)
    network = priced(weights)
    out.mkdir(parents=True, exist_ok=True)
    features = _features(network, manifest, out)
    numbers = sorted(features)
    pooled = torch.stack([features[house] for house in numbers])
    first = [manifest[f"{house}_{VIEWS[0]}.jpg"].attributes for house in numbers]
    logarithms = torch.tensor([float(each["log-price"]) for each in first])
    said = {name: torch.zeros(len(numbers)) for name in ("photographs", "table", "mean")}
    order = torch.randperm(len(numbers), generator=torch.Generator().manual_seed(seed))
    table = _table(first)
    heads = []
    for fold in range(FOLDS):
        unseen = torch.zeros(len(numbers), dtype=torch.bool)
        unseen[order[fold::FOLDS]] = True
        heads.append(fitted(pooled[~unseen], logarithms[~unseen], seed))
        with torch.no_grad():
            said["photographs"][unseen] = heads[fold](pooled[unseen]).mean((1, 2))
        said["table"][unseen] = _regressed(table[~unseen], logarithms[~unseen], table[unseen])
        said["mean"][unseen] = logarithms[~unseen].mean()
    errors = {name: Errors.of(each, logarithms) for name, each in said.items()}
    save_file(heads[0].state_dict(), out / "head.safetensors")
    facts = {
        "houses": str(houses.resolve()),
        "weights": weights and str(weights.resolve()),
        "unseen": sorted(numbers[row] for row in order[::FOLDS]),
        "errors": {name: asdict(each) for name, each in errors.items()},
    }
    (out / "prices.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    if bank:
        recipe = Recipe(output="embedding", mining=Mining(tolerance=CLOSE))
        made = opened(out)
        learned = [each for each in manifest if int(each.attributes["house"]) not in made.unseen]
        known = replace(manifest, items=tuple(learned)).labelled_by("log-price")
        build_bank(made.network, known, out / "bank", recipe)
    for name, each in errors.items():
        print(f"{name}: off by {each.median:.1%} in the median, R^2 of the logarithm {each.explained:.2f}")


@app.command
def explain(house: int, other: int | None = None, *, prices: Path, out: Path) -> None:
    """What of a house's photographs speaks for its being dearer than another, and what against it.

    The sheet has a column for each photograph, of the house and of the other. Below it: what is for (orange) and what
    against (blue) its house being the dearer one, by back-propagation, then by the weights of what is nearest in the
    bank. Colours are on one scale within a row.

    Args:
        house: Number of its line in HousesInfo.txt.
        other: Of another house; the mean of its district by default.
        prices: Folder that `learn` wrote.
        out: The sheet, a picture.
    """
    made = opened(prices)
    pair = [house] if other is None else [house, other]
    gaps = [gap(made, house, other), *([] if other is None else [gap(made, other, house)])]
    out.parent.mkdir(parents=True, exist_ok=True)
    drawn(gaps).save(out)
    for number, each in zip(pair, gaps, strict=True):
        known = "" if number in made.unseen else "; it learned from this house"
        true = float(made.facts(number)["price"])
        print(f"house {number}: {true:,.0f} dollars; by its photographs {np.exp(each.own):,.0f}{known}")
    than = "the mean of its district" if other is None else f"house {other}"
    print(f"by its photographs {np.expm1(gaps[0].own - gaps[0].than):+.0%} than {than}")
    print(f"sheet: {out}")


def priced(weights: Path | None) -> Network:
    """The network with an untrained head; it sees whole photographs, squashed, since what counts may lie at a side."""
    classifier = load("torchvision:mobilenet_v2", weights=weights or "random", offline=True)
    known = classifier.preprocess
    mean, std = ((0.5,) * 3, (0.5,) * 3) if known is None else (known.mean, known.std)
    preprocess = Preprocess(resize=(224, 224), mean=mean, std=std)
    torch.manual_seed(0)
    module = Priced(classifier.module.get_submodule("features")).eval()
    return Network(module, preprocess=preprocess, name="house prices")


def opened(folder: Path) -> Prices:
    """What `learn` left."""
    facts = json.loads((folder / "prices.json").read_text(encoding="utf-8"))
    network, manifest = priced(facts["weights"] and Path(facts["weights"])), read(facts["houses"])
    features = _features(network, manifest, folder)
    network.module.load_state_dict(load_file(folder / "head.safetensors"), strict=False)
    errors = {name: Errors(**each) for name, each in facts["errors"].items()}
    return Prices(folder, network, manifest, features, frozenset(facts["unseen"]), errors)


def gap(prices: Prices, house: int, other: int | None = None) -> Gap:
    """Explain a house's price beside that of another, or beside its district's mean.

    The price is linear in the pooled features, so its gradient is the same for every photograph, and so is that of
    the gap. What differs is where the features are: of each position's share of the price, the mean share of the
    other's photograph of the same room is taken away.

    The transferred map asks the bank instead: weights of what is nearest to the photograph, less those of what is
    nearest to the other's.

    Args:
        prices: from `opened`.
        house: whose photographs are explained.
        other: the house that it is compared with; the mean of the others of its district by default.

    Raises:
        ValueError: it is the only house of its district.
        InputError: there is no such house.
    """
    network, reference = prices.network, prices.reference(house, other)
    images = network.read([prices.manifest[f"{house}_{view}.jpg"].path for view in VIEWS])
    explained = EmbeddingGradCAM(top_k=None, select="signed")(network, images, Regression(output="price"))
    (site,) = explained.maps
    cells = explained.values[0, 0].numel()
    head = network.module
    embed, price = head.get_parameter("embed.weight"), head.get_parameter("price.weight")
    level = (reference @ (price @ embed)[0].detach())[:, None, None, None] / cells
    maps = {MAPS[0]: replace(explained, maps={site: explained.values - level})}
    if prices.bank is not None:
        with torch.inference_mode():
            found = head.get_submodule("features")(images.pixels).clone()
            vectors = [head.get_submodule("embed")(each) for each in (found.mean((2, 3)), reference)]
        own, than = (prices.bank.weights(prices.bank.nearest(each), CHANNELS) for each in vectors)
        moved = torch.einsum("bk,bkhw->bhw", own - than, found - reference[:, :, None, None])
        maps[MAPS[1]] = replace(explained, maps={site: moved[:, None]})
    return Gap(prices.priced(prices.features[house]), prices.priced(reference), maps)


def drawn(gaps: Sequence[Gap], side: int = SIDE) -> Image.Image:
    """A sheet: photographs, squashed, and a row for each kind of map; orange is for the house being the dearer one."""
    first = [each.maps[MAPS[0]] for each in gaps]
    photographs = [picture(each, row) for each in first for row in range(len(VIEWS))]
    rows = [photographs]
    for name in gaps[0].maps:
        found = [panels(each.maps[name], row, signed=True)[0] for each in gaps for row in range(len(VIEWS))]
        most = max(float(np.abs(each.values).max()) for each in found)
        scaled = [replace(each, limits=(-most, most)) for each in found]
        rows.append([overlay(*each) for each in zip(photographs, scaled, strict=True)])
    return sheet([[each.resize((side, side)) for each in row] for row in rows], side, margin=4)


def fitted(pooled: Tensor, logarithms: Tensor, seed: int) -> nn.Sequential:
    """The head, trained on houses (N, 4, K): each photograph says a price, and the house's is their mean.

    Triplets draw together what costs about the same: an anchor's positives are within `CLOSE` of its log price, its
    negatives beyond twice of it.
    """
    torch.manual_seed(seed)
    mean, scale = pooled.mean((0, 1)), pooled.std((0, 1)) + 1e-3
    inputs, middle = (pooled - mean) / scale, logarithms.mean()
    embed, price = nn.Linear(CHANNELS, WIDTH), nn.Linear(WIDTH, 1)
    optimizer = torch.optim.AdamW([*embed.parameters(), *price.parameters()], 1e-3, weight_decay=0.3)
    for _ in range(STEPS):
        rows = torch.randperm(len(inputs))[:128]
        dropped = F.dropout(inputs[rows], 0.5)
        embedding = embed(dropped)
        wrong = F.huber_loss(price(embedding).mean((1, 2)), logarithms[rows] - middle)
        loss = wrong + 0.05 * value_triplet_loss(embedding.mean(1), logarithms[rows], CLOSE)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():  # so that the head reads features as they are, and says prices as they are
        embed.bias.sub_(embed.weight @ (mean / scale))
        embed.weight.div_(scale)
        price.bias.add_(middle)
    return nn.Sequential(OrderedDict(embed=embed, price=price)).requires_grad_(False)


def _features(network: Network, manifest: Manifest, folder: Path) -> dict[int, Tensor]:
    """The pooled features (4, K) of every house, computed once for a network with an untrained head."""
    known = f"{network.digest} {network.preprocess} {manifest.root.resolve()}"
    kept = folder / f"features-{sha256(known.encode()).hexdigest()[:12]}.safetensors"
    if not kept.exists():
        houses = sorted({int(each.attributes["house"]) for each in manifest.faultless})
        found = {str(house): _pooled(network, manifest, house) for house in houses}
        save_file(found, kept)
    return {int(house): each for house, each in load_file(kept).items()}


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
    slopes: Tensor = torch.linalg.solve(
        inputs.T @ inputs + ridge * torch.eye(inputs.shape[1]), inputs.T @ (values - middle)
    )
    return (unseen - mean) / scale @ slopes + middle


if __name__ == "__main__":
    app()
