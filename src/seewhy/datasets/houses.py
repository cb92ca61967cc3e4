"""The Houses data (Ahmed and Moustafa, 2016): four photographs of each house, and what it was sold for."""

from __future__ import annotations

import math
from pathlib import Path

from seewhy.datasets.folder import pictures_in
from seewhy.datasets.manifest import Item, Manifest
from seewhy.datasets.reading import Reading
from seewhy.errors import InputError

LISTING = "HousesInfo.txt"
LOOKS_FOR = f"{LISTING}, as the Houses data has it"
VIEWS = ("bathroom", "bedroom", "frontal", "kitchen")
FIELDS = ("bedrooms", "bathrooms", "area", "zipcode", "price")
"""What a line of the listing says of a house; the area in square feet, the price in US dollars."""


def recognises(root: Path) -> bool:
    """Whether it holds the listing."""
    return (root / LISTING).is_file()


def read(root: Path, split: str | None = None, pictures: Path | None = None) -> Manifest:
    """The photographs of all houses; ids are file names such as "12_frontal.jpg", labels the views.

    Line n of the listing is house n. Its numbers are attributes of each of its four photographs, with `house`, and
    `log-price`, its natural logarithm: `Manifest.labelled_by("log-price")` is what triplets of close prices
    are made from.

    Args:
        root: the folder with the listing.
        split: the data has none.
        pictures: the photographs' folder; `images` in the folder, where there is one, else the folder itself.

    Raises:
        InputError: no such file, or a split was given.
    """
    if not recognises(root):
        raise InputError(f"{root}: expected {LOOKS_FOR}")
    if split is not None:
        raise InputError("the Houses data has no splits; leave it out")
    reading, listing = Reading("houses", root), root / LISTING
    images = root / "images"
    base = pictures or (images if images.is_dir() else root)
    house = 0
    for line, text in reading.lines(listing):
        house += 1  # photographs go by the line, so that a broken one does not move those after it
        ids = [f"{house}_{view}.jpg" for view in VIEWS]
        claimed = [reading.claim(id, base / id, listing, line) for id in ids]
        assert all(claimed)
        try:
            attributes = _attributes(house, text)
        except InputError as error:
            for id in ids:
                reading.error(listing, str(error), line, id)
            continue
        for id, view in zip(ids, VIEWS, strict=True):
            item = Item(id, base / id, (view,), attributes={"view": view, **attributes})
            reading.add(item, listing, line)
    reading.rest(list(pictures_in(base)), LISTING)
    return reading.manifest({view: view for view in VIEWS})


def _attributes(house: int, text: str) -> dict[str, str]:
    """What a line says."""
    values = text.split()
    try:
        numbers = [float(each) for each in values]
    except ValueError:
        raise InputError(f"{text!r} is not {len(FIELDS)} numbers: {', '.join(FIELDS)}") from None
    if len(numbers) != len(FIELDS) or not all(math.isfinite(each) for each in numbers) or numbers[-1] <= 0:
        raise InputError(f"{text!r} is not {len(FIELDS)} numbers with a price above 0: {', '.join(FIELDS)}")
    said = dict(zip(FIELDS, values, strict=True))
    return {"house": f"{house}", **said, "log-price": f"{math.log(numbers[-1]):.6f}"}
