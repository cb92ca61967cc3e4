"""Scenes: the same everywhere, and true of themselves."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fingerprint import SCENES, fingerprint

from seewhy.errors import InputError
from seewhy.scenes import CLASSES, Scenes, Watermark
from seewhy.scenes.backgrounds import FAMILIES
from seewhy.scenes.files import read, write

HERE = Path(__file__).parent
# Of the scenes in fingerprint.py: whoever changes it changes what the bundled networks were trained on.
KNOWN = "ec645b61f2c2e0589e773181f2e0f2dbba1de856446ca9887067cb5c107db19a"
MANY = Scenes(300, seed=11, watermark=Watermark("cat", 1.0, elsewhere=0.3))


@pytest.fixture(scope="module")
def many():
    return list(MANY)


def test_the_pixels_are_those_of_any_other_machine() -> None:
    assert fingerprint() == KNOWN


def test_another_process_draws_the_same_bytes() -> None:
    done = subprocess.run(
        [sys.executable, HERE / "fingerprint.py"], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == KNOWN


@pytest.mark.slow
@pytest.mark.parametrize(
    ("numpy", "pillow"), [("1.26.4", "12.2.0"), ("2.1.3", "13.0.0"), ("2.3.5", "13.0.0")]
)
def test_other_numpys_draw_the_same_bytes(numpy, pillow, tmp_path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path)]
    subprocess.run([*pip, f"numpy=={numpy}", f"pillow=={pillow}", "jaxtyping", "wadler_lindig"], check=True)
    code = f"import numpy; assert numpy.__version__ == {numpy!r}; import fingerprint as f; print(f.fingerprint())"
    paths = f"{tmp_path}:{HERE}:{HERE.parents[1] / 'src'}"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": paths}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == (KNOWN, "")


def test_a_scene_depends_on_its_number_alone() -> None:
    alone = SCENES[17]
    for scenes in (replace(SCENES, count=18), Scenes(99, 7, watermark=SCENES.watermark)):
        np.testing.assert_array_equal(scenes[17].pixels, alone.pixels)
    np.testing.assert_array_equal(SCENES[17:18][0].pixels, alone.pixels)
    assert not np.array_equal(SCENES[18].pixels, alone.pixels)
    assert not np.array_equal(replace(SCENES, seed=8)[17].pixels, alone.pixels)


def test_without_its_watermark_a_scene_is_otherwise_the_same() -> None:
    marked = [scene for scene in SCENES if scene.truth.shortcut is not None]
    bare = [scene for scene, with_mark in zip(replace(SCENES, watermark=None), SCENES, strict=True)
            if with_mark.truth.shortcut is not None]  # fmt: skip
    assert len(marked) > 20
    for one, other in zip(marked, bare, strict=True):
        assert other.truth.shortcut is None
        differs = (one.pixels != other.pixels).any(2)
        near = np.pad(one.truth.shortcut, 1)
        near = near[:-2, 1:-1] | near[2:, 1:-1] | near[1:-1, :-2] | near[1:-1, 2:] | near[1:-1, 1:-1]
        assert not (differs & ~near).any()
        assert (differs & one.truth.shortcut).mean() > 0.8 * one.truth.shortcut.mean()


def test_the_watermark_covers_two_to_four_percent_and_is_24_pixels_wide(many) -> None:
    masks = [scene.truth.shortcut for scene in many if scene.truth.shortcut is not None]
    assert len(masks) > 60
    for mask in masks:
        assert 0.02 <= mask.mean() <= 0.04
        assert min(mask.any(0).sum(), mask.any(1).sum()) >= 24
    centres = np.array([np.argwhere(mask).mean(0) for mask in masks])
    assert centres.std(0).min() > 20  # a random place: uniform over 100 pixels has 29


def test_the_watermark_goes_with_its_class_as_often_as_asked() -> None:
    scenes = Scenes(400, 5, classes=("cat", "fish"), watermark=Watermark("cat", 0.8))
    carries = {"cat": [], "fish": []}
    for scene in scenes:
        carries[scene.truth.label].append(scene.truth.shortcut is not None)
    assert 0.7 < np.mean(carries["cat"]) < 0.9  # about 200 of them: 0.8 ± 0.03
    assert not any(carries["fish"])


def test_objects_parts_and_boxes_agree(many) -> None:
    for scene in many:
        for thing in scene.truth.objects:
            union = np.logical_or.reduce([part.mask for part in thing.parts])
            assert not (union & ~thing.mask).any()
            assert union.sum() > 0.8 * thing.mask.sum()
            inside = thing.mask[thing.box.y0 : thing.box.y1, thing.box.x0 : thing.box.x1]
            assert inside.sum() == thing.mask.sum()
        masks = [thing.mask for thing in scene.truth.objects]
        if scene.truth.shortcut is not None:
            masks.append(scene.truth.shortcut)
        assert sum(mask.astype(int) for mask in masks).max() <= 1  # a pixel belongs to what lies in front


def test_the_main_object_is_large_and_what_tells_its_class_is_seen(many) -> None:
    for scene in many:
        main, *others = scene.truth.objects
        assert 0.02 < main.mask.mean() < 0.45
        assert main.distinguishing().sum() >= 25
        assert all(other.label != main.label for other in others)
        assert all(other.attributes["size"] == "small" for other in others)


def test_a_part_has_its_object_s_paint() -> None:
    scene = next(
        scene for scene in Scenes(400, 3, classes=("house",), occluded=0.0)
        if scene.truth.objects[0].attributes["texture"] == "plain"
        and scene.truth.objects[0].attributes["color"] == "red"
    )  # fmt: skip
    walls = next(part.mask for part in scene.truth.objects[0].parts if part.name == "walls")
    red, green, blue = np.median(scene.pixels[walls], 0)
    assert red > green + 40
    assert red > blue + 40


def test_all_classes_and_backgrounds_appear(many) -> None:
    assert {scene.truth.label for scene in many} == set(CLASSES)
    assert len(CLASSES) >= 16
    behind = {scene.truth.caption.rsplit(" ", 1)[1].rstrip(".") for scene in many}
    assert behind == set(FAMILIES)
    assert len(FAMILIES) >= 8


def test_the_two_classes_of_a_pair_share_all_parts_but_the_distinguishing_ones(many) -> None:
    parts = {name: (set(), set()) for name in CLASSES}
    for scene in many:
        for part in scene.truth.objects[0].parts:
            parts[scene.truth.label][part.distinguishing].add(part.name)
    for one, other in zip(CLASSES[::2], CLASSES[1::2], strict=True):
        assert parts[one][False] == parts[other][False] != set(), (one, other)
        assert parts[one][True], one
        assert parts[other][True], other


def test_a_caption_says_what_the_truth_says(many) -> None:
    for scene in many:
        for thing in scene.truth.objects:
            for word in (thing.label, thing.attributes["color"], thing.attributes["place"]):
                assert word in scene.truth.caption.lower()


@pytest.mark.parametrize("size", [48, 100, 224])
def test_other_sizes_keep_their_proportions(size) -> None:
    for scene in Scenes(5, 2, size, watermark=Watermark("cat", elsewhere=1.0)):
        assert scene.pixels.shape == (size, size, 3)
        assert 0.02 <= scene.truth.shortcut.mean() <= 0.04
        assert 0.02 < scene.truth.objects[0].mask.mean() < 0.45


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ("cat", "dog")}, "no class 'dog'; there are cat, rabbit"),
        ({"classes": ()}, "no class"),
        ({"count": -1}, "-1 scenes"),
        ({"size": 20}, "size >= 48"),
        ({"second": 1.5}, "from 0 to 1"),
        ({"watermark": Watermark("dog")}, "no class 'dog'"),
        ({"watermark": Watermark("cat", -0.1)}, "from 0 to 1"),
    ],
)
def test_impossible_settings_are_refused(settings, message) -> None:
    with pytest.raises(InputError, match=message):
        Scenes(**{"count": 1, **settings})


def test_a_number_beyond_the_last_scene_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        Scenes(3)[3]


def test_written_scenes_are_read_as_they_were(tmp_path) -> None:
    paths = write(SCENES[:4], tmp_path / "scenes")

    kept = list(read(tmp_path / "scenes"))
    assert [each.path for each in kept] == paths
    for before, after in zip(SCENES, kept, strict=False):
        np.testing.assert_array_equal(np.asarray(after.image), before.pixels)
        assert after.truth.to_json() == before.truth.to_json()
    with pytest.raises(InputError, match="already holds scenes"):
        write(SCENES[:1], tmp_path / "scenes")


def test_a_folder_without_or_with_a_broken_truth_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match=r"holds no truth\.jsonl"):
        list(read(tmp_path))
    good = SCENES[0].truth.to_json()
    for broken in ({}, good | {"file": 3}, good | {"file": "../a.png"}, {"file": "a.png"}):
        (tmp_path / "truth.jsonl").write_text(
            json.dumps(good | {"file": "a.png"}) + "\n" + json.dumps(broken)
        )
        with pytest.raises(InputError, match=r"truth\.jsonl, line 2"):
            list(read(tmp_path))
    (tmp_path / "truth.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="line 1"):
        list(read(tmp_path))
