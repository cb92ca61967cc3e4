"""Clips: frames in which things move, appear and leave, and which of them decide is known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import overload

from seewhy.errors import InputError
from seewhy.scenes.backgrounds import background
from seewhy.scenes.canvas import Canvas, Pose
from seewhy.scenes.cast import Actor, costumed, placed
from seewhy.scenes.chance import Chance
from seewhy.scenes.pairs import Pairs
from seewhy.scenes.scene import CLASSES, Scene, check, clutter, finished

_PASSING = 0.15  # how fast things pass by at most, in sides of the picture per frame


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames in order, and which of them decide.

    Attributes:
        frames: pictures with their truths; of a deciding frame, the individual comes first.
        deciding: per frame, whether it shows the individual.
        individual: its name.
    """

    frames: tuple[Scene, ...]
    deciding: tuple[bool, ...]
    individual: str

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True)
class Clips:
    """Clips of individuals that come again, each in few frames of its clip.

    The individual is one of `Pairs`, known by its coat and its marking. It appears, moves and leaves; only the frames
    that show it tell who it is. Things of other classes pass by before and after it, other ones in every clip, behind
    it and without a marking. Background and clutter stay. Clip number `n` is view `n % views` of individual
    `n // views`. The same settings give the same pixels, in any order, process or machine.

    Args:
        individuals: how many.
        views: clips of each.
        seed: another seed, other individuals and other clips.
        frames: per clip.
        shown: the least and the most frames that show the individual, one after the other.
        size: height and width in pixels, at least 48.
        classes: those that individuals and passers-by are of; individuals take them in turn.
        alike: individuals that only their markings tell apart, 1 to 100.
        passing: things that pass by, at most.

    Raises:
        InputError: a negative count, too small a size, an unknown class, more frames shown than there are.

    Example:
        >>> clip = Clips(individuals=1, frames=4, shown=(1, 1))[0]
        >>> len(clip), sum(clip.deciding), clip.individual
        (4, 1, 'cat 0')
    """

    individuals: int
    views: int = 2
    seed: int = 0
    frames: int = 8
    shown: tuple[int, int] = (1, 3)
    size: int = 64
    classes: tuple[str, ...] = CLASSES
    alike: int = 1
    passing: int = 2

    def __post_init__(self) -> None:
        check(self.individuals, self.size, self.classes, [])
        least, most = self.shown
        if not 1 <= least <= most <= self.frames:
            raise InputError(f"shown={self.shown} of {self.frames} frames: 1 <= least <= most <= frames")
        if self.views < 1 or not 1 <= self.alike <= 100 or self.passing < 0:
            raise InputError(
                f"{self.views} views, {self.alike} alike, {self.passing} passing; at least one view, 1 to 100 alike, "
                "and no fewer than nobody passes"
            )

    def __len__(self) -> int:
        return self.individuals * self.views

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> list[Clip]: ...
    def __getitem__(self, index: int | slice) -> Clip | list[Clip]:
        if isinstance(index, slice):
            return [self._draw(each) for each in range(len(self))[index]]
        return self._draw(range(len(self))[index])

    def __iter__(self) -> Iterator[Clip]:
        return (self._draw(index) for index in range(len(self)))

    def _draw(self, index: int) -> Clip:
        individual, view = divmod(index, self.views)
        name = (self.seed, individual, view)
        pairs = Pairs(self.individuals, self.views, self.seed, self.size, self.classes, self.alike)
        label = pairs.label(individual)
        where, behind, pixels = background(self.size, Chance("clip before", *name))
        chance = Chance("clip", *name)
        count = self.shown[0] + chance.integer(self.shown[1] - self.shown[0] + 1)
        first = chance.integer(self.frames - count + 1)
        deciding = tuple(first <= frame < first + count for frame in range(self.frames))
        own = _walk(placed(label, self.size, chance, 0.24, 0.34), self.size, chance)
        others = [each for each in self.classes if each != label]
        passing = [
            _Passer.drawn(self, others, behind, Chance("clip passer", *name, each))
            for each in range(chance.integer(self.passing + 1) if others else 0)
        ]
        scraps = 2 + chance.integer(4)
        frames = []
        for frame, shows in enumerate(deciding):
            canvas = Canvas(self.size)
            clutter(canvas, Chance("clip clutter", *name), scraps)
            cast = [each for passer in passing for each in passer.at(frame)]
            if shows:
                cast.insert(0, pairs.dressed(individual, own.at(frame - first)))
            for owner, actor in reversed(list(enumerate(cast))):
                actor.draw(canvas, owner)
            frames.append(finished(canvas, cast, where, pixels.copy(), Chance("clip noise", *name, frame)))
        return Clip(tuple(frames), deciding, pairs.name(individual))


@dataclass(frozen=True)
class _Walk:
    """Where something is after some frames, on its way."""

    pose: Pose
    step: tuple[float, float]
    turn: float
    inside: float | None = None

    def at(self, frames: int) -> Pose:
        """The pose; reflected at the picture's edges, of which it is given the side, if it stays inside."""
        x, y = (at + frames * step for at, step in zip((self.pose.x, self.pose.y), self.step, strict=True))
        if self.inside is not None:
            x, y = (_reflected(each, self.pose.radius, self.inside - self.pose.radius) for each in (x, y))
        return replace(self.pose, x=x, y=y, turn=self.pose.turn + frames * self.turn)


@dataclass(frozen=True)
class _Passer:
    """Something that passes by in some of the frames."""

    actor: Actor
    walk: _Walk
    first: int
    last: int
    name: tuple[int | str, ...]

    @classmethod
    def drawn(cls, clips: Clips, labels: list[str], behind: tuple[int, int, int], chance: Chance) -> _Passer:
        label = chance.pick(labels)
        pose = placed(label, clips.size, chance, 0.13, 0.22)
        actor = costumed(label, pose, behind, chance)
        walk = _walk(pose, clips.size, chance, stays=False)
        first = chance.integer(clips.frames)
        last = first + 1 + chance.integer(clips.frames - first)
        return cls(actor, walk, first, last, ("clip shape", chance.integer(1 << 30)))

    def at(self, frame: int) -> list[Actor]:
        """It, in a frame that it is in; nobody in another."""
        if not self.first <= frame < self.last:
            return []
        pose = self.walk.at(frame - (self.first + self.last) // 2)
        # Its shape is drawn from chances of its own, so that it is the same in every frame.
        return [replace(self.actor, pose=pose, chance=Chance(*self.name))]


def _walk(pose: Pose, size: int, chance: Chance, stays: bool = True) -> _Walk:
    angle, speed = chance.uniform(0, math.tau), chance.uniform(0.03, _PASSING) * size
    step = speed * math.cos(angle), speed * math.sin(angle)
    return _Walk(pose, step, chance.uniform(-0.08, 0.08), float(size) if stays else None)


def _reflected(at: float, low: float, high: float) -> float:
    """A place between two walls, of something that bounced off them."""
    span = max(high - low, 1e-9)
    away = (at - low) % (2 * span)
    return low + min(away, 2 * span - away)
