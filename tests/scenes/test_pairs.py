"""Pairs: an individual is the same in every view, and only its marking tells it from its look-alikes."""

from dataclasses import replace

import numpy as np
import pytest
from fingerprint import fingerprint

from seewhy.errors import InputError
from seewhy.scenes import CLASSES, Pairs
from seewhy.scenes.colors import COLORS
from seewhy.scenes.files import read, write
from seewhy.scenes.pairs import MARKING, _markings

# Of SMALL: whoever changes it changes what the bundled retriever was trained on.
KNOWN = "bc8857589edf64d04456d2df6f2873704572b4c47032885847b12ec4f32a4b17"
SMALL = Pairs(12, 3, seed=5)
MANY = Pairs(192, 2, seed=9)


@pytest.fixture(scope="module")
def many():
    return list(MANY)


def main(scene):
    return scene.truth.objects[0]


def test_the_pixels_are_those_of_any_other_machine() -> None:
    assert fingerprint(SMALL) == KNOWN


def test_a_view_depends_on_its_individual_and_number_alone() -> None:
    np.testing.assert_array_equal(SMALL[7].pixels, replace(SMALL, individuals=99)[7].pixels)
    np.testing.assert_array_equal(SMALL[7].pixels, replace(SMALL, views=9)[19].pixels)
    assert not np.array_equal(SMALL[7].pixels, SMALL[8].pixels)
    assert not np.array_equal(SMALL[7].pixels, replace(SMALL, seed=6)[7].pixels)


def test_the_views_of_an_individual_share_name_class_coat_and_marking(many) -> None:
    for one, other in zip(many[::2], many[1::2], strict=True):
        first, second = main(one), main(other)
        assert first.label == second.label
        for fact in ("individual", "marking", "color", "texture"):
            assert first.attributes[fact] == second.attributes[fact]
        assert first.box != second.box


def test_look_alikes_share_all_but_name_and_marking(many) -> None:
    for group in range(48):
        alike = [main(many[2 * individual]) for individual in range(4 * group, 4 * group + 4)]
        for fact in ("color", "texture"):
            assert len({each.attributes[fact] for each in alike}) == 1
        for fact in ("individual", "marking"):
            assert len({each.attributes[fact] for each in alike}) == 4
    assert len({main(scene).attributes["individual"] for scene in many}) == 192


def test_the_marking_is_the_only_distinguishing_part_and_is_seen(many) -> None:
    for scene in many:
        found = main(scene)
        assert [part.name for part in found.parts if part.distinguishing] == [MARKING]
        marking = found.distinguishing()
        assert not (marking & ~found.mask).any()
        assert 30 < marking.sum() < 0.45 * found.mask.sum()


def test_the_second_object_has_parts_that_tell_its_class_and_no_name(many) -> None:
    others = [each for scene in many for each in scene.truth.objects[1:]]
    assert len(others) > 60
    assert all("individual" not in each.attributes for each in others)
    assert all(MARKING not in {part.name for part in each.parts} for each in others)
    assert sum(any(part.distinguishing for part in each.parts) for each in others) > 0.9 * len(others)


def test_a_marking_has_its_two_colours() -> None:
    """Most of its pixels have the hue of one of them, whatever the light."""
    for scene in Pairs(40, 1, seed=2, classes=("house",), occluded=0.0, second=0.0):
        pixels = scene.pixels[main(scene).distinguishing()].astype(float)
        figure, ground = main(scene).attributes["marking"].split(" on ")
        known = np.array([COLORS[ground], COLORS[figure.split()[0]]], float).T
        cosines = pixels @ (known / np.linalg.norm(known, axis=0)) / np.linalg.norm(pixels, axis=1)[:, None]
        assert np.median(cosines.max(1)) > 0.985
        assert 0.1 < (cosines.argmax(1) == 0).mean() < 0.9


def test_a_marking_hides_what_lies_under_it_and_nothing_else() -> None:
    """Two look-alikes in the same view differ nowhere but on their markings and the soft rim of a pixel."""
    from seewhy.scenes.chance import Chance

    one = Pairs(2, 1, seed=4, occluded=0.0, second=0.0)
    original = Chance.__init__

    def same_view(self, *name):
        original(self, *((name[0], name[1], 0, *name[3:]) if str(name[0]).startswith("view") else name))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Chance, "__init__", same_view)
        first, second = one[0], one[1]
    np.testing.assert_array_equal(main(first).mask, main(second).mask)
    differs = (first.pixels != second.pixels).any(2)
    near = np.pad(main(first).distinguishing(), 1)
    near = near[:-2, 1:-1] | near[2:, 1:-1] | near[1:-1, :-2] | near[1:-1, 2:] | near[1:-1, 1:-1]
    assert differs.any()
    assert not (differs & ~near).any()


def test_groups_take_the_classes_in_turn() -> None:
    labels = [main(scene).label for scene in Pairs(8, 1, classes=("cat", "car"), alike=2)]
    assert labels == ["cat", "cat", "car", "car", "cat", "cat", "car", "car"]


def test_every_coat_has_markings_for_the_largest_group() -> None:
    for coat in COLORS:
        found = _markings(0, 0, coat)
        assert len(set(found)) == len(found) >= 100
        assert not any(coat == each.ground or each.ground == each.color for each in found)


def test_every_class_can_be_drawn_at_other_sizes() -> None:
    for size in (48, 224):
        for scene in Pairs(24, 1, 3, size, alike=1):
            assert scene.pixels.shape == (size, size, 3)
            assert main(scene).distinguishing().any()
    assert {main(scene).label for scene in Pairs(24, 1, alike=1)} == set(CLASSES)


def test_written_pairs_are_read_as_they_were(tmp_path) -> None:
    write(SMALL[:2], tmp_path / "pairs")
    for before, after in zip(SMALL, read(tmp_path / "pairs"), strict=False):
        assert after.truth.to_json() == before.truth.to_json()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"views": 0}, "at least one view"),
        ({"alike": 0}, "1 to 100 alike"),
        ({"individuals": -1}, "-1 scenes"),
        ({"classes": ("cat", "dog")}, "no class 'dog'"),
        ({"second": 2.0}, "from 0 to 1"),
    ],
)
def test_impossible_settings_are_refused(settings, message) -> None:
    with pytest.raises(InputError, match=message):
        Pairs(**{"individuals": 1, **settings})
