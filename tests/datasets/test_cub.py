"""CUB-200-2011's tree: CUB_200_2011 with its tables, images and parts, and segmentations beside it."""

import numpy as np
import pytest
from PIL import Image

from seewhy import datasets
from seewhy.errors import InputError
from seewhy.truth import Box

FIRST = "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg"
SECOND = "002.Laysan_Albatross/Laysan_Albatross_0002_1027.jpg"


@pytest.fixture
def home(tmp_path, picture, text):
    home = tmp_path / "CUB_200_2011"
    for id in (FIRST, SECOND):
        picture(home / "images" / id)
    text(home / "classes.txt", "1 001.Black_footed_Albatross\n2 002.Laysan_Albatross\n")
    text(home / "images.txt", f"1 {FIRST}\n2 {SECOND}\n")
    text(home / "image_class_labels.txt", "1 1\n2 2\n")
    text(home / "train_test_split.txt", "1 0\n2 1\n")
    text(home / "bounding_boxes.txt", "1 2.0 1.0 6.0 7.0\n2 0.0 0.0 10.0 8.0\n")
    text(home / "parts/parts.txt", "1 back\n2 beak\n11 right eye\n")
    text(home / "parts/part_locs.txt", "1 1 0.0 0.0 0\n1 2 4.0 3.0 1\n1 11 5.5 2.0 1\n2 2 1.0 1.0 1\n")
    return home


def rows(manifest):
    return [(row.file.name, row.line, row.id) for row in manifest.errors]


def test_boxes_go_from_x_to_x_plus_width(home) -> None:
    manifest = datasets.read(home)

    assert (manifest.kind, manifest.errors) == ("cub", ())
    assert [(item.id, item.split) for item in manifest] == [(FIRST, "test"), (SECOND, "train")]
    assert manifest[FIRST].boxes == (Box(2, 1, 8, 8),)
    assert manifest[SECOND].boxes == (Box(0, 0, 10, 8),)
    assert manifest[SECOND].labels == ("002.Laysan_Albatross",)
    assert manifest.index("002.Laysan_Albatross") == 1


def test_parts_are_the_visible_points(home) -> None:
    (bird,) = datasets.read(home)[FIRST].objects

    assert [(part.name, part.point) for part in bird.parts] == [
        ("beak", (4.0, 3.0)),
        ("right eye", (5.5, 2.0)),
    ]


def test_a_split_is_read_from_above_too(home) -> None:
    assert [item.id for item in datasets.read(home.parent, split="test")] == [FIRST]
    assert datasets.read(home, split="train").errors == ()
    with pytest.raises(InputError, match="train and test, not 'val'"):
        datasets.read(home, split="val")


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
def test_a_mask_is_what_most_annotators_saw(home, inside, mode) -> None:
    votes = np.zeros((8, 10), np.uint8)
    votes[0, :4] = 51, 102, 153, 255
    folder = (home if inside else home.parent) / "segmentations"
    for id in (FIRST, SECOND):
        path = (folder / id).with_suffix(".png")
        path.parent.mkdir(parents=True)
        Image.fromarray(votes).convert(mode).save(path)

    item = datasets.read(home)[FIRST]

    assert np.argwhere(item.masks[0].read()).tolist() == [[0, 2], [0, 3]]


def test_broken_tables_are_error_rows(home, picture, text) -> None:
    text(
        home / "images.txt",
        f"1 {FIRST}\n2 {SECOND}\n3 {FIRST}\n4 001.Black_footed_Albatross/gone.jpg\n4 x.jpg\nodd\n",
    )
    text(home / "image_class_labels.txt", "1 1\n2 2\n4 1\n2 1\n")
    text(home / "train_test_split.txt", "1 0\n2 1\n4 1\n")
    text(home / "bounding_boxes.txt", "1 2.0 1.0 9.0 7.0\n2 x 0 1 1\n4 0 0 1 1\n9 0 0 1 1\n")
    text(home / "parts/part_locs.txt", "1 1 0.0 0.0 0\n1 77 4.0 3.0 1\n1 2 x 3.0 1\n")
    picture(home / "images/003.Sooty_Albatross/unlisted.jpg")

    manifest = datasets.read(home)

    gone = "001.Black_footed_Albatross/gone.jpg"
    assert rows(manifest) == [
        ("bounding_boxes.txt", 1, FIRST),
        ("bounding_boxes.txt", 2, SECOND),
        ("bounding_boxes.txt", 4, None),
        ("image_class_labels.txt", 4, None),
        ("images.txt", 3, FIRST),
        ("images.txt", 4, gone),
        ("images.txt", 5, None),
        ("images.txt", 6, None),
        ("unlisted.jpg", None, None),
        ("part_locs.txt", 2, None),
        ("part_locs.txt", 3, None),
    ]
    assert manifest.failed == (gone,)
    assert [item.boxes for item in manifest] == [(), ()]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("bounding_boxes.txt", "has no box in"),
        ("train_test_split.txt", "in neither split"),
        ("classes.txt", "no class"),
    ],
)
def test_a_missing_table_is_an_error_row_and_so_is_every_picture_that_needed_it(home, name, reason) -> None:
    (home / name).unlink()

    manifest = datasets.read(home)

    assert (home / name, None) in [(row.file, row.line) for row in manifest.errors]
    assert [row.line for row in manifest.errors if reason in row.reason] == [1, 2]
    assert manifest.asked == 2
