"""Which pictures of a class get masks: those that the network takes for it."""

from __future__ import annotations

import torch
from PIL import Image
from torch import nn

import seewhy
from seewhy import CrispMask, datasets
from seewhy.store import Store
from seewhy.summaries.masks import mask_work

METHOD = CrispMask(smooth=2, sharp=1)


class Red(nn.Module):
    """A single logit: how red a picture is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1)
        self.conv.weight.data = torch.tensor([4.0, -2, -2]).view(1, 3, 1, 1)
        self.conv.bias.data.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).mean((2, 3))


def failed(tmp_path, classes: tuple[str, str], index: int) -> dict[str, str | None]:
    preprocess = seewhy.Preprocess(resize=(16, 16), mean=(0.0,) * 3, std=(1.0,) * 3)
    network = seewhy.Network(Red().eval(), preprocess=preprocess, classes=classes)
    pictures = []
    for name in ("red", "blue"):
        path = tmp_path / f"{name}.png"
        Image.new("RGB", (20, 20), name).save(path)
        pictures.append(datasets.Item(name, path, (name,)))
    work = mask_work(network, pictures, index, METHOD, Store(tmp_path / "store"), 2, {"version": "1"})
    return {row["id"]: row["failed"] for row in work.rows()}


def test_a_single_logit_says_yes_or_no_by_its_sign(tmp_path) -> None:
    assert failed(tmp_path, ("other", "red"), 1) == {"red": None, "blue": "taken for other"}
    assert failed(tmp_path, ("other", "red"), 0) == {"red": "taken for red", "blue": None}


def test_other_class_names_are_another_work(tmp_path) -> None:
    assert failed(tmp_path, ("other", "red"), 1)["blue"] == "taken for other"
    assert failed(tmp_path, ("anders", "rot"), 1)["blue"] == "taken for anders"
