"""The Houses data's tree: HousesInfo.txt, a line per house, and four photographs of each."""

import os
from pathlib import Path

import pytest

from seewhy import datasets
from seewhy.datasets.houses import VIEWS
from seewhy.errors import InputError


@pytest.fixture
def home(tmp_path, picture, text):
    for house in (1, 2, 3):
        for view in VIEWS:
            picture(tmp_path / "images" / f"{house}_{view}.jpg")
    text(
        tmp_path / "HousesInfo.txt", "4 4 4053 85255 869500\n3 2.5 1800 36372 100000\n2 1 900 85266 250000\n"
    )
    return tmp_path


def test_each_photograph_has_its_view_and_what_its_line_says(home) -> None:
    manifest = datasets.read(home)

    assert (manifest.kind, len(manifest), manifest.errors) == ("houses", 12, ())
    item = manifest["2_frontal.jpg"]
    assert item.labels == ("frontal",)
    assert item.attributes == {
        "view": "frontal", "house": "2", "bedrooms": "3", "bathrooms": "2.5", "area": "1800", "zipcode": "36372",
        "price": "100000", "log-price": "11.512925",
    }  # fmt: skip


def test_an_attribute_is_the_label_where_that_is_wanted(home) -> None:
    manifest = datasets.read(home).labelled_by("price")
    assert {each.labels[0] for each in manifest} == {"869500", "100000", "250000"}


def test_photographs_may_lie_beside_the_listing(home) -> None:
    for path in (home / "images").iterdir():
        path.rename(home / path.name)
    (home / "images").rmdir()
    assert len(datasets.read(home)) == 12


@pytest.mark.parametrize(
    "line", ["3 2 1800 36372", "3 2 1800 36372 -5", "3 2 1800 36372 cheap", "1 2 3 4 nan"]
)
def test_a_broken_line_fails_its_own_house_only(home, text, line) -> None:
    text(home / "HousesInfo.txt", f"4 4 4053 85255 869500\n{line}\n2 1 900 85266 250000\n")
    manifest = datasets.read(home)
    assert manifest.failed == tuple(f"2_{view}.jpg" for view in VIEWS)
    assert {row.line for row in manifest.errors} == {2}
    assert manifest["3_kitchen.jpg"].attributes["price"] == "250000"


def test_missing_and_unnamed_photographs_are_error_rows(home, picture) -> None:
    (home / "images/3_bedroom.jpg").unlink()
    picture(home / "images/4_frontal.jpg")
    manifest = datasets.read(home)
    assert [(row.file.name, row.line, row.id) for row in manifest.errors] == [
        ("HousesInfo.txt", 3, "3_bedroom.jpg"),
        ("4_frontal.jpg", None, None),
    ]
    with pytest.raises(InputError, match="no splits"):
        datasets.read(home, split="train")


def test_the_real_data_is_read_without_a_fault() -> None:
    root = Path(os.environ.get("SEEWHY_DATA", "../shared/data")) / "houses"
    if not root.is_dir():
        pytest.skip(f"no {root}; set SEEWHY_DATA")
    manifest = datasets.read(root)
    assert (len(manifest), manifest.errors) == (535 * 4, ())
