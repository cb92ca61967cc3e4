"""Frames of folders, animations and videos become clips; what cannot be read says why."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from seewhy.clips import read_clips
from seewhy.clips.reading import stream_clips
from seewhy.errors import InputError, MissingExtraError
from seewhy.network.images import Failure
from seewhy.network.preprocess import Preprocess

PREPROCESS = Preprocess(resize=(16, 16), mean=(0.0,) * 3, std=(1.0,) * 3)


def grey(level, size=(32, 24)):
    return Image.new("RGB", size, (level,) * 3)


@pytest.fixture
def folder(tmp_path):
    """Twelve frames whose names are in order by number only, each of its number's grey."""
    for number in range(12):
        grey(20 * number).save(tmp_path / f"frame{number}.png")
    return tmp_path


def levels(footage):
    return (footage.pixels.mean((1, 2, 3)) * 255 / 20).round().int().tolist()


def test_a_folder_is_cut_into_clips_in_the_order_of_its_numbers(folder) -> None:
    first, second = read_clips(folder, PREPROCESS, length=5)

    assert first.pixels.shape == (5, 3, 16, 16)
    assert levels(first) == [0, 1, 2, 3, 4]
    assert levels(second) == [5, 6, 7, 8, 9]
    assert second.names == tuple(f"frame{number}.png" for number in range(5, 10))
    assert second.name == f"{folder.name}: frame5.png to frame9.png"
    assert first.pictures[3].size == (32, 24)
    assert first.places[0].original == (24, 32)


def test_frames_can_be_passed_over_and_clips_counted(folder) -> None:
    assert [levels(each) for each in read_clips(folder, PREPROCESS, 2, every=3)] == [[0, 3], [6, 9]]
    assert len(read_clips(folder, PREPROCESS, 2, most=4)) == 4


def test_a_broken_frame_costs_its_clip_and_no_other(folder) -> None:
    (folder / "frame6.png").write_bytes(b"nothing")

    first, broken, third = stream_clips(folder, PREPROCESS, 4)

    assert isinstance(broken, Failure)
    assert "frame6.png: not a picture" in broken.reason
    assert levels(first) + levels(third) == [0, 1, 2, 3, 8, 9, 10, 11]
    with pytest.raises(InputError, match="frame6"):
        read_clips(folder, PREPROCESS, 4)


def test_an_animation_needs_no_other_package(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    pages = [grey(20 * number) for number in range(6)]
    for name in ("moving.gif", "moving.webp"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:], duration=50, lossless=True)
        (clip,) = read_clips(tmp_path / name, PREPROCESS, 6)
        assert levels(clip) == list(range(6))


def test_a_video_is_read_by_pyav(tmp_path) -> None:
    av = pytest.importorskip("av", reason="needs PyAV, the extra `video`")
    with av.open(str(tmp_path / "moving.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(6):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())

    first, second = read_clips(tmp_path / "moving.mp4", PREPROCESS, 3)

    assert second.pictures[0].size == (64, 48)
    assert second.names[0] == "frame 3, 0.30 s"
    grown = torch.cat([first.pixels, second.pixels]).mean((1, 2, 3)) * 255
    assert (grown - 20 * torch.arange(6)).abs().max() < 6  # of a lossy codec


def test_a_video_without_pyav_says_what_brings_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "moving.mp4").write_bytes(b"nothing")
    with pytest.raises(MissingExtraError, match=r"av is not installed; `pip install 'seewhy\[video\]'`"):
        read_clips(tmp_path / "moving.mp4", PREPROCESS)


def test_what_cannot_be_cut_says_why(folder) -> None:
    with pytest.raises(InputError, match=r"has 12 frames .* a clip has 13"):
        read_clips(folder, PREPROCESS, 13)
    with pytest.raises(InputError, match="no such folder or video"):
        read_clips(folder / "nowhere", PREPROCESS)
    with pytest.raises(InputError, match="both are at least 1"):
        read_clips(folder, PREPROCESS, 0)


def test_a_broken_video_says_so(tmp_path) -> None:
    pytest.importorskip("av", reason="needs PyAV, the extra `video`")
    (tmp_path / "broken.avi").write_bytes(b"no video at all")
    with pytest.raises(InputError, match="not a video that can be read"):
        read_clips(tmp_path / "broken.avi", PREPROCESS)
