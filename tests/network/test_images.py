from __future__ import annotations

import io
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seewhy.errors import InputError
from seewhy.network.images import Failure, find, open_picture, read, stream
from seewhy.network.preprocess import Preprocess

DATA = Path(os.environ.get("SEEWHY_DATA", "../shared/data"))
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
SMALL = Preprocess(resize=(8, 8), **HALF)


def encoded(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def ramp(mode: str = "RGB") -> Image.Image:
    """6 x 4 pixels, no two alike."""
    return Image.fromarray((np.arange(72, dtype=np.uint8) * 3).reshape(4, 6, 3)).convert(mode)


def folder_of(path: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(Image.new("RGB", (9, 9), (number, 0, 0))))
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright_whatever_their_exif_says(orientation):
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that each orientation undoes
    upright = ramp()
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(back[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("PNG", "TIFF", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        seen = open_picture(encoded(stored, kind, exif=exif, **options))
        assert np.array_equal(np.asarray(seen), np.asarray(upright)), kind


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(mode):
    source = ramp(mode)
    expected = source.convert("RGB")
    seen = open_picture(source)
    assert (seen.mode, seen.size) == ("RGB", (6, 4))
    assert np.array_equal(np.asarray(seen), np.asarray(expected))


def test_a_cmyk_jpeg_keeps_its_colours():
    seen = open_picture(
        encoded(Image.new("RGB", (16, 16), (200, 40, 90)).convert("CMYK"), "JPEG", quality=95)
    )
    assert np.abs(np.asarray(seen).astype(int) - [200, 40, 90]).max() <= 3  # JPEG


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_over_white(mode):
    picture = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    picture.putpixel((1, 0), (0, 0, 0, 255))
    seen = np.asarray(open_picture(encoded(picture.convert(mode))))
    assert seen.tolist() == [[[255, 255, 255], [0, 0, 0]]]


def test_half_transparency_is_mixed_with_white():
    seen = open_picture(Image.new("RGBA", (1, 1), (255, 0, 0, 128)))
    assert seen.getpixel((0, 0)) == (255, 127, 127)


def test_palette_transparency_lies_over_white():
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putdata([0, 1])
    for kind, options in (("PNG", {"transparency": bytes([0, 255])}), ("GIF", {"transparency": 0})):
        seen = np.asarray(open_picture(encoded(picture, kind, **options)))
        assert seen.tolist() == [[[255, 255, 255], [40, 50, 60]]], kind


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_greys_are_scaled_and_not_clipped(kind):
    deep = Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16))
    assert np.asarray(open_picture(encoded(deep, kind)))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_32_bit_and_floating_point_greys_are_scaled():
    for values, expected in (
        (np.array([[0, 65535]], dtype=np.int32), [0, 255]),
        (np.array([[0, 200000]], dtype=np.int32), [0, 255]),
        (np.array([[0.0, 0.5, 1.0]], dtype=np.float32), [0, 128, 255]),
        (np.array([[0.0, 100.0, 255.0]], dtype=np.float32), [0, 100, 255]),
        (np.array([[0.0, 500.0, 1000.0]], dtype=np.float32), [0, 128, 255]),
    ):
        assert np.asarray(open_picture(Image.fromarray(values)))[0, :, 0].tolist() == expected


def test_values_that_are_not_numbers_are_refused():
    with pytest.raises(InputError, match="not numbers"):
        open_picture(Image.fromarray(np.array([[np.nan]], dtype=np.float32)))


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (5, 5), colour) for colour in ("red", "blue")]
    seen = open_picture(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert seen.getpixel((2, 2)) == (255, 0, 0)


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises these pixels and has none."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(10000, 5001), (12000, 9000), (60000, 60000)])
def test_more_than_50_megapixels_are_refused_by_the_header(size, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(InputError, match="50 megapixels"):
        open_picture(png_header(*size))


def broken_files() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    whole = encoded(Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)), "JPEG")
    return {
        "empty": b"",
        "text": b"this is not a picture",
        "truncated": whole[: len(whole) // 2],
        "no pixels": png_header(20, 20),
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
        "zeros": bytes(1000),
    }


@pytest.mark.parametrize("name", broken_files())
def test_a_broken_file_is_an_input_error_with_its_name(name, tmp_path):
    file = tmp_path / f"{name}.jpg"
    file.write_bytes(broken_files()[name])
    with pytest.raises(InputError, match=f"{name}.jpg: "):
        open_picture(file)


def test_hostile_bytes_are_never_anything_but_an_input_error():
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"):
        whole = bytearray(encoded(Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)), kind))
        for _ in range(60):
            mutated = bytearray(whole)
            for place in rng.integers(0, len(whole), 6):
                mutated[place] = rng.integers(0, 256)
            try:
                assert open_picture(bytes(mutated)).mode == "RGB"
            except InputError as error:
                assert str(error).startswith("bytes: ")  # noqa: PT017


def test_missing_files_and_folders_are_named_plainly(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        open_picture(tmp_path / "none.jpg")
    with pytest.raises(InputError, match="folder"):
        open_picture(tmp_path)


def corrupt_exif() -> bytes:
    """A good JPEG whose EXIF block counts more entries than it has."""
    exif = (
        b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x05\x00" + b"\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00"
    )
    whole = encoded(Image.new("RGB", (20, 10), "red"), "JPEG")
    return whole[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + whole[2:]


def test_odd_metadata_costs_no_picture_where_warnings_are_errors():
    with pytest.warns(UserWarning, match="Corrupt EXIF"), Image.open(io.BytesIO(corrupt_exif())) as picture:
        picture.getexif()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_picture(corrupt_exif()).size == (10, 20)  # what the block says before it breaks is heeded


def test_reading_keeps_the_order_and_lists_what_failed(tmp_path):
    folder_of(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "broken.jpg").write_bytes(b"no")
    asked = [tmp_path / name for name in ("c.png", "broken.jpg", "a.png", "none.png")]
    found = read(asked, SMALL)
    assert found.paths == (str(asked[0]), str(asked[2]))
    assert found.failed == (
        Failure(str(asked[1]), "not a picture in a format that can be read"),
        Failure(str(asked[3]), "no such file"),
    )
    assert (found.asked, len(found), found.pixels.shape) == (4, 2, (2, 3, 8, 8))
    assert found.frames[0].original == (9, 9)
    for row, path in zip(found.pixels, found.paths, strict=True):
        assert torch.equal(row, SMALL(open_picture(path)))


def test_pictures_in_memory_are_told_apart_by_number():
    found = read([ramp(), encoded(ramp()), b"no"], SMALL)
    assert found.paths == ("picture[0]", "bytes[1]")
    assert found.failed[0].path == "bytes[2]"


def test_inputs_of_another_size_than_the_first_fail_with_a_reason():
    found = read([Image.new("RGB", size) for size in ((30, 20), (31, 20), (30, 20))], Preprocess(**HALF))
    assert found.paths == ("picture[0]", "picture[2]")
    assert "31x20" in found.failed[0].reason
    assert "30x20" in found.failed[0].reason


def test_a_picture_too_narrow_for_the_resize_is_a_failure():
    found = read([Image.new("RGB", (40000, 1)), ramp()], Preprocess(resize=256, crop=(8, 8), **HALF))
    assert (len(found), found.failed[0].path) == (1, "picture[0]")


def test_reading_nothing_good_gives_an_empty_batch_of_the_right_size():
    assert read([b"no"], SMALL).pixels.shape == (0, 3, 8, 8)
    assert read([], SMALL).asked == 0


def test_images_move_to_a_device_and_stay_what_they_are():
    found = read([ramp()], SMALL)
    moved = found.to("meta")
    assert (moved.pixels.device.type, moved.paths, moved.frames) == ("meta", found.paths, found.frames)


def test_a_stream_gives_every_picture_once_and_in_order(tmp_path):
    folder_of(tmp_path, *(f"{number:02}.png" for number in range(23)))
    for number in (3, 4, 5, 17):
        (tmp_path / f"{number:02}.png").write_bytes(b"no")
    asked = sorted(str(path) for path in tmp_path.iterdir())
    batches = list(stream(asked, SMALL, 3))
    assert [batch.asked for batch in batches] == [3] * 7 + [2]
    whole = read(asked, SMALL)
    assert sum((batch.paths for batch in batches), ()) == whole.paths
    assert sum((batch.failed for batch in batches), ()) == whole.failed
    assert torch.equal(torch.cat([batch.pixels for batch in batches]), whole.pixels)


def test_a_stream_reads_no_further_than_one_batch_ahead():
    taken: list[int] = []

    def sources():
        for number in range(100):
            taken.append(number)
            yield Image.new("RGB", (4, 4))

    batches = stream(sources(), SMALL, 5)
    for number, _ in zip(range(3), batches, strict=False):
        assert len(taken) == 5 * (number + 2)
    batches.close()
    assert len(taken) == 20


def test_a_stream_that_is_left_early_leaves_no_thread_behind():
    batches = stream((Image.new("RGB", (64, 64)) for _ in range(50)), SMALL, 4)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("seewhy-decode")]


def test_a_batch_of_no_pictures_is_refused_at_once():
    with pytest.raises(InputError, match="batch_size"):
        stream([], SMALL, 0)


def test_folders_are_searched_to_the_bottom_in_order(tmp_path):
    names = ("b/2.JPEG", "b/c/1.jfif", "a/9.webp", "z.png", "a/notes.txt", ".hidden/x.png", "a/._9.png")
    folder_of(tmp_path, *names)
    expected = ["z.png", "a/9.webp", "b/2.JPEG", "b/c/1.jfif"]
    assert list(find([str(tmp_path)])) == [str(tmp_path / name) for name in expected]


def test_a_folder_that_links_to_itself_is_searched_once(tmp_path):
    folder_of(tmp_path, "a/1.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert list(find([str(tmp_path)])) == [str(tmp_path / "a" / "1.png")]


def test_globs_give_pictures_and_the_folders_that_they_match(tmp_path):
    folder_of(tmp_path, "a/1.png", "a/2.txt", "b/3.png", "4.png")
    assert list(find([str(tmp_path / "*")])) == [
        str(tmp_path / name) for name in ("4.png", "a/1.png", "b/3.png")
    ]
    assert list(find([str(tmp_path / "**" / "*.png")])) == sorted(
        str(tmp_path / name) for name in ("4.png", "a/1.png", "b/3.png")
    )


def test_a_file_is_given_as_it_is_whatever_its_name(tmp_path):
    folder_of(tmp_path, "dog[1].dat")
    assert list(find([str(tmp_path / "dog[1].dat")])) == [str(tmp_path / "dog[1].dat")]


def test_what_matches_nothing_becomes_a_failure(tmp_path):
    (tmp_path / "empty").mkdir()
    asked = [str(tmp_path / name) for name in ("none.jpg", "*.gif", "empty")]
    assert list(find(asked)) == asked
    assert [failure.path for failure in read(find(asked), SMALL).failed] == asked


def test_all_example_pictures_of_other_packages_are_read():
    folder = DATA / "peer-examples"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}; set SEEWHY_DATA")
    found = read(find([str(folder)]), SMALL)
    assert (len(found), found.failed) == (18, ())
