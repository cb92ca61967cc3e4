"""Small networks of clips whose readings are known."""

import torch
from torch import nn


class Reader(nn.Module):
    """Convolutions on every frame, then whatever reads the pooled frames (B, F, K)."""

    def __init__(self, read, order="(BF)", width=6, kernel=3) -> None:
        super().__init__()
        self.read, self.order, self.width = read, order, width
        spatial = nn.Conv2d(3, width, 3, stride=2)
        self.layer = (
            spatial if order != "BKF" else nn.Conv3d(3, width, (kernel, 3, 3), (1, 2, 2), (kernel // 2, 0, 0))
        )
        self.seen = nn.Identity()

    def maps(self, clips):
        """(B, F, K, h, w), through a layer that sees them in the order asked for."""
        count, frames = clips.shape[:2]
        if self.order == "BKF":
            return self.layer(clips.transpose(1, 2)).relu().transpose(1, 2)
        if self.order == "calls":
            return torch.stack([self.layer(clips[:, each]) for each in range(frames)], 1).relu()
        if self.order == "(FB)":
            return (
                self.layer(clips.transpose(0, 1).flatten(0, 1))
                .relu()
                .unflatten(0, (frames, count))
                .transpose(0, 1)
            )
        maps = self.layer(clips.flatten(0, 1)).relu().unflatten(0, (count, frames))
        if self.order == "BF":
            return self.seen(maps)
        return self.seen(maps.transpose(0, 1)).transpose(0, 1) if self.order == "FB" else maps

    def forward(self, clips):
        return self.read(self.maps(clips).mean((3, 4)))


class Only(nn.Module):
    """A recurrence whose gate is open at one frame alone: h <- h + g (W x - h)."""

    def __init__(self, frame, width=6, outputs=24) -> None:
        super().__init__()
        self.frame, self.cell = frame, nn.Linear(width, outputs)

    def forward(self, features):
        state = features.new_zeros(len(features), self.cell.out_features)
        for frame in range(features.shape[1]):
            gate = float(frame == self.frame)
            state = state + gate * (self.cell(features[:, frame]) - state)
        return state


class Latest(nn.Module):
    """The last state of a GRU."""

    def __init__(self, width=6, outputs=24) -> None:
        super().__init__()
        self.memory = nn.GRU(width, outputs, batch_first=True)

    def forward(self, features):
        return self.memory(features)[0][:, -1]


class Mean(nn.Module):
    """A linear layer of the average."""

    def __init__(self, width=6, outputs=24) -> None:
        super().__init__()
        self.head = nn.Linear(width, outputs)

    def forward(self, features):
        return self.head(features.mean(1))


def clips(count=2, frames=5, size=17, seed=0):
    return torch.rand(count, frames, 3, size, size, generator=torch.Generator().manual_seed(seed))
