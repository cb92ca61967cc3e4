from __future__ import annotations

import time
from dataclasses import FrozenInstanceError
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from render_panels import bump, noise_picture, panel

from seewhy.errors import InputError
from seewhy.render import DIVERGING, INFERNO, Panel, figure, overlay, save_png


def pixels(image):
    return np.asarray(image.convert("RGB")).astype(int)


def test_limits_of_a_magnitude_map_run_from_zero_to_its_maximum():
    assert panel(np.array([[-2.0, 3.0]])).limits == (0.0, 3.0)


def test_limits_of_a_signed_map_are_symmetric():
    assert panel(np.array([[-2.0, 1.0]]), signed=True).limits == (-2.0, 2.0)


def test_given_limits_are_kept():
    assert panel(np.ones((1, 2)), limits=(0.0, 9.0)).limits == (0.0, 9.0)


def test_a_panel_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        panel(bump()).score = 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": np.zeros((2, 2))}, "float32"),
        ({"values": np.zeros((2, 2, 1), dtype=np.float32)}, "float32"),
        ({"values": np.full((2, 2), np.nan, dtype=np.float32)}, "NaN"),
        ({"visible": np.ones((3, 2), dtype=bool)}, "visible"),
        ({"limits": (1.0, 0.0)}, "limits"),
    ],
)
def test_a_panel_that_cannot_be_drawn_is_refused_with_its_method(changes, message):
    fields = SimpleNamespace(**vars(panel(np.zeros((2, 2)))) | changes)
    # Asked directly: the constructor's annotations are enforced in tests and would speak first.
    with pytest.raises(InputError, match=f"grad-cam.*{message}"):
        Panel.__post_init__(fields)


@pytest.mark.parametrize("signed", [False, True])
def test_a_map_without_evidence_leaves_the_picture_untouched(signed):
    picture = noise_picture()
    assert (pixels(overlay(picture, panel(np.zeros((30, 40)), signed=signed))) == pixels(picture)).all()


def test_a_magnitude_map_that_is_nowhere_positive_leaves_the_picture_untouched():
    picture, nothing = noise_picture(), panel(-bump())
    assert not nothing.has_evidence
    assert (pixels(overlay(picture, nothing)) == pixels(picture)).all()


def test_the_picture_shows_through_where_there_is_no_evidence():
    picture, values = noise_picture(), bump()
    drawn = pixels(overlay(picture, panel(values)))
    untouched = (drawn == pixels(picture)).all(axis=2)
    assert untouched[values == 0].all()
    assert not untouched[values > 0.1].any()


@pytest.mark.parametrize(
    ("signed", "value", "colour"),
    [(False, 1.0, INFERNO.table[-1]), (True, 1.0, DIVERGING.table[-1]), (True, -1.0, DIVERGING.table[0])],
)
def test_the_strongest_evidence_is_blended_at_the_given_opacity(signed, value, colour):
    picture = Image.new("RGB", (1, 1), (40, 80, 120))
    drawn = overlay(picture, panel(np.array([[value]]), signed=signed), opacity=0.6)
    expected = 0.4 * np.array([40, 80, 120]) + 0.6 * colour
    # Opacity and colour are both eight bits.
    assert np.abs(pixels(drawn)[0, 0] - expected).max() <= 1.5


def test_stronger_evidence_covers_more():
    ramp = np.linspace(0, 1, 40)[None, :].repeat(30, axis=0)
    black, white = Image.new("RGB", (40, 30)), Image.new("RGB", (40, 30), "white")
    # What differs between a white and a black picture is what still shows through.
    through = (pixels(overlay(white, panel(ramp))) - pixels(overlay(black, panel(ramp))))[0, :, 0]
    assert through[0] == 255
    assert (np.diff(through) < 0).all()


def test_what_the_network_never_saw_is_grey_dim_and_hatched():
    visible = np.ones((60, 80), dtype=bool)
    visible[:, 40:] = False
    picture = Image.new("RGB", (80, 60), (250, 60, 60))
    drawn = pixels(overlay(picture, panel(np.zeros((60, 80)), visible=visible)))
    assert (drawn[:, :40] == [250, 60, 60]).all()
    hidden = drawn[:, 40:]
    assert (np.ptp(hidden, axis=2) == 0).all()
    assert hidden.max() < 200
    assert len(np.unique(hidden)) == 2


def test_evidence_where_nothing_was_seen_is_not_drawn():
    values, visible = bump(), np.zeros((30, 40), dtype=bool)
    picture = noise_picture()
    nothing = panel(np.zeros((30, 40)), visible=visible)
    assert (
        pixels(overlay(picture, panel(values, visible=visible))) == pixels(overlay(picture, nothing))
    ).all()


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_a_picture_of_any_mode_becomes_rgb_of_its_own_size(mode):
    drawn = overlay(noise_picture().convert(mode), panel(bump()))
    assert (drawn.mode, drawn.size) == ("RGB", (40, 30))


@pytest.mark.parametrize("draw", [overlay, figure])
def test_a_map_of_another_size_is_refused_with_both_sizes(draw):
    with pytest.raises(InputError, match="the map is 40x30, the picture 30x40"):
        draw(noise_picture(30, 40), panel(bump(40, 30)))


def test_an_opacity_that_is_no_share_is_refused():
    with pytest.raises(InputError, match="opacity"):
        overlay(noise_picture(), panel(bump()), opacity=2.0)


def test_a_large_picture_takes_under_a_second():
    generator = np.random.default_rng(0)
    picture = Image.new("RGB", (2400, 1800), "teal")
    visible = np.ones((1800, 2400), dtype=bool)
    visible[:100] = False
    large = panel(generator.standard_normal((1800, 2400)), signed=True, visible=visible)
    begin = time.perf_counter()
    overlay(picture, large)
    assert time.perf_counter() - begin < 1


@pytest.mark.parametrize("size", [(400, 300), (700, 500)])
def test_a_figure_holds_the_overlay_unchanged(size):
    picture, wide = noise_picture(*size), panel(bump(*size))
    drawn, margin = figure(picture, wide), max(size) // 32
    margin = max(margin, 14)
    inside = drawn.crop((margin, margin, margin + size[0], margin + size[1]))
    assert (pixels(inside) == pixels(overlay(picture, wide))).all()
    assert drawn.width > size[0]
    assert drawn.height > size[1]


def test_the_colour_bar_has_the_strongest_colour_on_top_and_grey_at_zero():
    drawn = pixels(figure(Image.new("RGB", (400, 300), "white"), panel(bump(400, 300))))
    column = drawn[14 : 14 + 300, 14 + 400 + 14 + 7]
    assert np.abs(column[0] - INFERNO.table[-1]).max() <= 2
    assert np.ptp(column[-1]) < 16


def test_the_limits_stand_beside_the_bar():
    picture, values = Image.new("RGB", (400, 300), "white"), bump(400, 300)
    beside = (14 + 400 + 14 + 14 + 7, 0, 14 + 400 + 14 + 14 + 7 + 60, 330)
    one = pixels(figure(picture, panel(values, limits=(0.0, 1.25))).crop(beside))
    other = pixels(figure(picture, panel(values, limits=(0.0, 3.75))).crop(beside))
    changed = np.flatnonzero((one != other).any(axis=(1, 2)))
    # Only the upper number differs; it stands at the bar's top.
    assert len(changed)
    assert changed.max() < 14 + 20
    assert (one[-40:] < 200).any()


def test_long_captions_are_wrapped_and_not_cut():
    picture, values = noise_picture(400, 300), bump(400, 300)
    short = figure(picture, panel(values, target="cat"))
    wordy = figure(picture, panel(values, target="a " * 200))
    unbroken = figure(picture, panel(values, target="a" * 400))
    assert short.width == wordy.width == unbroken.width
    assert wordy.height > short.height + 50
    assert unbroken.height > short.height + 50


def test_the_caption_of_a_map_without_evidence_says_so():
    picture = noise_picture(400, 300)
    empty = panel(np.zeros((300, 400)))
    # One more line than a map with evidence has.
    assert figure(picture, empty).height > figure(picture, panel(bump(400, 300))).height


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (900, 3), (68, 121)])
def test_pictures_of_odd_sizes_get_a_figure_with_room_for_its_caption(size):
    drawn = figure(noise_picture(*size), panel(bump(*size), target="Ägyptische Katze 漢字 × −1"))
    assert drawn.width >= 384
    assert drawn.height >= 8 * 14


def test_a_png_gives_its_provenance_back(tmp_path):
    provenance = {"method": "grad-cam", "target": "Ägyptische Katze 漢字", "command": "seewhy explain a.jpg"}
    save_png(noise_picture(), tmp_path / "new" / "map.png", provenance)
    with Image.open(tmp_path / "new" / "map.png") as image:
        assert image.text == provenance
        assert (pixels(image) == pixels(noise_picture())).all()


def test_a_file_name_that_is_no_utf8_does_not_stop_the_png(tmp_path):
    save_png(noise_picture(), tmp_path / "map.png", {"picture": "caf\udce9.jpg"})
    with Image.open(tmp_path / "map.png") as image:
        assert image.text == {"picture": "caf?.jpg"}


@pytest.mark.parametrize("keyword", ["", " padded", "x" * 80, "naïve", "two\nlines"])
def test_a_keyword_that_png_does_not_allow_is_refused_before_anything_is_written(tmp_path, keyword):
    with pytest.raises(InputError, match="keyword"):
        save_png(noise_picture(), tmp_path / "map.png", {keyword: "text"})
    assert list(tmp_path.iterdir()) == []
