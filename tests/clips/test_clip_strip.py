"""Strips and animations show the frames, their maps and what each counts."""

import numpy as np
import pytest
import torch
from clip_networks import Latest, Only, Reader, clips
from PIL import Image, ImageSequence

from seewhy.clips import ClipAttention, Footage, save_animation, strip
from seewhy.errors import InputError
from seewhy.network.preprocess import Preprocess

BAR, TRUE = (0xB0, 0x4A, 0x2F), (0x2F, 0x7D, 0x4F)


@pytest.fixture(scope="module")
def footage():
    pixels = (clips(1)[0] * 255).byte().permute(0, 2, 3, 1).numpy()
    pictures = [(f"frame {number}", Image.fromarray(each)) for number, each in enumerate(pixels)]
    preprocess = Preprocess(resize=(17, 17), mean=(0.0,) * 3, std=(1.0,) * 3)
    return Footage.of("five frames", pictures, preprocess)


def explained(footage, read, **settings):
    torch.manual_seed(0)
    return ClipAttention(**settings)(Reader(read), footage.pixels[None])


def count(picture, color):
    return int((np.asarray(picture) == color).all(2).sum())


def columns(picture, width=40, gap=6):
    """The parts of a strip that belong to each frame."""
    return [
        picture.crop((gap + n * (width + gap), 0, gap + n * (width + gap) + width, picture.height))
        for n in range(5)
    ]


def test_the_bars_are_as_long_as_the_weights(footage) -> None:
    found = explained(footage, Latest())
    parts = columns(strip(footage, found, side=40))

    bars = np.array([count(part, BAR) for part in parts], float)
    weights = found.weights[0].numpy()
    assert bars / bars.max() == pytest.approx(weights / weights.max(), abs=0.03)  # whole pixels of 57


def test_frames_that_decide_are_underlined(footage) -> None:
    found = explained(footage, Only(3))
    deciding = [False, False, False, True, False]
    parts = columns(strip(footage, found, side=40, deciding=deciding))
    assert [count(part, TRUE) > 0 for part in parts] == deciding


def test_an_undefined_map_is_hatched_and_no_colour_lies_on_it(footage) -> None:
    parts = columns(strip(footage, explained(footage, Only(3)), side=40))
    for number, part in enumerate(parts):
        shown = np.asarray(part.crop((0, 18 + 40 + 6, 40, 18 + 80 + 6))).astype(int)
        grey = bool((np.ptp(shown, axis=2) == 0).all())
        assert grey == (number != 3)


@pytest.mark.parametrize("name", ["moving.webp", "moving.gif"])
def test_an_animation_has_all_frames(footage, tmp_path, name) -> None:
    path = save_animation(footage, explained(footage, Latest()), tmp_path / name, side=64)
    with Image.open(path) as animation:
        pages = [page.convert("RGB") for page in ImageSequence.Iterator(animation)]
    assert len(pages) == 5
    assert pages[0].size == (2 * 64 + 6, 64 + 12)
    with pytest.raises(InputError, match=r"\.webp or \.gif"):
        save_animation(footage, explained(footage, Only(1)), tmp_path / "moving.mp4")


def test_a_clip_of_other_frames_is_refused(footage) -> None:
    found = ClipAttention()(Reader(Latest()), clips(1, frames=4))
    with pytest.raises(InputError, match="5 frames, but maps of 4"):
        strip(footage, found)
