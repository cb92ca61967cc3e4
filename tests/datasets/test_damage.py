"""Whatever happens to a listing, reading it ends with a manifest or an InputError, never with anything else."""

import json
import random

import pytest

from seewhy import datasets
from seewhy.errors import InputError

XML = (
    "<annotation><filename>{0}</filename><size><width>10</width><height>8</height></size>\n"
    "<object><name>n01440764</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></object>\n"
    "</annotation>\n"
)
RUNS = {"size": [8, 10], "counts": [9, 2, 69]}
COCO = {
    "images": [{"id": 1, "file_name": "1.jpg", "height": 8, "width": 10}],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [0, 0, 2, 2],
            "segmentation": [[0, 0, 2, 0, 2, 2]],
        },
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2], "segmentation": RUNS},
    ],
    "categories": [{"id": 1, "name": "cat"}],
}
SCENE = {
    "file": "1.png", "size": [8, 10], "caption": None, "shortcut": RUNS,
    "objects": [{"label": "cat", "box": [0, 0, 2, 2], "mask": RUNS, "attributes": {}, "parts": []}],
}  # fmt: skip
TREES = {
    "voc": ("JPEGImages/1.jpg", {"Annotations/1.xml": XML.format("1.jpg")}),
    "imagenet": ("val/ILSVRC2012_val_1.JPEG", {"val/ILSVRC2012_val_1.xml": XML.format("ILSVRC2012_val_1")}),
    "coco": ("val2017/1.jpg", {"annotations/instances_val2017.json": json.dumps(COCO)}),
    "scenes": ("1.png", {"truth.jsonl": json.dumps(SCENE) + "\n"}),
    "csv": (
        "1.jpg",
        {"labels.csv": "image,label\n1.jpg,2\n", "boxes.csv": "image,x0,y0,x1,y1\n1.jpg,0,0,2,2\n"},
    ),
    "wsol": (
        "1.jpg",
        {
            "image_ids.txt": "1.jpg\n",
            "class_labels.txt": "1.jpg,3\n",
            "image_sizes.txt": "1.jpg,10,8\n",
            "localization.txt": "1.jpg,0,0,2,2\n1.jpg,m.png,\n",
        },
    ),
    "cub": (
        "images/a/1.jpg",
        {
            "images.txt": "1 a/1.jpg\n",
            "classes.txt": "1 a\n",
            "image_class_labels.txt": "1 1\n",
            "train_test_split.txt": "1 0\n",
            "bounding_boxes.txt": "1 0 0 2 2\n",
            "parts/parts.txt": "1 beak\n",
            "parts/part_locs.txt": "1 1 2 2 1\n",
        },
    ),
}
ODD = [None, True, -1, 1e400, float("nan"), "", "x\0y", "../x", [], {}, [[]], 10**30]


@pytest.fixture
def grown(tmp_path, picture, text):
    def grow(kind: str):
        name, files = TREES[kind]
        picture(tmp_path / name)
        for file, content in files.items():
            text(tmp_path / file, content)
        return tmp_path, [tmp_path / file for file in files]

    return grow


def read_all(root, kind: str) -> None:
    try:
        manifest = datasets.read(root, kind=kind)
    except InputError:
        return
    assert manifest.asked == len(manifest) + len(manifest.failed)
    assert all(row.reason for row in manifest.errors)
    if not len(manifest):
        assert manifest.errors


@pytest.mark.parametrize("kind", TREES)
def test_the_undamaged_tree_has_one_picture_with_a_box(grown, kind) -> None:
    root, _ = grown(kind)
    (item,) = datasets.read(root)
    assert item.boxes


@pytest.mark.parametrize("kind", TREES)
def test_damaged_bytes_never_escape(grown, kind) -> None:
    root, files = grown(kind)
    chance = random.Random(0)
    for file in files:
        whole = file.read_bytes()
        for _ in range(150):
            damaged = bytearray(whole)
            for _ in range(chance.randint(1, 3)):
                start = chance.randrange(len(damaged) + 1)
                damaged[start : start + chance.randint(0, 4)] = chance.choice(
                    [b"", b"\0", b"\xff", b"-", b"9", b"\n", b'"']
                )
            file.write_bytes(damaged)
            read_all(root, kind)
        file.write_bytes(whole)


def places(value, above=()):
    """The way to every value in nested JSON."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield (*above, key)
        yield from places(below, (*above, key))


@pytest.mark.parametrize(("kind", "content"), [("coco", COCO), ("scenes", SCENE)])
def test_odd_values_anywhere_in_json_never_escape(grown, kind, content) -> None:
    root, (file,) = grown(kind)
    for *above, last in places(content):
        for odd in ODD:
            changed = json.loads(json.dumps(content))
            inner = changed
            for key in above:
                inner = inner[key]
            inner[last] = odd
            file.write_text(json.dumps(changed) + "\n")
            read_all(root, kind)
