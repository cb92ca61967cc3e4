"""Targets that read class scores (B, C): logits, probabilities, the best classes, contrasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from seewhy.errors import TargetError
from seewhy.network.network import Network, main_output
from seewhy.targets.base import Ask, BoundTarget, ClassLike, Target


@dataclass(frozen=True)
class _PerClass(Target):
    """Base of targets that read class scores."""

    def _scores(self, output: Tensor, network: Network) -> Tensor:
        """From the (B, C) output to the scores that are explained."""
        return output

    def _indices(self, output: Tensor, network: Network) -> Tensor:
        """The T class numbers of every picture (B, T)."""
        raise NotImplementedError

    def bind(self, outputs: Any, network: Network) -> BoundTarget:
        output = self._read(outputs)
        batch, columns = output.shape
        indices = self._indices(output.detach(), network).to(output.device)
        highest = 1 if columns == 1 else columns - 1
        if bool((indices > highest).any()) or bool((indices < 0).any()):
            wrong = sorted({int(i) for i in indices.flatten() if not 0 <= int(i) <= highest})
            raise TargetError(f"no class {wrong}; {network.name} has {columns} outputs, 0 to {columns - 1}")
        if columns == 1:
            # One logit says yes or no: "yes" is class 1, or the only class; "no" is its negative.
            signs = torch.where(indices == 1, 1.0, -1.0)
            names = yes_or_no(network)
            labels = tuple(tuple(names[int(i)] for i in row) for row in indices)
        else:
            signs = None
            labels = tuple(tuple(network.class_name(int(i)) for i in row) for row in indices)

        def asking(kind: _PerClass) -> Ask:
            def ask(outputs: Any, rows: Tensor) -> Tensor:
                output = kind._read(outputs)
                rows = rows.to(output.device)
                if signs is None:
                    return kind._scores(output, network).gather(1, indices[rows])
                return kind._single(output, signs[rows], network)

            return ask

        notes = _saturated(output, network, batch)
        kinds = (kind(0, output=self.output) for kind in (Probability, LogProbability))
        probability, logarithm = map(asking, kinds)
        return BoundTarget(
            asking(self),
            labels,
            torch.arange(batch),
            notes,
            probability=probability,
            log_probability=logarithm,
        )

    def _single(self, output: Tensor, signs: Tensor, network: Network) -> Tensor:
        """Scores of yes (+1) or no (-1) on a single column."""
        if network.output_kind(output.detach()) == "probabilities":
            return torch.where(signs > 0, output, 1 - output)
        return signs * output

    def _read(self, outputs: Any) -> Tensor:
        output = main_output(outputs, self.output)
        if output.dtype in (torch.float16, torch.bfloat16):
            output = output.float()
        if output.ndim == 1:
            output = output[:, None]
        if output.ndim != 2:
            raise TargetError(
                f"{type(self).__name__} needs class scores (B, C); the network returns "
                f"{tuple(output.shape)}. Pixels(class, mask) explains a dense output, a callable anything"
            )
        return output


@dataclass(frozen=True)
class Logit(_PerClass):
    """The score of a class before softmax: of one class for all pictures, or of one (or T) per picture.

    Args:
        classes: a number or name; a list of B of them, one per picture; or a B x T nested list.
    """

    classes: ClassLike | Sequence[ClassLike] | Sequence[Sequence[ClassLike]] | Tensor

    def pick(self, rows: Sequence[int], batch: int) -> Target:
        classes: Any = self.classes.tolist() if isinstance(self.classes, Tensor) else self.classes
        if isinstance(classes, ClassLike):
            return self
        if len(classes) != batch:
            raise TargetError(
                f"{len(classes)} targets for {batch} pictures; a list means one per picture, "
                "Classes([...]) means all of them for every picture"
            )
        return replace(self, classes=[classes[row] for row in rows])

    def _indices(self, output: Tensor, network: Network) -> Tensor:
        batch = len(output)
        classes: Any = self.pick(range(batch), batch).classes  # type: ignore[attr-defined]
        classes = classes.tolist() if isinstance(classes, Tensor) else classes
        if isinstance(classes, ClassLike):
            return torch.full((batch, 1), class_number(classes, network, output.shape[1]))
        nested = [[each] if isinstance(each, ClassLike) else list(each) for each in classes]
        if len({len(each) for each in nested}) != 1:
            raise TargetError("every picture needs the same number of targets")
        return torch.tensor(
            [[class_number(each, network, output.shape[1]) for each in row] for row in nested]
        )


@dataclass(frozen=True)
class Probability(Logit):
    """The probability of a class, after softmax or sigmoid. Its gradient vanishes where it is near 0 or 1."""

    def _scores(self, output: Tensor, network: Network) -> Tensor:
        return network.probabilities(output)

    def _single(self, output: Tensor, signs: Tensor, network: Network) -> Tensor:
        scores = super()._single(output, signs, network)
        return scores if network.output_kind(output.detach()) == "probabilities" else scores.sigmoid()


@dataclass(frozen=True)
class LogProbability(Probability):
    """The logarithm of a class's probability, which does not saturate where the probability is small."""

    def _scores(self, output: Tensor, network: Network) -> Tensor:
        kind = network.output_kind(output.detach())
        if kind == "probabilities":
            return output.clamp_min(1e-12).log()
        return torch.nn.functional.logsigmoid(output) if kind == "sigmoid" else output.log_softmax(1)

    def _single(self, output: Tensor, signs: Tensor, network: Network) -> Tensor:
        if network.output_kind(output.detach()) == "probabilities":
            return super()._single(output, signs, network).clamp_min(1e-12).log()
        return torch.nn.functional.logsigmoid(signs * output)


@dataclass(frozen=True)
class Top(_PerClass):
    """The k classes with the highest scores, for every picture its own.

    Args:
        k: how many.
    """

    k: int = 1

    def _indices(self, output: Tensor, network: Network) -> Tensor:
        if output.shape[1] == 1:
            threshold = 0.5 if network.output_kind(output) == "probabilities" else 0.0
            return (output > threshold).long()
        if not 1 <= self.k <= output.shape[1]:
            raise TargetError(f"Top({self.k}) of {output.shape[1]} classes")
        return output.topk(self.k, dim=1).indices


@dataclass(frozen=True)
class Predicted(Top):
    """What the network predicts: the best class, the best label, or yes or no by a single logit's sign."""


@dataclass(frozen=True)
class Classes(_PerClass):
    """The same T classes for every picture.

    Args:
        classes: numbers or names.
    """

    classes: Sequence[ClassLike]

    def _indices(self, output: Tensor, network: Network) -> Tensor:
        if not self.classes:
            raise TargetError("Classes needs at least one class")
        chosen = [class_number(each, network, output.shape[1]) for each in self.classes]
        return torch.tensor(chosen).expand(len(output), -1)


@dataclass(frozen=True)
class Contrast(_PerClass):
    """How much more one class than another: y_c - y_d (Grad-CAM, 2017, contrastive).

    Args:
        positive: the class that evidence speaks for.
        negative: the class that it speaks against.
    """

    positive: ClassLike
    negative: ClassLike

    def bind(self, outputs: Any, network: Network) -> BoundTarget:
        pair = Classes([self.positive, self.negative], output=self.output).bind(outputs, network)
        labels = tuple((f"{positive} rather than {negative}",) for positive, negative in pair.labels)

        def ask(outputs: Any, rows: Tensor) -> Tensor:
            positive, negative = pair.ask(outputs, rows).unbind(1)
            return (positive - negative)[:, None]

        return BoundTarget(ask, labels, pair.rows, pair.notes)


def class_number(label: ClassLike, network: Network, columns: int) -> int:
    """The number of a class given by number or name; the single column of a yes-or-no output counts as 1."""
    index = network.class_index(label) if isinstance(label, str) else int(label)
    if columns == 1 and index == 0 and not (network.classes and len(network.classes) == 2):
        return 1  # the only column: its logit itself
    return index


def yes_or_no(network: Network) -> list[str]:
    """What the negative and the positive side of a single logit are called."""
    names = [network.class_name(index) for index in range(len(network.classes or ()))]
    if len(names) == 2:
        return names
    return [f"not {names[0]}", names[0]] if len(names) == 1 else ["negative", "positive"]


def _saturated(output: Tensor, network: Network, batch: int) -> tuple[str, ...]:
    """A remark per picture where the network returns probabilities that leave no gradient."""
    if network.output_kind(output.detach()) != "probabilities":
        return ()
    flat = (output.detach() > 0.999).any(1) | (output.detach() < 0.001).all(1)
    return tuple(
        "the network returns a saturated probability; its gradient is near zero" if f else "" for f in flat
    )
