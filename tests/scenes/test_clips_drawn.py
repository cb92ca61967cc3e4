"""Clips: what decides is where the truth says, and nowhere else."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from seewhy.errors import InputError
from seewhy.scenes import CLASSES, Clips
from seewhy.truth import tight_box

CLIPS = Clips(24, 2, seed=4)


@pytest.fixture(scope="module")
def many():
    return list(CLIPS)


def test_the_same_settings_give_the_same_pixels_and_others_do_not() -> None:
    one, again = CLIPS[7], Clips(24, 2, seed=4)[7]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(one.frames, again.frames, strict=True))
    assert one.deciding == again.deciding
    other = replace(CLIPS, seed=5)[7]
    assert any(not np.array_equal(a.pixels, b.pixels) for a, b in zip(one.frames, other.frames, strict=True))
    assert [each.individual for each in CLIPS[6:8]] == [one.individual] * 2


def test_the_individual_is_seen_with_its_marking_in_the_deciding_frames_and_in_no_other(many) -> None:
    for clip in many:
        assert len(clip) == 8
        for frame, decides in zip(clip.frames, clip.deciding, strict=True):
            named = [each for each in frame.truth.objects if "individual" in each.attributes]
            assert len(named) == decides
            if decides:
                assert named[0] is frame.truth.objects[0]
                assert named[0].attributes["individual"] == clip.individual
                assert named[0].distinguishing().sum() >= 12


def test_it_is_there_for_one_to_three_frames_one_after_the_other_anywhere_in_the_clip(many) -> None:
    counts, places = set(), set()
    for clip in many:
        where = np.flatnonzero(clip.deciding)
        assert (np.diff(where) == 1).all()
        counts.add(len(where))
        places.update(where.tolist())
    assert counts == {1, 2, 3}
    assert places == set(range(8))


def test_it_moves_and_stays_the_same(many) -> None:
    moved = 0
    for clip in many:
        own = [
            frame.truth.objects[0]
            for frame, decides in zip(clip.frames, clip.deciding, strict=True)
            if decides
        ]
        assert len({each.attributes["marking"] for each in own}) == 1
        boxes = [tight_box(each.mask) for each in own]
        moved += len(boxes) > 1 and all(a != b for a, b in pairwise(boxes))
    assert moved > 12


def test_both_clips_of_an_individual_show_one_marking_and_other_places(many) -> None:
    for one, other in zip(many[::2], many[1::2], strict=True):
        facts = [
            frame.truth.objects[0].attributes["marking"]
            for clip in (one, other)
            for frame, decides in zip(clip.frames, clip.deciding, strict=True)
            if decides
        ]
        assert len(set(facts)) == 1
        assert not np.array_equal(one.frames[0].pixels, other.frames[0].pixels)


def test_others_appear_pass_and_leave_and_carry_no_marking(many) -> None:
    others = [
        [each.label for each in frame.truth.objects if "individual" not in each.attributes]
        for clip in many
        for frame in clip.frames
    ]
    assert 0.2 < np.mean([bool(each) for each in others]) < 0.9
    assert len({label for each in others for label in each}) > 12
    for clip in many:
        label = clip.individual.rsplit(" ", 1)[0]
        assert all(each.label != label for frame in clip.frames for each in frame.truth.objects[1:])


def test_the_background_stays_but_for_noise(many) -> None:
    clip = many[0]
    frames = np.stack([frame.pixels.astype(int) for frame in clip.frames])
    free = ~np.logical_or.reduce([each.mask for frame in clip.frames for each in frame.truth.objects])
    edges = (
        np.pad(~free, 2)[:-4, :-4]
        | np.pad(~free, 2)[4:, 4:]
        | np.pad(~free, 2)[4:, :-4]
        | np.pad(~free, 2)[:-4, 4:]
    )
    still = free & ~edges
    assert np.abs(frames - frames[0])[:, still].max() <= 17  # noise of 16 levels, rounded
    assert not np.array_equal(frames[0], frames[1])


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(InputError, match="no class 'dragon'"):
        Clips(2, classes=("dragon",))
    with pytest.raises(InputError, match="least <= most <= frames"):
        Clips(2, frames=2, shown=(1, 3))
    with pytest.raises(InputError, match="at least one view"):
        Clips(2, views=0)
    with pytest.raises(InputError, match="size >= 48"):
        Clips(2, size=32)
    assert len(Clips(3, classes=CLASSES[:1])[0]) == 8  # of one class nobody else can pass
