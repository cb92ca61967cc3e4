"""A network of pictures as one of clips: what it says of the frames, averaged."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from seewhy.network.network import main_output


class FrameAverage(nn.Module):
    """Clips (B, F, C, H, W) to the mean over their frames of what a network says of pictures.

    Args:
        network: takes pictures (N, C, H, W) and gives one vector for each.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: Float[Tensor, "B F C H W"]) -> Float[Tensor, "B D"]:
        answers = main_output(self.network(clips.flatten(0, 1)))
        return answers.reshape(*clips.shape[:2], *answers.shape[1:]).mean(1)
