"""What several networks answer to the same pictures: which of them is right, and which pictures tell them apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from seewhy.errors import InputError, NotApplicableError
from seewhy.explainers.study import best_classes
from seewhy.explanation import Predicted
from seewhy.network.images import Failure, stream
from seewhy.network.network import Network, main_output


@dataclass(frozen=True)
class Answer:
    """What one network says of one picture.

    Attributes:
        best: its best class.
        correct: whether that is the true one; None where that is not known.
    """

    best: Predicted
    correct: bool | None


@dataclass(frozen=True)
class Answers:
    """What N networks say of the same pictures.

    Attributes:
        of: per picture, in the order asked for, one answer per network.
        failed: pictures that could not be read, and why.
    """

    of: Mapping[str, tuple[Answer, ...]]
    failed: tuple[Failure, ...]

    def chosen(self, which: str) -> list[str]:
        """The pictures that fit a choice (`CHOICES`), in order.

        Raises:
            InputError: no such choice, or it asks who is right and no picture's class is known.
        """
        if which not in CHOICES:
            raise InputError(f"no choice is called {which!r}; there are {', '.join(CHOICES)}")
        if which not in WITHOUT_TRUTH and not any(self.judged(path) for path in self.of):
            raise InputError(f"{which!r} asks who is right, and no picture's true class is known")
        fits = CHOICES[which]
        return [
            path
            for path, answers in self.of.items()
            if (which in WITHOUT_TRUTH or self.judged(path)) and fits(answers)
        ]

    def judged(self, path: str) -> bool:
        """Whether it is known of every answer to a picture if it is right."""
        return all(each.correct is not None for each in self.of[path])

    def counts(self) -> dict[str, int]:
        """How many pictures fit each choice; without any known class, only what needs none."""
        judged = any(self.judged(path) for path in self.of)
        return {which: len(self.chosen(which)) for which in CHOICES if judged or which in WITHOUT_TRUTH}

    def right(self, network: int) -> tuple[int, int]:
        """How many pictures a network gets right, and of how many that is known."""
        verdicts = [each[network].correct for each in self.of.values()]
        return verdicts.count(True), len(verdicts) - verdicts.count(None)


def _first_against_the_others(right: bool) -> Callable[[Sequence[Answer]], bool]:
    return lambda answers: [each.correct for each in answers] == [right, *[not right] * (len(answers) - 1)]


CHOICES: Mapping[str, Callable[[Sequence[Answer]], bool]] = {
    "all": lambda _: True,
    "disagree": lambda answers: len({each.best.label for each in answers}) > 1,
    "all-right": lambda answers: all(each.correct for each in answers),
    "all-wrong": lambda answers: not any(each.correct for each in answers),
    "some-right": lambda answers: 0 < sum(bool(each.correct) for each in answers) < len(answers),
    "first-right": _first_against_the_others(True),
    "first-wrong": _first_against_the_others(False),
}
"""By name: which pictures are looked at. `first-right`: the first network is, and all the others are wrong."""

WITHOUT_TRUTH = ("all", "disagree")


def answers(
    networks: Sequence[Network],
    paths: Sequence[str],
    truths: Sequence[Mapping[str, int]],
    batch_size: int = 16,
    step: Callable[[int], object] = lambda done: None,
) -> Answers:
    """What each network says of each picture, by its own preprocessing.

    Args:
        networks: N of them, each with a preprocess and class scores (B, C).
        paths: of the pictures.
        truths: per network its number of the true class, by path, where it is known.
        batch_size: pictures per pass.
        step: told how many pictures a network has answered since.

    Returns:
        Answers by path; a picture that one network cannot read is a failure for all.

    Raises:
        InputError: a network without a preprocess.
        NotApplicableError: a network whose output is not (B, C).

    Example:
        >>> found = answers([first, second], paths, [{}, {}])
        >>> found.chosen("disagree")
    """
    said: list[dict[str, Answer]] = []
    failed: dict[str, Failure] = {}
    for network, truth in zip(networks, truths, strict=True):
        if network.preprocess is None:
            raise InputError(f"{network.name} came without a preprocess; pass preprocess=")
        own: dict[str, Answer] = {}
        for images in stream(paths, network.preprocess, batch_size):
            failed |= {each.path: each for each in images.failed}
            if len(images):
                for path, best in zip(images.paths, _best(network, images.pixels), strict=True):
                    own[path] = Answer(best, best.index == truth[path] if path in truth else None)
            step(images.asked)
        said.append(own)
    good = [path for path in dict.fromkeys(paths) if path not in failed]
    return Answers({path: tuple(own[path] for own in said) for path in good}, tuple(failed.values()))


def _best(network: Network, pixels: torch.Tensor) -> list[Predicted]:
    output = main_output(network(pixels.to(network.device))).float()
    if output.ndim != 2:
        raise NotApplicableError(
            f"{network.name} gives {tuple(output.shape)}, not scores of classes (B, C); what it says of a picture "
            "cannot be told"
        )
    return [best for (best,) in best_classes(network, output, 1)]
