"""The real sample as it lies in the folder that SEEWHY_DATA names."""

import os
from pathlib import Path

import pytest

from seewhy import datasets

DATA = Path(os.environ.get("SEEWHY_DATA", "../shared/data"))


def sample(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"needs {name} in the folder that SEEWHY_DATA names, which is {DATA}")
    return DATA / name


@pytest.mark.parametrize(
    ("name", "kind", "pictures", "classes"),
    [
        ("imagenet-val", "csv", 1000, 1000),
        ("photos", "csv", 143, 0),
        ("ants-bees", "folder", 396, 2),
        ("caltech20", "folder", 800, 20),
    ],
)
def test_every_picture_is_read_without_a_fault(name, kind, pictures, classes) -> None:
    manifest = datasets.read(sample(name))

    assert manifest.kind == kind
    assert manifest.errors == ()
    assert (len(manifest), len(manifest.classes)) == (pictures, classes)
    assert all(item.path.is_file() and item.labels for item in manifest)
    assert [item.id for item in manifest] == sorted(item.id for item in manifest)


def test_imagenet_has_the_boxes_that_its_csv_lists() -> None:
    manifest = datasets.read(sample("imagenet-val"))

    item = manifest["ILSVRC2012_val_00000361.JPEG"]  # 37.7,52.7,190.2,202.3
    assert [(box.x0, box.y0, box.x1, box.y1) for box in item.boxes] == [(38, 53, 190, 202)]
    assert manifest.classes[item.labels[0]].startswith("n02")
    assert sum(len(each.boxes) for each in manifest) == 1463
    assert all(each.size == (227, 227) for each in manifest)


def test_the_splits_of_ants_and_bees_are_told_apart() -> None:
    manifest = datasets.read(sample("ants-bees"))

    assert {(item.split, item.labels) for item in manifest} == {
        (split, (label,)) for split in ("train", "val") for label in ("ants", "bees")
    }
