from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import seewhy
from seewhy.errors import InputError, SeewhyError
from seewhy.explanation import Cost, Explanation, Explanations, Predicted, joined, upsample
from seewhy.network.layers import Site
from seewhy.network.network import Network
from seewhy.network.preprocess import Preprocess

SIZE = (8, 12)


def explanation(*maps: Tensor, **changes: object) -> Explanation:
    """Two pictures, two targets; one site per tensor of maps."""
    found = maps or (values(),)
    facts = {
        "maps": {Site(f"layer{place}"): each for place, each in enumerate(found, 1)},
        "scores": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        "labels": (("cat", "dog"), ("dog", "cat")),
        "predictions": ((Predicted(0, "cat", 0.75),), (Predicted(1, "dog", 0.5), Predicted(0, "cat", 0.25))),
        "method": "grad-cam",
        "settings": {"layer": None, "sign": 1},
        "signed": True,
        "class_agnostic": False,
        "network": "toy",
        "digest": "f00d",
        "size": SIZE,
        "cost": Cost(forwards=2, backwards=4, setup=3),
        "notes": ((), ("no positive evidence",)),
        "reason": "asked for by name",
        "pixels": torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1)),
    }
    return Explanation(**{**facts, **changes})


def values(seed: int = 0, grid: tuple[int, int] = (4, 6)) -> Tensor:
    return torch.randn(2, 2, *grid, generator=torch.Generator().manual_seed(seed))


def test_evidence_is_rectified_at_the_input_s_size_for_methods_defined_so(tmp_path):
    found = explanation(rectifies="input")
    expected = F.interpolate(values(), SIZE, mode="bilinear", align_corners=False).relu()
    assert torch.equal(found.evidence(), expected)
    assert torch.equal(found.original(1)[0], expected[1])
    assert Explanation.from_npz(found.to_npz(tmp_path / "map.npz")).rectifies == "input"


def test_evidence_is_rectified_on_the_grid_before_it_is_upsampled():
    found = explanation().evidence()
    expected = F.interpolate(values().relu(), SIZE, mode="bilinear", align_corners=False)
    assert torch.equal(found, expected)
    assert found.min() >= 0
    # The other order leaves less evidence beside changes of sign.
    other = F.interpolate(values(), SIZE, mode="bilinear", align_corners=False).relu()
    assert bool((found >= other - 1e-6).all())
    assert bool((found > other + 1e-3).any())


def test_evidence_keeps_its_scale():
    assert torch.allclose(explanation(3 * values()).evidence(), 3 * explanation().evidence(), atol=1e-6)


def test_maps_of_input_size_are_not_touched():
    maps = torch.rand(2, 2, *SIZE)
    assert torch.equal(explanation(maps).evidence(), maps)
    assert upsample(maps, SIZE) is maps


def test_heatmaps_by_the_maximum_end_at_one_and_keep_zero():
    evidence = explanation().evidence()
    found = explanation().heatmaps()
    assert torch.allclose(found.amax((-2, -1)), torch.ones(2, 2))
    assert torch.equal(found == 0, evidence == 0)
    assert torch.allclose(found * evidence.amax((-2, -1), keepdim=True), evidence, atol=1e-6)


def test_heatmaps_by_minimum_and_maximum_fill_the_range():
    maps = values().abs() + 1
    found = explanation(maps).heatmaps("minmax")
    assert torch.allclose(found.amin((-2, -1)), torch.zeros(2, 2))
    assert torch.allclose(found.amax((-2, -1)), torch.ones(2, 2))


def test_signed_heatmaps_keep_zero_at_zero_and_the_sign():
    found = explanation().heatmaps("signed")
    upsampled = upsample(values(), SIZE)
    assert torch.allclose(found.abs().amax((-2, -1)), torch.ones(2, 2))
    assert torch.equal(found.sign(), upsampled.sign())
    assert torch.allclose(explanation(-values()).heatmaps("signed"), -found)


@pytest.mark.parametrize(
    ("level", "normalize", "expected"),
    [
        (0.0, "max", 0.0),
        (0.0, "minmax", 0.0),
        (0.0, "signed", 0.0),
        (2.0, "max", 1.0),
        (2.0, "minmax", 0.0),
        (2.0, "signed", 1.0),
        (-2.0, "max", 0.0),
        (-2.0, "minmax", 0.0),
        (-2.0, "signed", -1.0),
    ],
)
def test_constant_maps_have_heatmaps_without_nan(level, normalize, expected):
    found = explanation(torch.full((2, 2, 4, 6), level)).heatmaps(normalize)
    assert torch.allclose(found, torch.full((2, 2, *SIZE), expected))


def test_tiny_maps_are_stretched_like_others():
    found = explanation(values() * 1e-30).heatmaps()
    assert torch.allclose(found, explanation().heatmaps(), atol=1e-5)


def test_each_picture_and_target_is_scaled_by_itself():
    scaled = values() * torch.tensor([[1.0, 5.0], [0.1, 7.0]])[..., None, None]
    assert torch.allclose(explanation(scaled).heatmaps(), explanation().heatmaps(), atol=1e-6)


def test_several_layers_are_asked_for_by_name():
    found = explanation(values(), values(1, (2, 3)))
    assert found.at("layer2").shape == (2, 2, 2, 3)
    assert torch.equal(found.at(Site("layer1")), values())
    assert found.evidence("layer2").shape == (2, 2, *SIZE)
    with pytest.raises(SeewhyError, match="maps at layer1, layer2; name one"):
        found.values  # noqa: B018 - it raises
    with pytest.raises(SeewhyError, match="no map at layer9; there are maps at layer1, layer2"):
        found.at("layer9")


def test_combined_is_the_largest_of_the_stretched_maps():
    found = explanation(values(), values(1, (2, 3)))
    one, other = (found.heatmaps("max", layer) for layer in ("layer1", "layer2"))
    expected = torch.maximum(torch.tanh(2 * one), torch.tanh(2 * other)) / np.tanh(2)
    assert torch.allclose(found.combined(), expected)
    assert float(found.combined().max()) == pytest.approx(1)
    assert torch.allclose(found.combined(gamma=0.01), torch.maximum(one, other), atol=1e-4)  # tanh is linear


def test_pictures_are_selected_with_everything_that_belongs_to_them():
    found = explanation().select([1, 1, 0])
    assert torch.equal(found.values, values()[[1, 1, 0]])
    assert found.scores[:, 0].tolist() == [3, 3, 1]
    assert found.labels == (("dog", "cat"), ("dog", "cat"), ("cat", "dog"))
    assert found.notes == (("no positive evidence",), ("no positive evidence",), ())
    assert found.predictions[2][0].label == "cat"
    assert found.pixels.shape == (3, 3, *SIZE)
    assert len(found) == 3


def test_parts_are_joined_as_they_were():
    whole = explanation()
    parts = [whole.select([0]), whole.select([1])]
    again = joined(parts)
    assert torch.equal(again.values, whole.values)
    assert (again.labels, again.notes, again.predictions) == (whole.labels, whole.notes, whole.predictions)
    assert again.cost == whole.cost + whole.cost
    assert joined([whole]) is whole


def test_costs_add_up_and_are_compared_without_set_up():
    assert Cost(1, 2, 3, 4) + Cost(1, 1, 1, 1) == Cost(2, 3, 4, 5)
    assert Cost(1, 2, 3, 100).within(Cost(1, 2, 3))
    assert not Cost(2, 2, 3).within(Cost(1, 2, 3))
    assert str(Cost(2, 0, 0, 3)) == "2 forwards, 3 setup"
    assert str(Cost()) == "nothing"


FACTS = ("labels", "predictions", "method", "signed", "class_agnostic", "network", "digest", "size", "cost",
         "notes", "reason", "settings")  # fmt: skip


def test_a_file_gives_back_what_was_written(tmp_path):
    sites = {Site("a.b", 1, "pixel_values"): values(), Site("c", 0, 1): values(1, (2, 3))}
    before = replace(explanation(), maps=sites)
    after = Explanation.from_npz(before.to_npz(tmp_path / "one.npz"))
    assert list(after.maps) == list(before.maps)
    assert all(torch.equal(after.maps[site], before.maps[site]) for site in sites)
    assert torch.equal(after.scores, before.scores)
    assert {name: getattr(after, name) for name in FACTS} == {name: getattr(before, name) for name in FACTS}
    assert isinstance(after.predictions[0][0], Predicted)


def test_an_explanation_of_a_network_survives_the_file(tmp_path):
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    before = seewhy.LayerCAM(layer=("0", "1"))(network, torch.rand(2, 3, *SIZE), seewhy.Top(2))
    after = Explanation.from_npz(before.to_npz(tmp_path / "one.npz"))
    assert torch.equal(after.combined(), before.combined())
    assert repr(after) == repr(before)
    assert seewhy.LayerCAM(**after.settings) == seewhy.LayerCAM(**before.settings)


def test_the_file_holds_no_pickle(tmp_path):
    path = explanation().to_npz(tmp_path / "one.npz")
    with np.load(path, allow_pickle=False) as file:
        assert sorted(file) == ["facts", "map0", "scores"]
        assert json.loads(str(file["facts"]))["method"] == "grad-cam"
    with zipfile.ZipFile(path) as archive:
        assert not any(b"\x80\x04" in archive.read(name)[:200] for name in archive.namelist())


def test_names_beyond_ascii_survive_the_file(tmp_path):
    before = explanation(labels=(("Löwe", "猫"), ("dog", "a, b")))
    assert Explanation.from_npz(before.to_npz(tmp_path / "ö.npz")).labels == before.labels


@pytest.mark.parametrize("kind", ["text", "empty", "npy", "npz", "pickle"])
def test_another_file_is_refused_by_name(tmp_path, kind):
    path = tmp_path / "other.npz"
    if kind == "text":
        path.write_text("hello")
    elif kind == "empty":
        path.touch()
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif kind == "pickle":
        with path.open("wb") as file:
            np.save(file, np.array([{}]), allow_pickle=True)
    else:
        np.savez(path, other=np.zeros(3))
    with pytest.raises(InputError, match=r"other\.npz is not an explanation written by seewhy"):
        Explanation.from_npz(path)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        Explanation.from_npz(tmp_path / "none.npz")


def square(left: int, top: int) -> Tensor:
    maps = torch.zeros(2, 2, *SIZE)
    maps[:, :, top : top + 3, left : left + 4] = 1
    return maps


def test_boxes_surround_the_evidence_in_pixels_of_the_frame():
    found = explanation(square(5, 2)).boxes(0.5)
    assert len(found) == 2
    assert len(found[0]) == 2
    (box,) = found[0][0]
    assert (box.x0, box.y0, box.x1, box.y1) == (5, 2, 9, 5)


def test_areas_are_boxes_with_the_masks_of_their_pixels():
    found = explanation(square(5, 2))
    for (area,), (box,) in zip(found.areas()[1], found.boxes(0.5)[1], strict=True):
        assert area.box == box
        assert np.array_equal(area.mask, square(5, 2)[1, 0] == 1)


def test_a_map_without_evidence_has_no_boxes_and_no_areas():
    assert explanation(-square(5, 2)).boxes() == [[[], []], [[], []]]
    assert explanation(-square(5, 2)).areas() == [[[], []], [[], []]]


@pytest.fixture
def from_files(tmp_path) -> Explanation:
    """Pictures of two shapes, cropped to a centred square."""
    for name, size in [("wide.png", (40, 20)), ("tall.png", (20, 30))]:
        noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / name)
    half = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    network = Network(module, preprocess=Preprocess(resize=16, crop=(16, 16), **half))
    images = network.read([tmp_path / "wide.png", tmp_path / "tall.png"])
    return seewhy.GradCAM(layer=("0", "1"))(network, images, [1, 2])


def test_maps_come_back_to_each_picture_s_own_frame(from_files):
    found = replace(from_files, maps={Site("1"): from_files.at("1")}).in_original()
    assert [tuple(maps.shape) for maps, _ in found] == [(1, 20, 40), (1, 30, 20)]
    assert all(maps.min() >= 0 for maps, _ in found)
    wide, seen = found[0]
    assert seen.shape == (20, 40)
    # A 40 x 20 picture is resized to 32 x 16 and its middle 16 columns are seen: a half.
    assert float(seen.float().mean()) == pytest.approx(0.5)
    assert bool((wide[:, ~seen] == 0).all())


def test_without_files_the_frame_is_the_network_s_input():
    maps, seen = explanation().original(0)
    assert torch.equal(maps, explanation().evidence()[0])
    assert bool(seen.all())
    signed, _ = explanation().original(0, signed=True)
    assert torch.equal(signed, upsample(values(), SIZE)[0])


def test_pictures_from_files_are_selected_with_their_frames(from_files):
    found = from_files.select([1])
    assert [Path(path).name for path in found.images.paths] == ["tall.png"]
    assert torch.equal(found.original(0, "1")[0], from_files.original(1, "1")[0])


def test_saving_writes_one_readable_picture_per_panel_with_its_provenance(from_files, tmp_path):
    written = from_files.save(tmp_path / "out" / "deep")
    assert written[0].name == "explanation.npz"
    assert (
        len(written) == len(set(written)) == 1 + 2 * 3
    )  # two layers and their combination, for two pictures
    for path in written[1:]:
        with Image.open(path) as picture:
            picture.load()
            text = " ".join(map(str, picture.info.values()))
        assert "grad-cam" in text
        assert from_files.digest in text
    again = Explanation.from_npz(written[0])
    assert torch.equal(again.at("1"), from_files.at("1"))


def test_saving_tensors_names_pictures_by_number(tmp_path):
    written = explanation().save(tmp_path)
    assert len(written) == len({path.name for path in written}) == 1 + 2 * 2
    assert all(path.is_file() for path in written)


def test_explanations_are_a_mapping_in_the_order_asked_for():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    methods = ["layer-cam", seewhy.GradCAM(), "eigen-cam", seewhy.GradCAM(sign=-1), seewhy.GradCAM(layer="0")]
    found = seewhy.explain_all(network, torch.rand(2, 3, *SIZE), methods, 1)
    assert list(found) == ["layer-cam", "grad-cam", "eigen-cam", "grad-cam#2", "grad-cam#3"]
    assert len(found) == 5
    assert found["grad-cam#2"].settings["sign"] == -1
    assert torch.allclose(found["grad-cam"].values, -found["grad-cam#2"].values)
    assert "grad-cam++" not in found
    assert found.cost == Cost(forwards=2, backwards=2, setup=3)


def test_a_method_s_cost_is_what_it_would_take_alone():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    found = seewhy.explain_all(network, torch.rand(2, 3, *SIZE), ["grad-cam", "eigen-cam"], 1)
    assert found["grad-cam"].cost == Cost(forwards=2, backwards=2, setup=3)
    assert found["eigen-cam"].cost == Cost(forwards=2)


def test_a_notebook_shows_one_self_contained_fragment():
    html = Explanations({"grad-cam": explanation()}, Cost())._repr_html_()
    assert "grad-cam" in html
    assert "data:image/" in html
    assert "http" not in html.replace("http://www.w3.org", "")


def test_an_explanation_says_what_it_is():
    assert repr(explanation()) == (
        "Explanation(grad-cam of toy: layer1 (2, 2, 4, 6); 2 forwards, 4 backwards, 3 setup)"
    )


def test_long_names_that_begin_alike_do_not_share_a_file() -> None:
    from seewhy.render.panels import _safe

    one, other = _safe("block." * 20 + "conv1"), _safe("block." * 20 + "conv2")

    assert one != other
    assert len(one) == len(other) == 48
