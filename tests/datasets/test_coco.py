"""COCO 2017's tree: annotations/instances_val2017.json beside val2017."""

import json
import sys

import numpy as np
import pytest

from seewhy import datasets
from seewhy.datasets.masks import Polygons, RunLengths
from seewhy.errors import InputError, MissingExtraError
from seewhy.truth import Box

PLAIN = {"size": [8, 10], "counts": [9, 2, 69]}  # column 1, rows 1 and 2
SQUARE = [[2.0, 1.0, 5.0, 1.0, 5.0, 4.0, 2.0, 4.0]]  # columns 2 to 4, rows 1 to 3


def content(**changes) -> dict:
    return {
        "images": [
            {"id": 785, "file_name": "000000000785.jpg", "height": 8, "width": 10},
            {"id": 139, "file_name": "000000000139.jpg", "height": 8, "width": 10},
        ],
        "annotations": [
            note(1, bbox=[1.4, 1.6, 2.1, 2.91], segmentation=SQUARE),
            note(2, category_id=90, bbox=[0, 0, 10, 8], iscrowd=1, segmentation=PLAIN),
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 18, "name": "dog"}],
    } | changes


def note(id: int, **changes) -> dict:
    plain = {"image_id": 139, "category_id": 18, "iscrowd": 0, "area": 9.0, "bbox": [0, 0, 1, 1]}
    return {"id": id, **plain, "segmentation": [], **changes}


@pytest.fixture
def tree(tmp_path, picture):
    for number in (139, 785):
        picture(tmp_path / f"val2017/{number:012d}.jpg")
    written(tmp_path)
    return tmp_path


def written(tree, split: str = "val2017", **changes) -> None:
    (tree / "annotations").mkdir(exist_ok=True)
    (tree / f"annotations/instances_{split}.json").write_text(json.dumps(content(**changes)))


def test_boxes_become_the_pixels_whose_centres_they_hold(tree) -> None:
    manifest = datasets.read(tree)

    assert (manifest.kind, manifest.errors) == ("coco", ())
    assert [(item.id, item.split) for item in manifest] == [
        ("000000000139", "val2017"),
        ("000000000785", "val2017"),
    ]
    # x from 1.4 to 3.5 holds 1.5 and 2.5; y from 1.6 to 4.51 holds 2.5, 3.5 and 4.5.
    assert manifest["000000000139"].boxes == (Box(1, 2, 3, 5), Box(0, 0, 10, 8))
    assert manifest["000000000139"].labels == ("dog", "toothbrush")
    assert manifest["000000000785"].labels == ()
    assert (manifest.index("dog"), manifest.index("toothbrush")) == (0, 1)


def test_crowds_say_so(tree) -> None:
    dog, crowd = datasets.read(tree)["000000000139"].objects

    assert (dog.attributes["iscrowd"], crowd.attributes["iscrowd"]) == ("0", "1")
    assert crowd.attributes["id"] == "2"


def test_masks_are_unread_until_asked_and_plain_run_lengths_need_no_package(tree, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    polygon, crowd = datasets.read(tree)["000000000139"].masks

    assert isinstance(polygon, Polygons)
    assert np.argwhere(crowd.read()).tolist() == [[1, 1], [2, 1]]
    with pytest.raises(MissingExtraError, match=r"seewhy\[coco\]"):
        polygon.read()


def test_polygons_and_compressed_run_lengths_are_drawn_by_pycocotools(tree) -> None:
    tools = pytest.importorskip("pycocotools.mask", reason="pycocotools, the extra `coco`, is not installed")
    square = np.zeros((8, 10), bool)
    square[1:4, 2:5] = True
    packed = tools.encode(np.asfortranarray(square.astype(np.uint8)))["counts"].decode()

    item = datasets.read(tree)["000000000139"]

    np.testing.assert_array_equal(item.masks[0].read(), square)
    np.testing.assert_array_equal(RunLengths((8, 10), packed).read(), square)
    np.testing.assert_array_equal(item.truth.objects[0].mask, square)
    two = Polygons((8, 10), (*map(tuple, SQUARE), (8.0, 6.0, 10.0, 6.0, 10.0, 8.0, 8.0, 8.0)))
    assert two.read().sum() == 9 + 4
    with pytest.raises(InputError, match="run lengths"):
        RunLengths((3, 3), packed).read()


FAULTS = {
    "beyond": (note(7, bbox=[5, 0, 6, 8]), "dog: the box from (5, 0) to (11, 8) reaches beyond"),
    "empty": (note(7, bbox=[5, 0, 0, 8]), "has no extent"),
    "three numbers": (note(7, bbox=[5, 0, 0]), "annotation 7 has no box of four numbers: [5, 0, 0]"),
    "no category": (note(7, category_id=3), "annotation 7 is of category 3, which is not listed"),
    "short polygon": (note(7, segmentation=[[1, 1, 2, 2]]), "annotation 7: a segmentation that is neither"),
    "short runs": (note(7, segmentation={"size": [8, 10], "counts": [3]}), "do not fill 8 x 10"),
    "other size": (note(7, segmentation={"size": [4, 4], "counts": [16]}), "run lengths of size [4, 4]"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_annotations_are_error_rows_that_name_them(tree, fault) -> None:
    annotation, reason = FAULTS[fault]
    written(tree, annotations=[note(1), annotation])

    manifest = datasets.read(tree)

    (row,) = manifest.errors
    assert (row.file.name, row.id) == ("instances_val2017.json", "000000000139")
    assert reason in row.reason
    assert manifest["000000000139"].boxes[0] == Box(0, 0, 1, 1)
    assert [item.id for item in manifest.faultless] == ["000000000785"]


def test_doubled_missing_and_unlisted_things_are_error_rows(tree, picture) -> None:
    images = content()["images"]
    gone = {"id": 9, "file_name": "gone.jpg", "height": 8, "width": 10}
    written(
        tree,
        images=[*images, images[0], gone, {"id": 10}],
        annotations=[note(1), note(1), note(2, image_id=77), {"id": 3}],
    )
    picture(tree / "val2017/unlisted.jpg")

    manifest = datasets.read(tree)

    reasons = [row.reason for row in manifest.errors]
    assert len(reasons) == 7
    for part in (
        "'000000000785' is named twice",
        "there is no picture",
        "lacks what one needs: KeyError 'file_name'",
        "annotation 1 is there twice",
        "annotation 2 is of picture 77, which is not listed",
        "names no picture: {'id': 3}",
        "is not named in instances_val2017.json",
    ):
        assert any(part in reason for reason in reasons), part
    assert manifest.failed == ("000000000009",)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ('{\n"images": [\n,', 3, "not JSON"),
        ("[]", None, "not what COCO's files hold"),
        ("\xff", None, "cannot be read"),
    ],
)
def test_a_broken_file_is_an_error_row(tree, text, line, reason) -> None:
    file = tree / "annotations/instances_val2017.json"
    file.write_bytes(text.encode("latin-1"))

    manifest = datasets.read(tree)

    assert (manifest.errors[0].file, manifest.errors[0].line) == (file, line)
    assert reason in manifest.errors[0].reason
    assert len(manifest) == 0


def test_splits_are_told_apart_and_may_be_shortened(tree, picture) -> None:
    picture(tree / "train2017/000000000001.jpg")
    written(
        tree, "train2017",
        images=[{"id": 1, "file_name": "000000000001.jpg", "height": 8, "width": 10}],
        annotations=[note(5, image_id=1)],
    )  # fmt: skip

    assert [item.split for item in datasets.read(tree)] == ["train2017", "val2017", "val2017"]
    assert [item.id for item in datasets.read(tree, split="train")] == ["000000000001"]
    assert len(datasets.read(tree / "annotations/instances_val2017.json")) == 2
    with pytest.raises(InputError, match=r"no split 'test'.*found train2017, val2017"):
        datasets.read(tree, split="test")
