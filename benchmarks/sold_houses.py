"""What of photographs speaks for and against the price of a house? A section of docs/prices.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from examples import price
from jaxtyping import Float
from torch import Tensor

from benchmarks.subjects import data
from seewhy.datasets.houses import VIEWS
from seewhy.explainers.baseline import blurred
from seewhy.render.markdown import markdown_table

PAIRS = 8
HIDDEN = 10  # of the 49 cells of a photograph
TEXT = """The public [Houses data](datasets.md) (Ahmed and Moustafa, 2016): {count} houses, of each a bathroom, a
bedroom, the front and a kitchen, and what it was sold for.

    python examples/price.py learn HOUSES --out out/prices --weights mobilenet_v2.safetensors

trains a head on the pooled features of MobileNetV2 as trained on ImageNet: an embedding of {width} numbers, by triplets
whose positives' prices are within a tenth, and the logarithm of the price as a linear map of it; a house's is the mean
of its four photographs'. {folds}-fold cross-validation, beside ridge regression on rooms, area and district without any
photograph, and beside the mean:

{errors}

Photographs say something of a price, and much less than rooms, area and district. What follows explains the network of
the first fold on the {unseen} houses that it did not learn from. By one photograph alone, the logarithm of their price
goes with the true one by a correlation of {alone}.

### For and against a gap

    python examples/price.py explain HOUSE OTHER --prices out/prices --out out/pair.png

explains why a house is priced otherwise than another; without OTHER, otherwise than the mean of its district. Every
position of a photograph adds something to the price. What a position of the other's photograph of the same room adds in
the mean is taken away: what all photographs have cancels, and the maps of the four photographs sum up to the gap.
*Transferred*: weights of what is nearest in a [bank](bank.md) of the houses learned from, less those of what is nearest
to the other; nothing is differentiated.

Are these maps of this network's price? The {hidden} of 49 cells of each photograph that speak most for a gap to the
district's mean, or against it, are blurred, or as many anywhere. How much the logarithm of the price falls, mean and
95 % interval over the {compared} houses that are not alone in theirs:

{falls}

Blur alone makes houses cheaper, wherever it is; what a map knows is the difference to blur anywhere. That of Grad-CAM
knows the price, with its sign. The transferred one is a null: it finds places that count, and does not tell which way.

### {pairs} pairs

Sixteen of these houses, evenly spaced by price; each of the dearer half with one of the cheaper. Four photographs of
the dearer one (bathroom, bedroom, front, kitchen), four of the cheaper, squashed as the network sees them; below, maps
by Grad-CAM, then transferred. Orange speaks for its house being the dearer of the two, blue against; one scale within a
row.

{shown}

### What can be believed

{believed}"""
SIDES = {"for": 1, "against": -1}
SEEN = (  # by a person who looked at the pairs that this seed gives
    "Chimney, garden and worktops for; the low front of the other house, its pavement and the dark floors of its rooms "
    "against, and the trees behind it for.",
    "Two storeys and their garden for, and most of the kitchen; fence, hedge and road of the mobile home against. The "
    "transferred map has the large bed against, without a reason that could be seen.",
    "Bed and windows, kitchen and roses a little for; washstand, bedspread and yard against. The transferred map has "
    "little but the washstand.",
    "Pale maps: the network hardly sees the gap that there is. The transferred map has the light bedroom and kitchen "
    "against, which is the wrong way round.",
    "The lit front and the kitchen's doors for, and little against; both maps have the front.",
    "The network sees next to no gap. The surroundings of a fan are for and against at once, a bathroom without "
    "windows is against: nothing to learn from.",
    "Everything in the lit photographs is for, everything in the dark ones against: this is how they were taken as "
    "much as what they show.",
    "The front of the villa stands out, with the sky above it, and the pool in part; lawn and sky of the other's front "
    "are against.",
)
BELIEVED = """* For: large fronts with two storeys and planting, wide kitchens, light. Against: low fronts, bare
  ground, small or dark rooms. That is plausible, and to be seen in more than one pair.
* Light is not worth: where photographs of a dear house were taken with more care, the network counts that. Sky and road
  before a house count where no value can be. The maps show what this network uses, not what a buyer pays for.
* Where the gap that the network sees is small, maps are scaled up all the same, and show accidents.
* The photographs do not say where a house stands, and the table, which does, is much better. No map of the photographs
  can show that.
* Weights transferred from one nearest photograph say what made that one like others of its price. Their difference is
  no map of this gap: it is often of other places than Grad-CAM's, or the wrong way round."""


def text(kept: Path, images: Path) -> Iterator[str]:
    """The section; its pictures go to a folder, what is learned to another."""
    weights = data() / "weights" / "imagenet_torchvision_mobilenet_v2.safetensors"
    price.learn(data() / "houses", out=kept, weights=weights)
    prices = price.opened(kept)
    hidden = measured(prices)
    yield TEXT.format(
        count=len(prices.features),
        width=price.WIDTH,
        folds=price.FOLDS,
        errors=_errors(prices.errors),
        unseen=len(prices.unseen),
        alone=", ".join(f"{value:.2f} ({view})" for view, value in by_view(prices).items()),
        hidden=HIDDEN,
        compared=len(next(iter(hidden.values()))),
        falls=_falls(hidden),
        pairs=PAIRS,
        shown="\n\n".join(_shown(prices, images)),
        believed=BELIEVED,
    )


def by_view(prices: price.Prices) -> dict[str, float]:
    """How the logarithm of the price by each photograph alone goes with the true one, over houses not learned from."""
    unseen = sorted(prices.unseen)
    true = torch.tensor([float(prices.facts(house)["log-price"]) for house in unseen])
    pooled = torch.stack([prices.features[house] for house in unseen])
    head = prices.network.module
    with torch.inference_mode():
        said = head.get_submodule("price")(head.get_submodule("embed")(pooled))[:, :, 0]
    return {
        view: float(torch.corrcoef(torch.stack([said[:, row], true]))[0, 1]) for row, view in enumerate(VIEWS)
    }


def measured(prices: price.Prices) -> dict[str, Float[Tensor, " N"]]:
    """What blurring does to the price of each unseen house that has neighbours, by what is blurred."""
    hidden: dict[str, list[float]] = {}
    for house in filter(prices.neighbours, sorted(prices.unseen)):
        gap = price.gap(prices, house)
        grids = {name: each.values[:, 0] for name, each in gap.maps.items()}
        for name, fell in _falls_of(prices, gap, grids, house).items():
            hidden.setdefault(name, []).append(fell)
    return {name: torch.tensor(each) for name, each in hidden.items()}


def pairs_of(prices: price.Prices) -> list[tuple[int, int]]:
    """Of unseen houses, a dearer and a cheaper one."""
    by_price = sorted(prices.unseen, key=lambda house: (float(prices.facts(house)["log-price"]), house))
    places = torch.linspace(0, len(by_price) - 1, 2 * PAIRS).round().long().tolist()
    return [
        (by_price[dear], by_price[cheap]) for dear, cheap in zip(places[PAIRS:], places[:PAIRS], strict=True)
    ]


def _falls_of(
    prices: price.Prices, gap: price.Gap, grids: Mapping[str, Float[Tensor, "4 h w"]], seed: int
) -> dict[str, float]:
    """How much the logarithm of the price falls where cells are blurred."""
    pixels = gap.maps[price.MAPS[0]].pixels
    assert pixels is not None
    soft = blurred(pixels, 16.0)
    asked = {f"{side}, {name}": sign * grid for name, grid in grids.items() for side, sign in SIDES.items()}
    shape = grids[price.MAPS[0]].shape
    asked["anywhere"] = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    fell = {}
    for name, grid in asked.items():
        least = grid.flatten(1).topk(HIDDEN, 1).values[:, -1, None, None]
        mask = torch.nn.functional.interpolate((grid >= least).float()[:, None], pixels.shape[-2:])
        with torch.inference_mode():
            fell[name] = gap.own - float(prices.network(torch.lerp(pixels, soft, mask))["price"].mean())
    return fell


def _errors(errors: Mapping[str, price.Errors]) -> str:
    names = {"photographs": "photographs", "table": "table, no photographs", "mean": "mean price"}
    head = ["", "median error of the price", "mean error of its logarithm", "R² of the logarithm"]
    rows = [
        [names[name], f"{each.median:.1%}", f"{each.logarithm:.3f}", f"{each.explained:.2f}"]
        for name, each in errors.items()
    ]
    return markdown_table(head, rows)


def _falls(hidden: Mapping[str, Float[Tensor, " N"]]) -> str:
    rows = []
    for name, fell in hidden.items():
        mean, reach = float(fell.mean()), 1.96 * float(fell.std()) / len(fell) ** 0.5
        rows.append([name, f"{mean:+.3f} [{mean - reach:+.3f}, {mean + reach:+.3f}]"])
    return markdown_table(["blurred", "fall of the logarithm of the price"], rows)


def _shown(prices: price.Prices, images: Path) -> Iterator[str]:
    for place, pair in enumerate(pairs_of(prices), 1):
        gaps = [price.gap(prices, house, other) for house, other in (pair, pair[::-1])]
        price.drawn(gaps).save(images / f"prices-{place}.webp", quality=80, method=6)
        said = "; ".join(_priced(prices, house, gap) for house, gap in zip(pair, gaps, strict=True))
        yield f"**{place}.** {said}. {SEEN[place - 1]}"
        yield f"![Houses {pair[0]} and {pair[1]} with maps of the gap](images/prices-{place}.webp)"


def _priced(prices: price.Prices, house: int, gap: price.Gap) -> str:
    true = float(prices.facts(house)["price"])
    return f"House {house}: sold for {true:,.0f}, by its photographs {np.exp(gap.own):,.0f}"
