from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import ValidationError

from seewhy.errors import InputError
from seewhy.network.images import open_picture
from seewhy.network.load import import_torchvision
from seewhy.network.preprocess import Frame, Preprocess

DATA = Path(os.environ.get("SEEWHY_DATA", "../shared/data"))
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
SIZES = [(301, 227), (226, 302), (33, 57), (57, 34), (224, 224), (257, 225), (17, 230)]  # (H, W)
FLOAT_ERROR = 1e-3  # grey levels: float32 rounding of the same arithmetic in another order


def noise(height: int, width: int) -> Image.Image:
    pixels = np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def photographs(count: int = 4) -> list[Image.Image]:
    """Real pictures, none where the data is missing: the noise is tested in any case."""
    return [open_picture(path) for path in sorted((DATA / "photos").glob("*.JPEG"))[:count]]


def grey_levels_apart(preprocess: Preprocess, transform, picture: Image.Image) -> float:
    """The largest difference between the two inputs, in grey levels of 0 to 255."""
    ours, theirs = preprocess(picture), torch.as_tensor(np.asarray(transform(picture)))
    assert ours.shape == theirs.shape
    return float(
        ((ours - theirs).abs() * torch.tensor(preprocess.std)[:, None, None] / preprocess.scale).max()
    )


TIMM = [
    {"input_size": (3, 224, 224), "crop_pct": 0.875, "interpolation": "bilinear", "crop_mode": "center"},
    {"input_size": (3, 225, 225), "crop_pct": 0.95, "interpolation": "bicubic", "crop_mode": "center"},
    {"input_size": (3, 223, 181), "crop_pct": 0.9, "interpolation": "bicubic", "crop_mode": "center"},
    {"input_size": (3, 225, 225), "crop_pct": 0.9, "interpolation": "lanczos", "crop_mode": "squash"},
    {"input_size": (3, 160, 320), "crop_pct": 1.0, "interpolation": "bilinear", "crop_mode": "squash"},
    {"input_size": (3, 225, 225), "crop_pct": 0.9, "interpolation": "bicubic", "crop_mode": "border"},
    {"input_size": (3, 288, 288), "crop_pct": 1.0, "interpolation": "nearest", "crop_mode": "border"},
]


@pytest.mark.parametrize("config", TIMM, ids=lambda c: f"{c['crop_mode']}-{c['interpolation']}")
def test_timm_settings_give_timms_input(config):
    import_torchvision()
    from timm.data import create_transform

    transform = create_transform(**config, **IMAGENET)
    preprocess = Preprocess.from_timm(config | IMAGENET)
    pictures = [noise(*size) for size in SIZES] + photographs()
    assert max(grey_levels_apart(preprocess, transform, picture) for picture in pictures) < FLOAT_ERROR


def test_a_greyscale_timm_network_gets_one_channel():
    import_torchvision()
    from timm.data import create_transform

    config = {
        "input_size": (1, 28, 28),
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": (0.13,),
        "std": (0.3,),
    }
    picture = noise(40, 51).convert("L")
    assert grey_levels_apart(Preprocess.from_timm(config), create_transform(**config), picture) < FLOAT_ERROR


@pytest.mark.parametrize(
    "name", ["mobilenet_v2", "resnet50", "inception_v3", "vit_h_14", "swin_t", "deeplabv3_resnet50"]
)
def test_torchvision_presets_give_torchvisions_input(name):
    import_torchvision()
    from torchvision.models import get_model_weights

    preset = get_model_weights(name).DEFAULT.transforms()
    preprocess = Preprocess.from_torchvision(preset)
    pictures = [noise(*size) for size in SIZES] + photographs()
    assert max(grey_levels_apart(preprocess, preset, picture) for picture in pictures) < FLOAT_ERROR


def test_a_torchvision_preset_that_is_not_for_pictures_is_refused():
    import_torchvision()
    from torchvision.models import get_model_weights

    with pytest.raises(InputError, match="ObjectDetection"):
        Preprocess.from_torchvision(get_model_weights("fasterrcnn_resnet50_fpn").DEFAULT.transforms())


HUGGINGFACE = [
    ("ViTImageProcessor", {}),
    ("ViTImageProcessor", {"resample": 3}),
    ("ConvNextImageProcessor", {"size": {"shortest_edge": 225}, "crop_pct": 0.875}),
    ("ConvNextImageProcessor", {}),
    ("BitImageProcessor", {"crop_size": {"height": 223, "width": 221}}),
    ("EfficientNetImageProcessor", {}),
    ("EfficientNetImageProcessor", {"rescale_offset": True, "include_top": False}),
    ("DeiTImageProcessor", {}),
    ("LevitImageProcessor", {}),
    ("PoolFormerImageProcessor", {}),
    ("MobileNetV2ImageProcessor", {"do_normalize": False}),
    ("MobileNetV2ImageProcessor", {"do_rescale": False}),
    ("MobileViTImageProcessor", {"crop_size": {"height": 190, "width": 180}}),
]


def huggingface_processor(name: str, settings: dict):
    import_torchvision()
    from transformers.models.auto.image_processing_auto import get_image_processor_class_from_name

    processor = get_image_processor_class_from_name(name)(**settings)
    return processor, lambda picture: processor(picture, return_tensors="pt")["pixel_values"][0]


@pytest.mark.parametrize(("name", "settings"), HUGGINGFACE)
def test_transformers_settings_give_the_input_of_its_pillow_processors(name, settings):
    processor, transform = huggingface_processor(f"{name}Pil", settings)
    preprocess = Preprocess.from_huggingface(processor.to_dict())
    pictures = [noise(*size) for size in SIZES] + photographs(2)
    assert max(grey_levels_apart(preprocess, transform, picture) for picture in pictures) < FLOAT_ERROR


@pytest.mark.parametrize(
    ("name", "settings", "apart"),
    [
        ("ViTImageProcessor", {}, 1),
        (
            "ConvNextImageProcessor",
            {"size": {"shortest_edge": 224}},
            2,
        ),  # bicubic: their arithmetic, 8-bit steps
        ("MobileViTImageProcessor", {"size": {"shortest_edge": 221}}, 2),  # pads by an odd number
        ("MobileNetV2ImageProcessor", {"do_resize": False}, 0),
    ],
)
def test_transformers_tensor_processors_differ_by_a_grey_level_or_two_on_photographs(name, settings, apart):
    processor, transform = huggingface_processor(name, settings)
    preprocess = Preprocess.from_huggingface(processor.to_dict())
    pictures = photographs()
    if not pictures:
        pytest.skip(f"no folder {DATA / 'photos'}; set SEEWHY_DATA")
    worst = max(grey_levels_apart(preprocess, transform, picture) for picture in pictures)
    assert worst <= apart + FLOAT_ERROR


def test_old_transformers_files_give_sizes_as_numbers():
    old = {
        "feature_extractor_type": "ViTFeatureExtractor",
        "size": 224,
        "resample": 2,
        "image_mean": [0.5] * 3,
    }
    preprocess = Preprocess.from_huggingface(old | {"image_std": [0.5] * 3, "do_normalize": True})
    assert preprocess.resize == (224, 224)
    convnext = Preprocess.from_huggingface(
        {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 224}
    )
    assert (convnext.resize, convnext.crop) == (256, (224, 224))


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"image_processor_type": "PerceiverImageProcessor"}, "Perceiver"),
        ({"do_pad": True}, "do_pad"),
        ({"size": {"shortest_edge": 800, "longest_edge": 1333}}, "longest_edge"),
    ],
)
def test_transformers_steps_that_are_not_known_are_refused_by_name(settings, word):
    with pytest.raises(InputError, match=word):
        Preprocess.from_huggingface({"image_mean": [0.5] * 3, "image_std": [0.5] * 3} | settings)


def test_a_card_resizes_the_shorter_side_to_the_input_over_crop_pct(tmp_path):
    card = HALF | {"input_size": [3, 224, 224], "crop_pct": 0.875, "interpolation": "bilinear"}
    (tmp_path / "net.json").write_text(json.dumps(card))
    assert Preprocess.from_card(tmp_path / "net.json") == Preprocess(resize=256, crop=(224, 224), **HALF)


def test_a_card_without_a_setting_names_it():
    with pytest.raises(InputError, match="crop_pct, interpolation"):
        Preprocess.from_card(HALF | {"input_size": [3, 224, 224]})


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop_pct": "most of it"},
        {"crop_pct": 0},
        {"input_size": 224},
        {"input_size": [224, 224]},
        {"mean": 0.5},
        {"std": [0.5, "half", 0.5]},
        {"interpolation": "quadratic"},
        {"crop_mode": "top"},
    ],
    ids=str,
)
def test_a_card_with_a_setting_that_cannot_be_used_names_it(wrong):
    card = HALF | {"input_size": [3, 224, 224], "crop_pct": 0.875, "interpolation": "bilinear"}
    with pytest.raises(InputError, match=next(iter(wrong))):
        Preprocess.from_card(card | wrong)


def test_of_tells_cards_transformers_settings_and_its_own_fields_apart(tmp_path):
    own = Preprocess(resize=(20, 30), interpolation="lanczos", **HALF)
    (tmp_path / "own.json").write_text(own.model_dump_json())
    assert Preprocess.of(tmp_path / "own.json") == own
    assert Preprocess.of(own) is own
    card = HALF | {"input_size": [3, 8, 8], "crop_pct": 1.0, "interpolation": "box"}
    assert Preprocess.of(card).interpolation == "box"
    assert Preprocess.of({"do_resize": False, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}).resize is None


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_settings_file_that_is_no_json_object_is_refused(tmp_path, text):
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(InputError, match=r"card\.json"):
        Preprocess.of(tmp_path / "card.json")


def test_unknown_settings_are_refused_by_name():
    with pytest.raises(InputError, match="sizes"):
        Preprocess.of(HALF | {"sizes": 3})


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": (0.5, 0.5)},
        {"std": (0.5,)},
        {"std": (0.5, 0.5, 0.0)},
        {"crop": (0, 5)},
        {"resize": 0},
        {"scale": 0},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValidationError):
        Preprocess(**(HALF | wrong))


def test_input_size_is_open_where_it_depends_on_the_picture():
    assert Preprocess(resize=256, crop=(224, 200), **HALF).input_size == (224, 200)
    assert Preprocess(resize=(20, 30), **HALF).input_size == (20, 30)
    assert Preprocess(resize=256, **HALF).input_size is None
    assert Preprocess(resize=(20, 30), fit="contain", **HALF).input_size is None


def test_a_picture_that_a_resize_would_make_enormous_is_refused():
    with pytest.raises(InputError, match="10000x1"):
        Preprocess(resize=256, crop=(224, 224), **HALF)(Image.new("RGB", (10000, 1)))


def test_settings_survive_json():
    preprocess = Preprocess(resize=(20, 30), fit="contain", crop=(20, 30), fill=(1, 2, 3), bgr=True, **HALF)
    assert Preprocess.model_validate_json(preprocess.model_dump_json()) == preprocess


@pytest.mark.parametrize("grid", [(7, 7), (1, 1), (14, 5), (1, 3)])
def test_maps_of_an_input_that_is_the_picture_are_interpolated_as_torch_does(grid):
    frame = Preprocess(**HALF).frame((61, 83))
    maps = torch.rand(2, 3, *grid, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(maps, (61, 83), mode="bilinear", align_corners=False)
    torch.testing.assert_close(frame.to_original(maps), expected, atol=2e-6, rtol=0)  # float32 sums


def test_maps_are_zero_exactly_where_the_network_saw_nothing():
    frame = Preprocess(resize=64, crop=(56, 48), **HALF).frame((120, 201))
    values = frame.to_original(torch.ones(7, 6))
    torch.testing.assert_close(values, frame.visible().float())
    assert 0 < frame.visible().float().mean() < 1


def test_padding_hides_nothing_of_the_picture():
    frame = Preprocess(resize=40, crop=(64, 64), **HALF).frame((40, 50))
    assert frame.crop[:2] == (-12, -7)
    assert frame.visible().all()


SPECS = [
    Preprocess(resize=96, crop=(80, 81), **HALF),
    Preprocess(resize=(70, 91), **HALF),
    Preprocess(resize=(70, 91), fit="contain", crop=(90, 96), **HALF),
    Preprocess(resize=(71, 60), fit="cover", crop=(64, 60), **HALF),
    Preprocess(crop=(300, 120), **HALF),
]


@pytest.mark.parametrize("preprocess", SPECS, ids=lambda p: f"{p.resize}-{p.fit}-{p.crop}")
@pytest.mark.parametrize("size", [(151, 203), (203, 150), (64, 65)])
def test_a_blob_planted_in_the_picture_comes_back_to_its_place(preprocess, size):
    rows, columns = (torch.arange(n, dtype=torch.float32) + 0.5 for n in size)
    centre = size[0] * 0.55, size[1] * 0.45
    width = min(size) / 6
    planted = torch.exp(-((rows - centre[0])[:, None] ** 2 + (columns - centre[1]) ** 2) / (2 * width**2))
    picture = Image.fromarray((planted * 255).round().byte().numpy()).convert("RGB")
    frame = preprocess.frame(size)
    back = frame.to_original((preprocess(picture)[0] + 1) / 2)
    seen = frame.visible()
    # Two bilinear resamplings of a blob of this width, and 8 bits, cost less than 0.05 of its height.
    assert float((back - planted)[seen].abs().max()) < 0.05
    mass = torch.where(seen, planted, 0.0)
    for axis, positions in ((0, rows[:, None]), (1, columns[None, :])):
        found, true = ((weight * positions).sum() / weight.sum() for weight in (back, mass))
        assert abs(float(found - true)) < 0.25, f"moved along axis {axis}, in pixels of the original"


def test_any_grid_that_covers_the_input_has_the_same_geometry():
    frame = Preprocess(resize=96, crop=(80, 80), **HALF).frame((151, 203))
    ramp = (torch.arange(80) + 0.5).expand(80, 80)
    coarse = F.avg_pool2d(ramp[None, None], 8)[0, 0]
    fine, rough = frame.to_original(ramp), frame.to_original(coarse)
    inside = (
        frame.visible() & (fine > 4) & (fine < 76)
    )  # beyond the outermost centres the coarse one is constant
    torch.testing.assert_close(fine[inside], rough[inside], atol=1e-3, rtol=0)


def test_a_box_comes_back_to_the_picture_and_is_clipped_there():
    frame = Frame(original=(100, 200), resized=(50, 100), crop=(0, 25, 50, 50))
    assert frame.box_to_original(0, 0, 50, 50) == (50, 0, 150, 100)
    assert frame.box_to_original(10, 5, 20, 6) == (70, 10, 90, 12)
    padded = Frame(original=(10, 10), resized=(10, 10), crop=(-5, -5, 20, 20))
    assert padded.box_to_original(0, 0, 20, 8) == (0, 0, 10, 3)


def test_half_precision_maps_come_back_as_float32():
    frame = Preprocess(**HALF).frame((5, 6))
    assert frame.to_original(torch.ones(3, 3, dtype=torch.float16)).dtype == torch.float32
