"""Saliency of relevance, alone and multiplied with it."""

import torch

from seewhy.explainers.salient import salient
from seewhy.saliency import ContextAwareSaliency

METHOD = ContextAwareSaliency(mode="relevance", part="absolute", longest_side=None, scales=(1,))


def block() -> torch.Tensor:
    relevance = torch.zeros(1, 3, 100, 100)
    relevance[:, :, 30:70, 30:70] = -1
    return relevance


def test_the_inside_of_a_block_has_no_saliency_but_a_product() -> None:
    alone, product = (salient(block(), METHOD, how, 3).values[0] for how in ("saliency", "multiply"))
    assert alone[45:55, 45:55].max() == 0
    assert product[45:55, 45:55].min() > 0.4
    assert product[:10].max() == 0
    assert product.max() == 1


def test_the_product_is_the_smoothed_magnitude_weighed_by_saliency() -> None:
    relevance = torch.randn(2, 2, 24, 24, generator=torch.Generator().manual_seed(0))
    offsets = torch.arange(-6, 7).double()
    kernel = torch.exp(-(offsets**2) / 8)
    kernel = (kernel[:, None] * kernel)[None, None] / kernel.sum() ** 2
    padded = torch.nn.functional.pad(relevance.sum(1, keepdim=True).abs().double(), [6] * 4, mode="replicate")
    smooth = torch.nn.functional.conv2d(padded, kernel)[:, 0]
    expected = smooth * (1 + METHOD(relevance).values)
    found = salient(relevance, METHOD, "multiply", 2).values
    torch.testing.assert_close(
        found.double(), expected / expected.amax((1, 2), keepdim=True), atol=1e-5, rtol=0
    )


def test_the_baseline_is_the_smoothed_magnitude_and_computes_no_saliency(monkeypatch) -> None:
    monkeypatch.setattr(ContextAwareSaliency, "__call__", None)
    single = torch.zeros(1, 3, 25, 25)
    single[0, 1, 12, 12] = -2.0
    found = salient(single, METHOD, "blurred", 2).values[0]
    away = torch.arange(-6, 7).double()
    expected = torch.exp(-(away**2) / 8)  # of the maximum: a Gaussian of sigma 2, cut at 6 pixels
    torch.testing.assert_close(found[12, 6:19].double(), expected, atol=1e-6, rtol=0)
    assert found[12, 5] == 0


def test_without_relevance_there_is_nothing_and_a_note() -> None:
    found = salient(torch.zeros(1, 3, 20, 20), METHOD, "multiply", 2)
    assert found.values.eq(0).all()
    assert found.notes[0][0].startswith("constant")
