"""What `seewhy scenes` writes comes back with its truth, and broken lines as error rows."""

import json

import numpy as np
import pytest

import seewhy
from seewhy import datasets
from seewhy.errors import InputError
from seewhy.evaluation.planted_truth import Known
from seewhy.scenes.files import read, write


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    write(seewhy.Scenes(3, seed=1, watermark=seewhy.Watermark("hammer", probability=1)), folder)
    return folder


@pytest.fixture
def folder(written, tmp_path):
    for path in written.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_the_truth_is_the_one_that_was_written(folder) -> None:
    manifest = datasets.read(folder)

    assert (manifest.kind, manifest.errors) == ("scenes", ())
    assert [item.id for item in manifest] == ["000000.png", "000001.png", "000002.png"]
    for item, kept in zip(manifest, read(folder), strict=True):
        assert item.truth.to_json() == kept.truth.to_json()
        assert item.labels[0] == kept.truth.label
        np.testing.assert_array_equal(np.asarray(item.image), np.asarray(kept.image))


def test_an_item_serves_where_a_picture_with_its_truth_is_asked_for(folder) -> None:
    assert isinstance(datasets.read(folder).items[0], Known)


def test_broken_lines_are_error_rows_and_the_others_stay(folder, picture) -> None:
    file = folder / "truth.jsonl"
    first, second, third = (json.loads(line) for line in file.read_text().splitlines())
    second["objects"][0]["box"] = [0, 0, 1000, 5]
    third["file"] = "../000002.png"
    lines = [json.dumps(first), json.dumps(second), "{", json.dumps(third), json.dumps(first), "{}"]
    file.write_text("\n".join(lines))

    manifest = datasets.read(file)

    assert [(row.file.name, row.line, row.id) for row in manifest.errors] == [
        ("000002.png", None, None),
        ("truth.jsonl", 2, "000001.png"),
        ("truth.jsonl", 3, None),
        ("truth.jsonl", 4, None),
        ("truth.jsonl", 5, "000000.png"),
        ("truth.jsonl", 6, None),
    ]
    assert [item.id for item in manifest] == ["000000.png", "000001.png"]
    assert manifest["000001.png"].objects[0].box is None


def test_scenes_have_no_splits(folder) -> None:
    with pytest.raises(InputError, match="no splits"):
        datasets.read(folder, split="val")


def test_an_attribute_can_be_the_label(tmp_path) -> None:
    write(seewhy.Pairs(2, views=2, size=48), tmp_path)
    manifest = datasets.read(tmp_path).labelled_by("individual")
    assert [each.labels for each in manifest] == [("cat 0",), ("cat 0",), ("cat 1",), ("cat 1",)]
    with pytest.raises(InputError, match=r"has no attribute 'owner'; it has .*individual"):
        manifest.labelled_by("owner")
