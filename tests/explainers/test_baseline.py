"""What stands for an absent picture."""

from __future__ import annotations

import torch
from slow import network, pictures

from seewhy import Network
from seewhy.explainers.baseline import Noise, baselines


def test_noise_has_the_mean_and_spread_of_each_channel():
    images = pictures(2, size=64) * torch.tensor([1.0, 3.0, 0.0])[:, None, None] + 2
    drawn = baselines(Network(network("convolutions")), images, Noise(draws=4))
    for statistic in (torch.mean, torch.std):
        expected = statistic(images, (-2, -1))[:, None].expand(2, 4, 3)
        # 4,096 draws: the standard error is 1/64 of the spread, at most 3.
        torch.testing.assert_close(statistic(drawn, (-2, -1)), expected, atol=0.25, rtol=0)
