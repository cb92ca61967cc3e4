"""ImageNet's validation set as its archives unpack it, and as Kaggle's does."""

import pytest

from seewhy import datasets
from seewhy.errors import InputError
from seewhy.truth import Box

NAME = "ILSVRC2012_val_{:08d}"
OBJECT = """	<object>
		<name>{}</name>
		<pose>Unspecified</pose>
		<truncated>0</truncated>
		<difficult>0</difficult>
		<bndbox>
			<xmin>{}</xmin>
			<ymin>{}</ymin>
			<xmax>{}</xmax>
			<ymax>{}</ymax>
		</bndbox>
	</object>
"""


def xml(number: int, *objects: tuple) -> str:
    return (
        f"<annotation>\n\t<folder>val</folder>\n\t<filename>{NAME.format(number)}</filename>\n"
        "\t<source>\n\t\t<database>ILSVRC_2012</database>\n\t</source>\n"
        "\t<size>\n\t\t<width>10</width>\n\t\t<height>8</height>\n\t\t<depth>3</depth>\n\t</size>\n"
        f"\t<segmented>0</segmented>\n{''.join(OBJECT.format(*each) for each in objects)}</annotation>\n"
    )


def grown(root, notes: str, pictures: str, picture, text):
    for number in (2, 1):
        picture(root / pictures / f"{NAME.format(number)}.JPEG")
    text(root / notes / f"{NAME.format(1)}.xml", xml(1, ("n01751748", 0, 0, 9, 7), ("n01751748", 2, 3, 2, 4)))
    text(root / notes / f"{NAME.format(2)}.xml", xml(2, ("n01440764", 1, 2, 8, 6)))
    return root


@pytest.fixture
def root(tmp_path, picture, text):
    text(tmp_path / "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", "490\n361\n")
    text(tmp_path / "synset_words.txt", "n01440764 tench, Tinca tinca\nn01751748 sea snake\n")
    return grown(tmp_path, "val", "ILSVRC2012_img_val", picture, text)


def test_boxes_count_from_zero_with_both_edges_in_them(root) -> None:
    manifest = datasets.read(root)

    assert (manifest.kind, manifest.errors) == ("imagenet", ())
    first, second = manifest
    assert (first.id, first.labels, first.split) == (NAME.format(1), ("n01751748",), "val")
    assert first.boxes == (Box(0, 0, 10, 8), Box(2, 3, 3, 5))
    assert second.boxes == (Box(1, 2, 9, 7),)
    assert [manifest.index(item.labels[0]) for item in manifest] == [1, 0]
    assert manifest.classes["n01440764"] == "tench, Tinca tinca"


@pytest.mark.parametrize(
    ("notes", "pictures"),
    [
        ("ILSVRC2012_bbox_val_v3/val", "ILSVRC2012_img_val"),
        ("ILSVRC/Annotations/CLS-LOC/val", "ILSVRC/Data/CLS-LOC/val"),
        ("bbox/val", "val/n00000000"),  # as scripts sort the pictures for torchvision
        ("val", "val"),
        (".", "."),
    ],
)
def test_the_usual_arrangements_are_found(tmp_path, picture, text, notes, pictures) -> None:
    manifest = datasets.read(grown(tmp_path, notes, pictures, picture, text))

    assert (manifest.kind, len(manifest), manifest.errors) == ("imagenet", 2, ())
    assert manifest.classes == {}


def test_pictures_may_lie_elsewhere(tmp_path, picture, text) -> None:
    grown(tmp_path, "notes/val", "far/away", picture, text)

    assert len(datasets.read(tmp_path / "notes", pictures=tmp_path / "far/away")) == 2
    with pytest.raises(InputError, match=r"ILSVRC2012_val_\*\.JPEG in one of"):
        datasets.read(tmp_path / "notes")


def test_only_val_can_be_asked_for(root) -> None:
    assert len(datasets.read(root, split="val")) == 2
    with pytest.raises(InputError, match="'val', not 'train'"):
        datasets.read(root, split="train")


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (xml(1, ("n01751748", 0, 0, 10, 7)), 18, "n01751748: the box from (0, 0) to (11, 8) reaches beyond"),
        (xml(1)[:-5], 13, "broken XML"),
        (xml(1), None, "names no object"),
        (xml(3, ("n01751748", 0, 0, 9, 7)), 3, "is about 'ILSVRC2012_val_00000003'"),
    ],
)
def test_faults_are_error_rows_with_file_and_line(root, text, content, line, reason) -> None:
    file = text(root / "val" / f"{NAME.format(1)}.xml", content)

    manifest = datasets.read(root)

    (row,) = manifest.errors
    assert (row.file, row.line, row.id) == (file, line, NAME.format(1))
    assert reason in row.reason
    assert manifest.asked == 2


def test_missing_and_unlisted_pictures_and_resized_ones_are_error_rows(root, picture) -> None:
    base = root / "ILSVRC2012_img_val"
    (base / f"{NAME.format(1)}.JPEG").unlink()
    picture(base / f"{NAME.format(2)}.JPEG", 224, 224)
    picture(base / f"{NAME.format(3)}.JPEG")

    manifest = datasets.read(root)

    assert [(row.file.name, row.reason.split(" /")[0]) for row in manifest.errors] == [
        (f"{NAME.format(3)}.JPEG", "is not named in val/*.xml"),
        (f"{NAME.format(1)}.xml", "there is no picture"),
        (
            f"{NAME.format(2)}.xml",
            "is marked at 10 x 8 pixels, but the file has 224 x 224; its boxes and masks are left out",
        ),
    ]
    assert manifest.items[0].boxes == ()
    assert manifest.items[0].labels == ("n01440764",)
