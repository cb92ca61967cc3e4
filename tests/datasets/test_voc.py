"""VOC2012's tree: VOCdevkit/VOC2012 with Annotations, ImageSets, JPEGImages and SegmentationObject."""

import numpy as np
import pytest
from PIL import Image

from seewhy import datasets
from seewhy.errors import InputError
from seewhy.truth import Box

PERSON = """	<object>
		<name>person</name>
		<pose>Unspecified</pose>
		<truncated>0</truncated>
		<difficult>{difficult}</difficult>
		<bndbox>
			<xmin>{0}</xmin>
			<ymin>{1}</ymin>
			<xmax>{2}</xmax>
			<ymax>{3}</ymax>
		</bndbox>{more}
	</object>
"""
HEAD = "\n\t\t<part><name>head</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></part>"


def xml(id: str, *objects: str, width: int = 10, height: int = 8, segmented: int = 0) -> str:
    return (
        f"<annotation>\n\t<folder>VOC2012</folder>\n\t<filename>{id}.jpg</filename>\n"
        f"\t<size>\n\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n\t\t<depth>3</depth>\n\t</size>\n"
        f"\t<segmented>{segmented}</segmented>\n{''.join(objects)}</annotation>\n"
    )


def thing(*box: float, difficult: int = 0, more: str = "", name: str = "person") -> str:
    return PERSON.format(*box, difficult=difficult, more=more).replace("person", name)


@pytest.fixture
def home(tmp_path, picture, text):
    home = tmp_path / "VOCdevkit/VOC2012"
    for id in ("2007_000032", "2007_000027"):
        picture(home / f"JPEGImages/{id}.jpg")
    dog = thing(1, 1, 10, 8, name="dog", difficult=1)
    first = xml("2007_000027", thing(2, 3, 4, 3, more=HEAD), dog, segmented=1)
    text(home / "Annotations/2007_000027.xml", first)
    text(home / "Annotations/2007_000032.xml", xml("2007_000032", thing(1.4, 2, 4.6, 3)))
    text(home / "ImageSets/Main/train.txt", "2007_000032\n")
    text(home / "ImageSets/Main/val.txt", "2007_000027\n")
    indices = np.zeros((8, 10), np.uint8)
    indices[2, 1:4], indices[7, 9], indices[0, 0] = 1, 2, 255
    (home / "SegmentationObject").mkdir()
    mask = Image.fromarray(indices).convert("P")
    mask.putdata(indices.ravel().tolist())
    mask.save(home / "SegmentationObject/2007_000027.png")
    return home


def test_boxes_count_from_one_with_both_edges_in_them(home) -> None:
    manifest = datasets.read(home)

    assert (manifest.kind, manifest.errors) == ("voc", ())
    assert [(item.id, item.split) for item in manifest] == [("2007_000027", "val"), ("2007_000032", "train")]
    assert manifest["2007_000027"].boxes == (Box(1, 2, 4, 3), Box(0, 0, 10, 8))
    # 1.4 to 4.6, from 1 and both edges in: edges 0.4 to 4.6 hold the centres 0.5, 1.5, 2.5, 3.5, 4.5.
    assert manifest["2007_000032"].boxes == (Box(0, 1, 5, 3),)
    assert manifest["2007_000027"].labels == ("person", "dog")
    assert manifest.index("dog") == 11  # of VOC's own order


def test_what_an_object_says_is_kept(home) -> None:
    person, dog = datasets.read(home)["2007_000027"].objects

    assert (person.attributes["difficult"], dog.attributes["difficult"]) == ("0", "1")
    assert person.attributes["pose"] == "Unspecified"
    assert [(part.name, part.box) for part in person.parts] == [("head", Box(1, 1, 3, 3))]


def test_masks_are_the_objects_own_indices_read_when_asked(home) -> None:
    item = datasets.read(home)["2007_000027"]

    person, dog = (mask.read() for mask in item.masks)

    assert person.sum() == 3
    assert person[2, 1:4].all()
    assert np.argwhere(dog).tolist() == [[7, 9]]
    truth = item.truth
    assert (truth.label, truth.size) == ("person", (8, 10))
    np.testing.assert_array_equal(truth.objects[0].mask, person)


@pytest.mark.parametrize("above", [0, 1, 2])
def test_the_folder_may_be_named_from_above(home, above) -> None:
    assert len(datasets.read([home, *home.parents][above], split="val")) == 1


def test_two_years_are_not_mixed(home, text) -> None:
    for name in ("Annotations", "JPEGImages"):
        (home.parent / "VOC2007" / name).mkdir(parents=True)
    with pytest.raises(InputError, match=r"VOC2007, .*VOC2012: give one of them"):
        datasets.read(home.parent)


def test_a_split_that_is_not_there_is_refused_and_missing_annotations_have_their_line(home, text) -> None:
    with pytest.raises(InputError, match="no split 'test'; ImageSets/Main has train, val"):
        datasets.read(home, split="test")
    text(home / "ImageSets/Main/val.txt", "2007_000027\n2008_000001\n2007_000027\n")

    manifest = datasets.read(home, split="val")

    assert [(row.file.name, row.line, row.id) for row in manifest.errors] == [
        ("val.txt", 2, "2008_000001"),
        ("val.txt", 3, "2007_000027"),
    ]
    assert manifest.failed == ("2008_000001",)


BROKEN = {
    "cut off": (lambda whole: whole[:-20], 34, "broken XML"),
    "wrong tag": (lambda whole: whole.replace("</bndbox>", "</box>"), 20, "mismatched tag"),
    "another picture": (lambda whole: whole.replace("000027", "000099"), 3, "is about '2007_000099.jpg'"),
    "entities": (
        lambda whole: '<!DOCTYPE a [\n<!ENTITY a "aa">\n<!ENTITY b "&a;&a;">]>\n' + whole,
        2,
        "declares the entity 'a'",
    ),
    "no annotation": (lambda _: "<html>\n</html>", 1, "holds <html> instead of <annotation>"),
    "no bytes": (lambda _: "", 1, "no element found"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_xml_is_an_error_row_with_its_line(home, text, fault) -> None:
    change, line, reason = BROKEN[fault]
    file = home / "Annotations/2007_000027.xml"
    text(file, change(file.read_text()))

    manifest = datasets.read(home)

    assert [(row.file, row.line, row.id) for row in manifest.errors] == [(file, line, "2007_000027")]
    assert reason in manifest.errors[0].reason
    assert [item.id for item in manifest] == ["2007_000032"]
    assert manifest.asked == 2


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (xml("2007_000032", thing(1, 1, 11, 8)), 15, "person: the box from (0, 0) to (11, 8) reaches beyond"),
        (xml("2007_000032", thing(0, 1, 4, 8)), 15, "reaches beyond"),
        (xml("2007_000032", thing(5, 1, 3, 8)), 15, "has no extent"),
        (xml("2007_000032", thing("x", 1, 3, 8)), 15, "is not four numbers"),
        (xml("2007_000032", "<object>\n<name>person</name>\n</object>"), 10, "person has no <bndbox>"),
        (xml("2007_000032", thing(1, 1, 2, 2, name="")), 10, "an object without a name"),
        (
            xml("2007_000032", thing(1, 1, 2, 2), width=20),
            None,
            "is marked at 20 x 8 pixels, but the file has 10 x 8",
        ),
        (xml("2007_000032", thing(1, 1, 2, 2), width="x"), 4, "a size of 'x' x '8' pixels"),
        (xml("2007_000032", segmented=1), None, "says it is segmented, but there is no"),
    ],
)
def test_faulty_objects_are_error_rows_and_the_picture_stays(home, text, content, line, reason) -> None:
    file = text(home / "Annotations/2007_000032.xml", content)

    manifest = datasets.read(home)

    (row,) = manifest.errors
    assert (row.file, row.line, row.id) == (file, line, "2007_000032")
    assert reason in row.reason
    assert len(manifest) == 2
    assert [item.id for item in manifest.faultless] == ["2007_000027"]


def test_missing_and_unlisted_pictures_are_error_rows(home, picture) -> None:
    (home / "JPEGImages/2007_000027.jpg").unlink()
    picture(home / "JPEGImages/2009_000001.jpg")

    manifest = datasets.read(home)

    assert [(row.file.name, row.id) for row in manifest.errors] == [
        ("2007_000027.xml", "2007_000027"),
        ("2009_000001.jpg", None),
    ]
    assert "there is no picture" in manifest.errors[0].reason
