"""Names of summaries: by parts that are known, by a file, and how mixed they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from seewhy import Scenes, load
from seewhy.datasets import read
from seewhy.errors import InputError
from seewhy.scenes.files import write
from seewhy.summaries.names import PartNames, TagFile, entropies, named
from seewhy.summaries.result import Effect, Member, Subject, Summaries, Summary
from seewhy.truth import tight_box

NOTHING = Effect(0, 0, 1, 0, 0, 1)


def member(place, mask):
    box = tight_box(mask)
    return Member(place, (box.x0, box.y0, box.x1, box.y1), mask)


def summaries(subjects, groups):
    found = [Summary(tuple(each), len(each), 0.5, NOTHING, 1.0) for each in groups]
    return Summaries("hammer", "demo", "0", {}, tuple(subjects), tuple(found), (), (1, 1), 0.0)


@pytest.fixture
def hammers(tmp_path):
    """Three hammers, a summary of their heads and one of what is outside of them."""
    write(Scenes(3, seed=5, size=64, classes=("hammer",), second=0, occluded=0), tmp_path)
    manifest = read(tmp_path)
    subjects, heads, outside = [], [], []
    for place, item in enumerate(manifest):
        (hammer,) = item.truth.objects
        large = {each.name: np.kron(each.mask, np.ones((2, 2), bool)) for each in hammer.parts}
        name = max(large, key=lambda each: large[each].sum())
        whole = np.kron(hammer.mask, np.ones((2, 2), bool))
        subjects.append(Subject(item.id, np.zeros((128, 128, 3), np.uint8), np.zeros((128, 128)), 1, 0))
        heads.append((name, member(place, large[name])))
        outside.append(member(place, ~whole))
    network = load("demo")
    assert network.preprocess is not None
    network.preprocess = network.preprocess.model_copy(update={"resize": (128, 128)})
    return (
        network,
        manifest,
        summaries(subjects, [[each for _, each in heads], outside]),
        [n for n, _ in heads],
    )


def test_a_summary_bears_the_name_of_the_part_that_its_regions_lie_on(hammers):
    network, manifest, found, names = hammers
    first, second = named(found, PartNames(network, manifest)).summaries
    assert first.names[0][0] in names
    assert first.names[0][1] >= 0.95 * names.count(first.names[0][0]) / 3
    assert second.names[0][0] == "elsewhere"
    assert second.names[0][1] > 0.95


def test_names_are_less_mixed_within_summaries_than_over_all(hammers):
    network, manifest, found, _ = hammers
    within, over_all = entropies(found, PartNames(network, manifest))
    assert within < over_all
    mixed = replace(
        found, summaries=(replace(found.summaries[0], members=sum((s.members for s in found.summaries), ())),)
    )
    within, over_all = entropies(mixed, PartNames(network, manifest))
    assert within == pytest.approx(over_all)
    assert entropies(replace(found, summaries=()), PartNames(network, manifest)) == (0, 0)


def test_a_file_of_tags_names_regions_by_their_box_and_pictures_without_one(tmp_path):
    mask = np.zeros((8, 8), bool)
    mask[2:5, 1:6] = True
    subjects = [Subject(f"{n}.png", np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8)), 1, 0) for n in range(2)]
    found = summaries(subjects, [[member(0, mask), member(1, mask)]])
    path = tmp_path / "tags.csv"
    head = "picture,x0,y0,x1,y1,name,score\n"
    path.write_text(
        f"{head}0.png,1,2,6,5,wheel,0.5\n0.png,0,0,6,5,door,1\n1.png,,,,,wheel,\n1.png,1,2,6,5,tyre,0.2\n"
    )
    (only,) = named(found, TagFile(path)).summaries
    assert only.names == (("wheel", pytest.approx(0.75)), ("tyre", pytest.approx(0.1)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("picture,name\n", "no column 'x0'"),
        ("picture,x0,y0,x1,y1,name,score\na,1,2,x,4,wheel,1\n", "line 2: a box"),
        ("picture,x0,y0,x1,y1,name,score\na,1,2,3,4,wheel,7\n", "line 2: a name with a score from 0 to 1"),
        ("picture,x0,y0,x1,y1,name,score\na,1,2,3,4,,1\n", "line 2: a name"),
    ],
)
def test_what_is_wrong_in_a_file_of_tags_is_named_with_its_line(tmp_path, text, said):
    (tmp_path / "tags.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        TagFile(tmp_path / "tags.csv")
    with pytest.raises(InputError, match="cannot be read"):
        TagFile(tmp_path / "nothing.csv")
