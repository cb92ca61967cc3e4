"""Distances to the nearest place, against trying all."""

import pytest
import torch
from slow_saliency import distances

from seewhy.saliency.context_aware import attention
from seewhy.saliency.distance import distance_to


@pytest.mark.parametrize("share", [0.003, 0.05, 0.6])
@pytest.mark.parametrize("size", [(31, 17), (12, 40)])
def test_it_is_the_least_of_all_distances(share, size) -> None:
    places = torch.rand(3, *size, generator=torch.Generator().manual_seed(1)) < share
    places[:, 4, 9] = True
    expected = torch.stack([torch.from_numpy(distances(each.numpy())) for each in places])
    torch.testing.assert_close(distance_to(places).double(), expected, atol=1e-5, rtol=0)


def test_without_a_place_it_is_infinite() -> None:
    assert distance_to(torch.zeros(1, 5, 6, dtype=torch.bool)).isinf().all()


def test_attention_is_one_at_the_foci_and_falls_with_the_distance() -> None:
    saliency = torch.zeros(1, 20, 40)
    saliency[0, 10, 5], saliency[0, 10, 6] = 0.9, 0.79
    found = attention(saliency, 0.8)[0]
    assert found[10, 5] == 1
    assert found[10, 15] == pytest.approx(1 - 10 / 40)
    assert found.max() == 1
    assert found[10, 6] < 1
    assert attention(torch.zeros(1, 9, 9), 0.8).eq(0).all()
