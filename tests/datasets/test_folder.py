"""Class folders, splits, pictures without classes, and what lies in the wrong place."""

import hashlib

import pytest

from seewhy import datasets
from seewhy.errors import InputError


def test_folders_are_classes_and_the_order_is_that_of_the_ids(tmp_path, picture) -> None:
    for name in ("dog/2.jpg", "cat/b/1.JPG", "dog/10.png", "cat/a.jpeg"):
        picture(tmp_path / name)

    manifest = datasets.read(tmp_path)

    assert manifest.kind == "folder"
    assert [(item.id, item.labels) for item in manifest] == [
        ("cat/a.jpeg", ("cat",)),
        ("cat/b/1.JPG", ("cat",)),
        ("dog/10.png", ("dog",)),
        ("dog/2.jpg", ("dog",)),
    ]
    assert manifest.errors == ()
    assert (manifest.index("dog"), manifest.asked) == (1, 4)
    with pytest.raises(InputError, match="'cow' is not among the 2 classes"):
        manifest.index("cow")


def test_train_and_val_are_splits_and_the_classes_are_the_same_for_each(tmp_path, picture) -> None:
    for name in ("train/ants/1.jpg", "train/bees/2.jpg", "val/bees/3.jpg"):
        picture(tmp_path / name)

    whole, val = datasets.read(tmp_path), datasets.read(tmp_path, split="val")

    assert [(item.id, item.split, item.labels[0]) for item in whole] == [
        ("train/ants/1.jpg", "train", "ants"),
        ("train/bees/2.jpg", "train", "bees"),
        ("val/bees/3.jpg", "val", "bees"),
    ]
    assert [item.id for item in val] == ["val/bees/3.jpg"]
    assert whole.classes == val.classes == {"ants": "ants", "bees": "bees"}
    with pytest.raises(InputError, match="no split 'test'; train, val"):
        datasets.read(tmp_path, split="test")


def test_what_is_no_picture_or_in_no_class_is_an_error_row(tmp_path, picture) -> None:
    picture(tmp_path / "cat/1.jpg")
    picture(tmp_path / "cat/.hidden.jpg")
    picture(tmp_path / "stray.jpg")
    (tmp_path / "cat/notes.txt").write_text("x")
    (tmp_path / "cat/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "cow").mkdir()

    manifest = datasets.read(tmp_path)

    assert [item.id for item in manifest] == ["cat/1.jpg"]
    assert [
        (row.file.relative_to(tmp_path).as_posix(), row.reason.split(" /")[0]) for row in manifest.errors
    ] == [
        ("cat/gone.jpg", "there is no picture"),
        ("cat/notes.txt", "is not a picture by its name"),
        ("cow", "holds no picture"),
        ("stray.jpg", "lies in no class's folder"),
    ]
    assert manifest.failed == ("cat/gone.jpg", "stray.jpg")
    assert manifest.asked == 3
    with pytest.raises(InputError, match=r"no picture 'stray\.jpg'.*lies in no class's folder"):
        manifest["stray.jpg"]


def test_pictures_without_folders_have_no_class(tmp_path, picture) -> None:
    picture(tmp_path / "1.jpg")

    manifest = datasets.read(tmp_path)

    assert (manifest.kind, manifest.items[0].labels, dict(manifest.classes)) == ("folder", (), {})
    with pytest.raises(InputError, match="nothing is marked"):
        _ = manifest.items[0].truth


def test_the_digest_is_that_of_the_file_when_first_asked_for(tmp_path, picture) -> None:
    path = picture(tmp_path / "cat/1.jpg")
    gone = picture(tmp_path / "cat/2.jpg")
    first, second = datasets.read(tmp_path)

    assert first.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    gone.unlink()
    with pytest.raises(InputError, match=r"2\.jpg cannot be read: No such file"):
        _ = second.sha256


def test_folders_called_images_are_not_taken_for_classes_and_all_that_was_looked_for_is_said(
    tmp_path, picture
) -> None:
    picture(tmp_path / "images/1.jpg")
    picture(tmp_path / "masks/1.jpg")

    with pytest.raises(InputError) as caught:
        datasets.read(tmp_path)

    assert all(f"\n  {kind}: " in str(caught.value) for kind in datasets.KINDS)
    assert datasets.read(tmp_path, kind="folder").classes.keys() == {"images", "masks"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "imagnet"}, "no kind of dataset 'imagnet'; there are auto, scenes"),
        ({"pictures": "nowhere"}, "pictures='nowhere' is not a folder"),
        ({"split": "val"}, "no split 'val'; its folders are classes"),
    ],
)
def test_what_cannot_be_asked_is_refused(tmp_path, picture, options, message) -> None:
    picture(tmp_path / "cat/1.jpg")
    with pytest.raises(InputError, match=message):
        datasets.read(tmp_path, **options)


def test_a_place_that_does_not_exist_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        datasets.read(tmp_path / "nowhere")
