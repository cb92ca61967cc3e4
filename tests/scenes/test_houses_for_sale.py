"""Houses: the price is the sum of what can be seen, and what can be seen is in the truth."""

import numpy as np
import pytest

from seewhy.errors import InputError
from seewhy.scenes import Houses
from seewhy.scenes.houses import BASE, WORTH, part_mask, price


def test_the_price_is_the_sum_of_the_parts_that_the_truth_shows() -> None:
    prices = set()
    for scene in Houses(40, seed=2, size=96):
        (house,) = scene.truth.objects
        shown = {part.name for part in house.parts if part.distinguishing}
        assert house.attributes["price"] == str(price(frozenset(shown)))
        prices.add(int(house.attributes["price"]))
    assert min(prices) < BASE < max(prices)


def test_every_part_is_in_about_half_of_the_houses_whatever_the_others() -> None:
    houses = [scene.truth.objects[0] for scene in Houses(200, seed=3, size=48)]
    has = np.array([[name in each.attributes["has"] for name in WORTH] for each in houses])
    assert (np.abs(has.mean(0) - 0.5) < 0.12).all()  # more than three standard errors
    assert (np.abs(np.corrcoef(has.T) - np.eye(len(WORTH))) < 0.25).all()


def test_the_same_house_is_drawn_whatever_was_drawn_before() -> None:
    houses = Houses(5, seed=1, size=64)
    assert (houses[3].pixels == list(houses)[3].pixels).all()
    assert (houses[3].pixels != Houses(5, seed=2, size=64)[3].pixels).any()


def test_a_part_has_pixels_where_the_house_has_it() -> None:
    for scene in Houses(20, seed=4, size=96):
        (house,) = scene.truth.objects
        for name in WORTH:
            assert part_mask(house, name, (96, 96)).any() == (name in house.attributes["has"])


def test_unknown_parts_and_counts_are_refused() -> None:
    with pytest.raises(InputError, match="no part 'sauna'; there are pool"):
        price(("sauna",))
    with pytest.raises(InputError):
        Houses(-1)
