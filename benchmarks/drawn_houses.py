"""Do maps for and against the price of a drawn house lie where its worth is? A section of docs/prices.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from seewhy import Houses, Network, load
from seewhy.explainers.base import explain_all
from seewhy.render import overlay
from seewhy.render.markdown import markdown_table
from seewhy.render.panels import panels
from seewhy.render.sheet import sheet
from seewhy.scenes.houses import WORTH
from seewhy.targets import Regression
from seewhy.zoo.appraisal import MAPS, SLACK, Appraised, appraised

PICTURES, SEED = 500, 41  # of no training and of no card
SHOWN, IN_ROW = 8, 12
DRAWN, MISSED = "prices-drawn.webp", "prices-missed.webp"
TEXT = """A house of `seewhy.Houses` costs 200 thousand, and more or less by its parts: {worth}. `demo-houses`
([card](../src/seewhy/zoo/weights/demo-houses.md), trained by `python -m seewhy.zoo.train_houses`) sees a picture, and
answers with an embedding and a price that is linear in it.

```python
import seewhy
from seewhy.targets import Regression

network = seewhy.load("demo-houses")
images = network.read([scene.image for scene in seewhy.Houses(4, seed={seed})])
price = Regression(output="price")
raises = seewhy.EmbeddingGradCAM()(network, images, price)
lowers = seewhy.EmbeddingGradCAM(sign=-1)(network, images, price)
```

A network may know a price by evidence that cancels over places of no worth: an intact roof speaks for it, and the rest
of the house makes up for that; or cells that see a damaged roof and a second floor at once say what both are worth
together. Then no map is right, however good the prices. So this one is trained for its maps to have a truth: it is
given the price of a plain house, its cells see 26 pixels, and what they say of houses at that price, for or against,
costs. It never sees a mask. Such a network is a test of the method, not an example of what networks do: others, with
cells of 46 and of 30 pixels and prices as good, had sign and place right for fewer than six in ten of the houses that
they were tried on.

{count} houses with at least one part, of a seed that was used for nothing else (`seed={seed}`); prices are off by
{off:.1f} thousand in the mean. Fixed beforehand: a *sign* is right if the mean of the signed map over a part's own
pixels has the sign of its worth. A *place* is right if the highest pixel of the map *for* lies on a part that raises
the price, or within {slack} pixels of one, and that of the map *against* on the damaged roof or as near; each where
there is such a part. A picture is right if all of its signs and places are. *Untrained*: the same network with random
weights.

{table}

The first {shown} of them; below each what is for its price, what against (each on its own scale), and both, signed.

![Drawn houses with maps for and against their price](images/{drawn})

All {misses} pictures that are not right, each with its signed map below. What is wrong, counted: {faults}.
Where it is the map against, its top lies on the edge of the roof, beside the hole.

![Every house whose maps are wrong](images/{missed})"""


def text(kept: Path, images: Path) -> Iterator[str]:
    """The section; its pictures go to a folder."""
    network = load("demo-houses", offline=True)
    torch.manual_seed(0)
    untrained = load("demo-houses", weights="random", offline=True)
    found, control = measured(network), measured(untrained)
    wrong = [each for each in found if not each.right]
    shown(network, [each.number for each in found[:SHOWN]]).save(images / DRAWN, quality=80, method=6)
    misses(network, [each.number for each in wrong]).save(images / MISSED, quality=80, method=6)
    faults = Counter(fault for each in wrong for fault in each.faults)
    yield TEXT.format(
        worth=", ".join(f"{name} {value:+d}" for name, value in WORTH.items()),
        seed=SEED,
        count=len(found),
        off=np.mean([abs(each.said - each.price) for each in found]),
        slack=SLACK,
        table=_table(found, control),
        shown=SHOWN,
        drawn=DRAWN,
        misses=len(wrong),
        faults=", ".join(f"{name} {count}" for name, count in faults.most_common()),
        missed=MISSED,
    )


def measured(network: Network, count: int = PICTURES) -> list[Appraised]:
    """The first so many houses of which a part can be seen."""
    return list(appraised(network, Houses(count + count // 5, SEED)[:]))[:count]


def shown(network: Network, numbers: Sequence[int]) -> Image.Image:
    """Houses; below each what is for, what is against its price, and both."""
    houses = Houses(max(numbers) + 1, SEED)
    rows = [[houses[each].image for each in numbers]]
    images = network.read(rows[0])
    found = explain_all(network, images, list(MAPS.values()), target=Regression(output="price")).values()
    for name, each in zip(MAPS, found, strict=True):
        maps = [panels(each, row, signed=name == "signed")[0] for row in range(len(numbers))]
        rows.append([overlay(under, panel) for under, panel in zip(rows[0], maps, strict=True)])
    return sheet(rows, 104, margin=4)


def misses(network: Network, numbers: Sequence[int]) -> Image.Image:
    """Houses in rows, and the signed map below each."""
    rows: list[list[Image.Image]] = []
    for start in range(0, len(numbers), IN_ROW):
        some = numbers[start : start + IN_ROW]
        houses = [Houses(each + 1, SEED)[each].image for each in some]
        found = MAPS["signed"](network, network.read(houses), Regression(output="price"))
        maps = [panels(found, row, signed=True)[0] for row in range(len(some))]
        rows += [houses, [overlay(under, panel) for under, panel in zip(houses, maps, strict=True)]]
    return sheet(rows, 84, margin=4)


def _table(found: Sequence[Appraised], control: Sequence[Appraised]) -> str:
    rows = [["picture", *(_share([each.right for each in own]) for own in (found, control))]]
    for kind, names in (("signs", tuple(WORTH)), ("places", ("for", "against"))):
        for name in names:
            cells = [
                _share([getattr(each, kind)[name] for each in own if name in getattr(each, kind)])
                for own in (found, control)
            ]
            rows.append([f"{kind[:-1]}: {name}", *cells])
    return markdown_table(["right", "`demo-houses`", "untrained"], rows)


def _share(right: Sequence[bool]) -> str:
    return f"{np.mean(right):.1%} of {len(right)}"
