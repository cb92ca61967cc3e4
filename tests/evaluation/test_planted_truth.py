"""Planted truth: measures by hand on small masks, then the bundled networks against maps that know nothing."""

import math
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import seewhy
from seewhy.errors import InputError, TargetError
from seewhy.evaluation.planted_truth import MEASURES, highest, measured, planted_truth
from seewhy.scenes import Scene, Scenes, Watermark
from seewhy.truth import Box, Object, Part, Truth

SEVEN = ["cam", "grad-cam", "grad-cam++", "x-grad-cam", "hires-cam", "layer-cam", "eigen-cam"]
CONTROLS = ["centred-gaussian", "centre-pixel", "random-map"]


def truth() -> Truth:
    """A 4 x 4 picture whose object fills the left half; its upper row tells the class; a mark lies right below."""
    mask, part, mark = (np.zeros((4, 4), bool) for _ in range(3))
    mask[:, :2] = part[0, :2] = mark[2:, 2:] = True
    thing = Object("cat", Box(0, 0, 2, 4), mask, (Part("ears", part, True), Part("body", mask & ~part)))
    return Truth((4, 4), (thing,), shortcut=mark)


def test_the_measures_of_a_map_worked_out_by_hand() -> None:
    values = torch.zeros(4, 4)
    values[0, 0], values[3, 0], values[3, 3], values[1, 3] = (
        4,
        1,
        3,
        -9,
    )  # of 8 positive: 5 on it, 4 on ears, 3 on mark
    assert measured(values, truth()) == [1.0, 5 / 8, 4 / 8, 3 / 8]


def test_a_constant_map_has_the_shares_of_area() -> None:
    assert measured(torch.ones(4, 4), truth())[1:] == [0.5, 2 / 16, 4 / 16]


def test_a_map_without_evidence_is_a_miss_and_has_no_energy() -> None:
    pointing, *energies = measured(torch.full((4, 4), -1.0), truth())
    assert pointing == 0
    assert all(math.isnan(each) for each in energies)


def test_without_parts_or_mark_their_energy_is_undefined() -> None:
    whole = Truth((4, 4), (Object("cat", Box(0, 0, 2, 4), truth().objects[0].mask),))
    _, energy, parts, mark = measured(torch.ones(4, 4), whole)
    assert energy == 0.5
    assert math.isnan(parts)
    assert math.isnan(mark)


def test_of_several_maxima_the_one_nearest_to_their_mean_counts() -> None:
    values = np.zeros((5, 5))
    values[0, 0] = values[0, 4] = values[1, 2] = 1
    assert highest(values) == (1, 2)


def test_a_map_in_another_frame_or_a_picture_without_mask_is_refused() -> None:
    with pytest.raises(InputError, match=r"map of \(2, 2\) for a picture of \(4, 4\)"):
        measured(torch.ones(2, 2), truth())
    with pytest.raises(InputError, match="needs a mask"):
        measured(torch.ones(4, 4), Truth((4, 4), (Object("cat", Box(0, 0, 1, 1)),)))


class Bright(nn.Module):
    """Says how bright a picture's red is: its Grad-CAM is the red itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1, bias=False)
        self.conv.weight.data = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
        self.head = nn.Linear(1, 2, bias=False)
        self.head.weight.data = torch.tensor([[1.0], [-1.0]])

    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))


def red_square(label: str, size: int = 16) -> Scene:
    pixels = np.zeros((size, size, 3), np.uint8)
    mask = np.zeros((size, size), bool)
    mask[2:6, 8:12] = True
    pixels[mask] = (255, 0, 0)
    return Scene(pixels, Truth((size, size), (Object(label, Box(8, 2, 12, 6), mask),)))


def bright(size: int = 16) -> seewhy.Network:
    preprocess = seewhy.Preprocess(resize=(size, size), mean=(0.0,) * 3, std=(1.0,) * 3)
    return seewhy.Network(Bright(), preprocess=preprocess, classes=["red", "dark"])


def test_evidence_that_is_the_object_scores_one_and_the_label_is_the_target() -> None:
    found = planted_truth(["grad-cam"], bright(), [red_square("red"), red_square("dark")])

    np.testing.assert_allclose(found["grad-cam"].values["object"], [1, np.nan])  # red speaks against dark
    np.testing.assert_array_equal(found["grad-cam"].values["pointing"], [1, 0])
    assert (found.accuracy, found.pictures) == (0.5, 2)
    assert found["constant"].mean("object") == 16 / 256
    assert found["centre-pixel"].mean("pointing") == 0


def test_maps_are_read_in_the_picture_s_own_pixels() -> None:
    found = planted_truth(["grad-cam"], bright(32), [red_square("red")])
    assert found["grad-cam"].mean("object") > 0.8  # the square's soft border, twice enlarged


def test_batches_change_nothing() -> None:
    network, scenes = seewhy.load("demo"), Scenes(7, seed=21)
    whole = planted_truth(["layer-cam", "eigen-cam"], network, scenes)
    parts = planted_truth(["layer-cam", "eigen-cam"], network, iter(scenes), batch=3)
    for name in whole:
        for measure in MEASURES:
            np.testing.assert_allclose(whole[name].values[measure], parts[name].values[measure], rtol=1e-4)


def test_the_table_says_methods_first_and_json_holds_no_nan() -> None:
    found = planted_truth(["grad-cam"], bright(), [red_square("red"), red_square("dark")])

    lines = re.sub(" +", " ", str(found)).splitlines()
    assert lines[0] == "| method | pointing | object |"
    assert lines[2].startswith("| grad-cam | 0.500 ± 0.500 | 1.000 ± nan")
    assert [line.split(" ")[1].strip("*") for line in lines[3:]] == [
        "random-map", "centred-gaussian", "centre-pixel", "mean-activation", "constant",
    ]  # fmt: skip
    scores = found.to_json()["scores"]["grad-cam"]
    assert scores["parts"] == {"mean": None, "median": None, "error": None, "defined": 0}
    assert scores["object"]["defined"] == 1


def test_no_pictures_an_unknown_label_or_no_preprocessing_is_refused() -> None:
    with pytest.raises(InputError, match="no pictures"):
        planted_truth(["grad-cam"], bright(), [])
    with pytest.raises(TargetError, match="cat"):
        planted_truth(["grad-cam"], bright(), [red_square("cat")])
    with pytest.raises(InputError, match="preprocess"):
        planted_truth(["grad-cam"], Bright(), [red_square("red")])
    found = planted_truth(["grad-cam"], bright(), [red_square("red")])
    with pytest.raises(InputError, match="no measure 'depth'"):
        found.advantage("grad-cam", "constant", "depth")
    with pytest.raises(InputError, match="nothing called 'rise'"):
        found.advantage("rise", "constant", "object")
    with pytest.raises(InputError, match="list of methods"):
        planted_truth("grad-cam", bright(), [red_square("red")])
    with pytest.raises(InputError, match="NaN"):
        measured(torch.full((4, 4), math.nan), truth())
    with pytest.raises(InputError, match="no measure 'depth'"):
        planted_truth(["grad-cam"], bright(), [red_square("red")])["grad-cam"].mean("depth")


@pytest.fixture(scope="module")
def clean():
    return planted_truth(SEVEN, seewhy.load("demo"), Scenes(150, seed=41))


@pytest.mark.parametrize("method", ["grad-cam", "layer-cam"])
@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("measure", ["pointing", "object", "parts"])
def test_the_clean_network_s_maps_clearly_beat_maps_that_know_nothing(
    clean, method, control, measure
) -> None:
    difference, error = clean.advantage(method, control, measure)
    assert difference > 4 * error  # a chance of 1 in 30,000 for each, if there were no difference


def test_the_shortcut_network_s_evidence_lies_on_the_mark_and_the_clean_one_s_does_not() -> None:
    scenes = Scenes(100, seed=43, classes=("hammer",), watermark=Watermark("hammer"))
    for name, least, most in (("demo", 0, 2.5), ("demo-shortcut", 5, 100)):
        found = planted_truth(["grad-cam", "layer-cam"], seewhy.load(name), scenes)
        area = found["constant"].median("shortcut")
        for method in ("grad-cam", "layer-cam"):
            assert least <= found[method].median("shortcut") / area <= most, (name, method)


def test_a_pillow_picture_or_bytes_serve_as_a_path_does(tmp_path) -> None:
    network = bright()
    picture = Image.fromarray(red_square("red").pixels)
    picture.save(tmp_path / "red.png")
    data = (tmp_path / "red.png").read_bytes()
    expected = network.read(tmp_path / "red.png").pixels
    for source in (picture, data, [picture], [data]):
        assert torch.equal(network.read(source).pixels, expected)
