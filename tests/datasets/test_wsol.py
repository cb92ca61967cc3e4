"""The lists of wsolevaluation: metadata/ILSVRC/{train,val,test} beside dataset/ILSVRC; masks for OpenImages."""

import numpy as np
import pytest
from PIL import Image

from seewhy import datasets
from seewhy.errors import InputError
from seewhy.evaluation.regions import ignored
from seewhy.truth import Box

IDS = [f"val/ILSVRC2012_val_0000000{number}.JPEG" for number in (2, 1)]


@pytest.fixture
def lists(tmp_path, picture, text):
    lists = tmp_path / "metadata/ILSVRC/test"
    for id in IDS:
        picture(tmp_path / "dataset/ILSVRC" / id)
    text(lists / "image_ids.txt", "".join(f"{id}\n" for id in IDS))
    text(lists / "class_labels.txt", f"{IDS[0]},970\n{IDS[1]},65\n")
    text(lists / "image_sizes.txt", "".join(f"{id},10,8\n" for id in IDS))
    text(lists / "localization.txt", f"{IDS[0]},0,0,9,7\n{IDS[1]},1,2,8,6\n{IDS[0]},2,3,2,4\n")
    return lists


def rows(manifest):
    return [(row.file.name, row.line, row.id) for row in manifest.errors]


def test_boxes_count_from_zero_with_both_edges_in_them(lists) -> None:
    manifest = datasets.read(lists)

    assert (manifest.kind, manifest.errors) == ("wsol", ())
    assert [(item.id, item.labels, item.split) for item in manifest] == [
        (IDS[1], ("65",), "test"),
        (IDS[0], ("970",), "test"),
    ]
    assert manifest[IDS[0]].boxes == (Box(0, 0, 10, 8), Box(2, 3, 3, 5))
    assert manifest[IDS[1]].boxes == (Box(1, 2, 9, 7),)
    assert manifest.index("65") == 65


def test_the_split_and_the_pictures_can_be_said(lists, tmp_path) -> None:
    (tmp_path / "dataset").rename(tmp_path / "elsewhere")
    above = lists.parent

    assert len(datasets.read(above, split="test", pictures=tmp_path / "elsewhere/ILSVRC")) == 2
    assert len(datasets.read(above, pictures=tmp_path / "elsewhere/ILSVRC")) == 2
    assert datasets.read(above).failed == (IDS[1], IDS[0])  # nowhere to be found
    with pytest.raises(InputError, match="holds the splits test: give one"):
        datasets.read(above, split="val")
    with pytest.raises(InputError, match="lists of one split, not of 'val'"):
        datasets.read(lists, split="val")


def test_broken_lines_are_error_rows(lists, text) -> None:
    text(lists / "image_ids.txt", f"{IDS[0]}\n{IDS[1]}\n{IDS[0]}\nval/gone.JPEG\nval/classless.JPEG\n")
    text(
        lists / "class_labels.txt", f"{IDS[0]},970\n{IDS[1]},65\nval/gone.JPEG,3\nval/classless.JPEG,x\nodd\n"
    )
    text(lists / "image_sizes.txt", f"{IDS[0]},10,8\n{IDS[1]},x,8\n")
    text(
        lists / "localization.txt",
        f"{IDS[0]},0,0,10,7\n{IDS[1]},1,2,8\n{IDS[1]},a,2,8,6\nval/none.JPEG,0,0,1,1\n",
    )

    manifest = datasets.read(lists)

    assert rows(manifest) == [
        ("class_labels.txt", 4, "val/classless.JPEG"),
        ("class_labels.txt", 5, None),
        ("image_ids.txt", 3, IDS[0]),
        ("image_ids.txt", 4, "val/gone.JPEG"),
        ("image_ids.txt", 5, "val/classless.JPEG"),
        ("image_sizes.txt", 2, IDS[1]),
        ("localization.txt", 1, IDS[0]),
        ("localization.txt", 2, IDS[1]),
        ("localization.txt", 3, IDS[1]),
        ("localization.txt", 4, None),
    ]
    assert manifest.failed == ("val/classless.JPEG", "val/gone.JPEG")
    assert manifest.asked == 4


def test_pictures_of_another_size_than_the_list_says_lose_their_boxes(lists, tmp_path, picture) -> None:
    picture(tmp_path / "dataset/ILSVRC" / IDS[0], 227, 227)

    manifest = datasets.read(lists)

    assert rows(manifest) == [("image_ids.txt", 1, IDS[0])]
    assert (manifest[IDS[0]].boxes, manifest[IDS[0]].size) == ((), (227, 227))


def test_a_missing_list_is_an_error_row(lists) -> None:
    (lists / "localization.txt").unlink()

    manifest = datasets.read(lists)

    assert rows(manifest) == [("localization.txt", None, None)]
    assert "No such file" in manifest.errors[0].reason
    assert len(manifest) == 2


def test_masks_stay_files_until_they_are_read(tmp_path, picture, text) -> None:
    lists, base = tmp_path / "metadata/OpenImages/val", tmp_path / "dataset/OpenImages"
    picture(base / "val/0bt_c3/1.jpg")
    mask = np.zeros((8, 10), np.uint8)
    mask[2:4, 5] = 255
    Image.fromarray(mask).save(base / "val/0bt_c3/1_m.png")
    Image.fromarray(mask[:, ::-1].copy()).save(base / "val/0bt_c3/1_ignore.png")
    text(lists / "image_ids.txt", "val/0bt_c3/1.jpg\n")
    text(lists / "class_labels.txt", "val/0bt_c3/1.jpg,4\n")
    text(
        lists / "localization.txt",
        "val/0bt_c3/1.jpg,val/0bt_c3/1_m.png,val/0bt_c3/1_ignore.png\n"
        "val/0bt_c3/1.jpg,val/0bt_c3/gone.png,val/0bt_c3/gone_too.png\n",
    )

    manifest = datasets.read(tmp_path / "metadata/OpenImages")

    assert rows(manifest) == [("localization.txt", line, "val/0bt_c3/1.jpg") for line in (2, 2)]
    (item,) = manifest.items
    thing, region = item.truth.objects
    np.testing.assert_array_equal(thing.mask, mask > 0)
    np.testing.assert_array_equal(region.mask, mask[:, ::-1] > 0)
    assert (thing.box, ignored(thing), ignored(region)) == (Box(5, 2, 6, 4), False, True)
