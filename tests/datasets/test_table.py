"""CSV listings with and without header, boxes, classes, and broken rows."""

import pytest

from seewhy import datasets
from seewhy.errors import InputError
from seewhy.truth import Box


@pytest.fixture
def tree(tmp_path, picture, text):
    for name in ("b.jpg", "a.jpg", "c.jpg"):
        picture(tmp_path / "images" / name)
    text(tmp_path / "labels.csv", "image,class_index,note\nb.jpg,1,old\na.jpg,0,\nc.jpg,1,new\n")
    text(tmp_path / "boxes.csv", "image,x0,y0,x1,y1\nb.jpg,1.4,1.6,3.5,4.51\nb.jpg,0,0,10,8\n")
    text(tmp_path / "classes.json", '[["n1", "cat"],\n ["n2", "dog"]]')
    return tmp_path


def rows(manifest):
    return [(row.file.name, row.line, row.id) for row in manifest.errors]


def test_labels_boxes_and_classes_come_together(tree) -> None:
    manifest = datasets.read(tree)

    assert (manifest.kind, manifest.errors) == ("csv", ())
    assert [item.id for item in manifest] == ["a.jpg", "b.jpg", "c.jpg"]
    assert manifest["b.jpg"].labels == ("1",)
    assert manifest["b.jpg"].boxes == (Box(1, 2, 3, 5), Box(0, 0, 10, 8))
    assert manifest["b.jpg"].attributes == {"note": "old"}
    assert manifest["b.jpg"].truth.label == "1"
    assert dict(manifest.classes) == {"0": "n1 cat", "1": "n2 dog"}
    assert manifest.index("1") == 1
    assert datasets.read(tree / "labels.csv").items == manifest.items


def test_without_header_the_first_two_columns_are_picture_and_class(tmp_path, picture, text) -> None:
    picture(tmp_path / "a.jpg")
    listing = text(tmp_path / "mine.csv", "a.jpg,7\n")

    manifest = datasets.read(listing)

    assert manifest.items[0].labels == ("7",)
    assert manifest.index("7") == 7


def test_every_broken_row_is_an_error_with_its_line(tree, picture, text) -> None:
    picture(tree / "images/unlisted.jpg")
    (tree / "images/broken.jpg").write_bytes(b"no picture")
    text(
        tree / "labels.csv",
        "image,class_index,note\na.jpg,0,\n\ngone.jpg,1,\na.jpg,1,\nb.jpg\nc.jpg,,\nbroken.jpg,1,\n",
    )
    text(
        tree / "boxes.csv",
        "image,x0,y0,x1,y1\na.jpg,0,0,11,8\na.jpg,x,0,1,1\na.jpg,2,2,4,4\nnone.jpg,0,0,1,1\nbroken.jpg,0,0,1,1\n",
    )

    manifest = datasets.read(tree)

    assert rows(manifest) == [
        ("boxes.csv", 2, "a.jpg"),  # beyond the picture
        ("boxes.csv", 3, "a.jpg"),  # not a number
        ("boxes.csv", 5, None),  # of no listed picture
        ("b.jpg", None, None),  # its row has one field, so nothing names it
        ("broken.jpg", None, "broken.jpg"),
        ("unlisted.jpg", None, None),
        ("labels.csv", 4, "gone.jpg"),
        ("labels.csv", 5, "a.jpg"),  # again
        ("labels.csv", 6, None),
        ("labels.csv", 7, "c.jpg"),  # no class
    ]
    assert [item.id for item in manifest] == ["a.jpg"]
    assert manifest["a.jpg"].boxes == (Box(2, 2, 4, 4),)
    assert manifest.failed == ("broken.jpg", "c.jpg", "gone.jpg")
    assert manifest.faultless == ()
    twice = next(row for row in manifest.errors if row.line == 5 and row.id)
    assert str(twice).endswith("labels.csv, line 2")


def test_boxes_of_a_picture_that_exif_turns_are_left_out_with_a_row(tree, picture) -> None:
    picture(tree / "images/b.jpg", turn=6)

    manifest = datasets.read(tree)

    assert rows(manifest) == [("labels.csv", 2, "b.jpg")]
    assert "orientation 6" in manifest.errors[0].reason
    assert (manifest["b.jpg"].boxes, manifest["b.jpg"].size) == ((), (10, 8))
    assert manifest["b.jpg"].image.size == (8, 10)


def test_splits_come_from_their_column(tmp_path, picture, text) -> None:
    for name in ("a.jpg", "b.jpg"):
        picture(tmp_path / name)
    text(tmp_path / "labels.csv", "file,label,split\na.jpg,cat,train\nb.jpg,dog,val\n")

    assert [item.id for item in datasets.read(tmp_path, split="val")] == ["b.jpg"]
    assert [item.split for item in datasets.read(tmp_path)] == ["train", "val"]


def test_a_split_without_a_column_is_refused(tree) -> None:
    with pytest.raises(InputError, match=r"labels\.csv has no column 'split'"):
        datasets.read(tree, split="val")


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [("[\n[1,", 2, "not JSON"), ("3", None, "not a list of classes")],
)
def test_broken_classes_are_an_error_row(tree, text, content, line, reason) -> None:
    text(tree / "classes.json", content)

    manifest = datasets.read(tree)

    assert rows(manifest) == [("classes.json", line, None)]
    assert reason in manifest.errors[0].reason
    assert len(manifest) == 3


def test_a_class_that_is_not_listed_and_an_open_quote_are_error_rows(tree, text) -> None:
    text(tree / "labels.csv", 'image,class_index,note\na.jpg,2,\nb.jpg,1,old\nc.jpg,1,"open\n')

    manifest = datasets.read(tree)

    assert [item.id for item in manifest] == ["b.jpg"]
    assert [(row.file.name, row.line) for row in manifest.errors] == [
        ("c.jpg", None),
        ("labels.csv", 2),
        ("labels.csv", 4),
    ]


def test_a_file_that_is_not_utf_8_is_an_error_row(tree) -> None:
    (tree / "labels.csv").write_bytes(b"image,class\n\xff.jpg,1\n")

    manifest = datasets.read(tree)

    assert len(manifest) == 0
    assert manifest.errors[-1].reason == "cannot be read: not text in UTF-8"
