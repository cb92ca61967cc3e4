"""What about the output is explained: a class, a probability, a similarity, a region, any scalar.

A target is a small frozen description. `bind` looks at the outputs of the clean pass and freezes what is
asked (which class of which picture), so that masked or noisy inputs are later asked the same question.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.errors import TargetError
from seewhy.network.network import Network, main_output

ClassLike = int | str
Ask = Callable[[Any, Tensor], Tensor]
"""From outputs and the picture number of each of their rows to scores (rows, T)."""


@dataclass(frozen=True)
class BoundTarget:
    """A question about given pictures: call it on outputs to get scores (B, T).

    Attributes:
        ask: computes the scores of outputs whose rows belong to the given pictures.
        labels: per picture the T names of what is explained.
        rows: the picture that each row of the outputs belongs to.
        notes: per picture, remarks about the question.
        cacheable: whether the question can be written down; plain callables cannot.
    """

    ask: Ask
    labels: tuple[tuple[str, ...], ...]
    rows: Tensor
    notes: tuple[str, ...] = ()
    cacheable: bool = True

    def __call__(self, outputs: Any) -> Float[Tensor, "B T"]:
        """The scores, float32."""
        scores = self.ask(outputs, self.rows)
        if scores.ndim == 1:
            scores = scores[:, None]
        if scores.ndim != 2 or len(scores) != len(self.rows):
            raise TargetError(
                f"the target gives shape {tuple(scores.shape)} for {len(self.rows)} pictures; "
                "it must be (B,) or (B, T)"
            )
        return scores.float()

    def select(self, rows: Tensor) -> BoundTarget:
        """The same question for outputs whose rows belong to these pictures, in this order."""
        return BoundTarget(
            self.ask, self.labels, self.rows[rows.to(self.rows.device)], self.notes, self.cacheable
        )


@dataclass(frozen=True)
class Target:
    """Base of all targets.

    Attributes:
        output: which of the network's outputs: a key, an attribute, a position among its tensors;
            `logits`, or the first float tensor, by default.
    """

    output: str | int | None = field(default=None, kw_only=True)

    def bind(self, outputs: Any, network: Network) -> BoundTarget:
        """Freeze what is asked of these pictures.

        Raises:
            TargetError: the outputs cannot answer.
        """
        raise NotImplementedError

    def pick(self, rows: Sequence[int], batch: int) -> Target:
        """The same target for some of the pictures; differs where every picture has its own.

        Raises:
            TargetError: there are not as many targets as pictures.
        """
        return self

    def survey(self, outputs: Any) -> tuple[Tensor, int | None]:
        """A scalar that depends on what this target can depend on, and how many classes it chooses from."""
        output = main_output(outputs, self.output).float()
        if output.ndim == 2:
            return output.amax(1).sum(), output.shape[1]
        if output.ndim == 4:
            strongest = output.sum((0, 2, 3)).argmax()
            return output[:, strongest].sum(), output.shape[1]
        return (output.amax(-1) if output.ndim > 2 else output).sum(), None

    @property
    def key(self) -> tuple[Hashable, ...]:
        """What a survey of the network for this target depends on."""
        return (type(self).__name__, self.output)


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
            names = _yes_or_no(network)
            labels = tuple(tuple(names[int(i)] for i in row) for row in indices)
        else:
            signs = None
            labels = tuple(tuple(network.class_name(int(i)) for i in row) for row in indices)

        def ask(outputs: Any, rows: Tensor) -> Tensor:
            output = self._read(outputs)
            rows = rows.to(output.device)
            if signs is None:
                return self._scores(output, network).gather(1, indices[rows])
            return self._single(output, signs[rows], network)

        return BoundTarget(ask, labels, torch.arange(batch), _saturated(output, network, batch))

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
            return torch.full((batch, 1), _index(classes, network, output.shape[1]))
        nested = [[each] if isinstance(each, ClassLike) else list(each) for each in classes]
        if len({len(each) for each in nested}) != 1:
            raise TargetError("every picture needs the same number of targets")
        return torch.tensor([[_index(each, network, output.shape[1]) for each in row] for row in nested])


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
        chosen = [_index(each, network, output.shape[1]) for each in self.classes]
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


@dataclass(frozen=True)
class _Embedding(Target):
    """Base of targets that read an embedding (B, D)."""

    def _read(self, outputs: Any) -> Tensor:
        output = main_output(outputs, self.output)
        if output.ndim < 2:
            raise TargetError(f"{type(self).__name__} needs an embedding (B, D), not {tuple(output.shape)}")
        return output.flatten(1)

    def survey(self, outputs: Any) -> tuple[Tensor, int | None]:
        output = self._read(outputs).float()
        direction = torch.randn(output.shape[1], generator=torch.Generator().manual_seed(0))
        return (output @ direction.to(output.device)).sum(), None


@dataclass(frozen=True, eq=False)
class Direction(_Embedding):
    """The embedding along a direction, <v, e>.

    Args:
        vector: (D,) for all pictures, or (B, D).
    """

    vector: Tensor

    def pick(self, rows: Sequence[int], batch: int) -> Target:
        return replace(self, vector=_rows(self.vector, 2, rows, batch))

    def bind(self, outputs: Any, network: Network) -> BoundTarget:
        output = self._read(outputs)
        vectors = _per_picture(self.vector, output, "a direction")

        def ask(outputs: Any, rows: Tensor) -> Tensor:
            return (self._read(outputs) * vectors[rows.to(vectors.device)]).sum(1, keepdim=True)

        return BoundTarget(ask, (("direction",),) * len(output), torch.arange(len(output)))


@dataclass(frozen=True, eq=False)
class Similarity(_Embedding):
    """The cosine similarity of the embedding to a reference, as Grad-CAM for embedding networks uses it.

    Args:
        reference: (D,) for all pictures, or (B, D).
        normalize: cosine (True) or plain inner product.
    """

    reference: Tensor
    normalize: bool = True

    def pick(self, rows: Sequence[int], batch: int) -> Target:
        return replace(self, reference=_rows(self.reference, 2, rows, batch))

    def bind(self, outputs: Any, network: Network) -> BoundTarget:
        output = self._read(outputs)
        references = _per_picture(self.reference, output, "a reference")

        def ask(outputs: Any, rows: Tensor) -> Tensor:
            embedding, reference = self._read(outputs), references[rows.to(references.device)]
            if self.normalize:
                return torch.cosine_similarity(embedding, reference, dim=1)[:, None]
            return (embedding * reference).sum(1, keepdim=True)

        return BoundTarget(ask, (("similarity",),) * len(output), torch.arange(len(output)))


@dataclass(frozen=True)
class Regression(Target):
    """One number of the output, as it is.

    Args:
        index: the column; outputs of shape (B,) have column 0.
    """

    index: int = 0

    def _read(self, outputs: Any) -> Tensor:
        output = main_output(outputs, self.output)
        output = output[:, None] if output.ndim == 1 else output.flatten(1)
        if not 0 <= self.index < output.shape[1]:
            raise TargetError(f"Regression({self.index}): the network returns {output.shape[1]} numbers")
        return output

    def bind(self, outputs: Any, network: Network) -> BoundTarget:
        def ask(outputs: Any, rows: Tensor) -> Tensor:
            return self._read(outputs)[:, self.index, None]

        batch = len(self._read(outputs))
        label = network.class_name(self.index) if network.classes else f"output {self.index}"
        return BoundTarget(ask, ((label,),) * batch, torch.arange(batch))

    def survey(self, outputs: Any) -> tuple[Tensor, int | None]:
        output = self._read(outputs).float()
        return output[:, self.index].sum(), output.shape[1]

    @property
    def key(self) -> tuple[Hashable, ...]:
        return (*super().key, self.index)


@dataclass(frozen=True, eq=False)
class Pixels(Target):
    """A class summed over a region of a dense output (B, C, H, W), as segmentation networks give.

    Args:
        label: the class.
        mask: (H, W) or (B, H, W), true where it counts, at the output's size; everywhere by default.
    """

    label: ClassLike
    mask: Tensor | None = None

    def pick(self, rows: Sequence[int], batch: int) -> Target:
        if self.mask is None:
            return self
        return replace(self, mask=_rows(self.mask, 3, rows, batch))

    def bind(self, outputs: Any, network: Network) -> BoundTarget:
        output = main_output(outputs, self.output)
        if output.ndim != 4:
            raise TargetError(f"Pixels needs a dense output (B, C, H, W), not {tuple(output.shape)}")
        channel = _index(self.label, network, output.shape[1])
        mask = torch.ones(output.shape[-2:]) if self.mask is None else self.mask
        if mask.shape[-2:] != output.shape[-2:]:
            raise TargetError(f"the mask is {tuple(mask.shape)}, the output {tuple(output.shape[-2:])}")
        masks = mask.to(output.device, output.dtype).expand(len(output), *output.shape[-2:])

        def ask(outputs: Any, rows: Tensor) -> Tensor:
            dense = main_output(outputs, self.output)[:, channel]
            return (dense * masks[rows.to(masks.device)]).sum((1, 2))[:, None]

        labels = ((network.class_name(channel),),) * len(output)
        return BoundTarget(ask, labels, torch.arange(len(output)))


@dataclass(frozen=True)
class Function(Target):
    """Any scalar: a function from the outputs to (B,) or (B, T). It cannot be written down or cached.

    Args:
        function: the function.
    """

    function: Callable[[Any], Tensor]

    def bind(self, outputs: Any, network: Network) -> BoundTarget:
        scores = self.function(outputs)
        if not isinstance(scores, Tensor) or scores.ndim not in (1, 2):
            raise TargetError("a target function must return a tensor of shape (B,) or (B, T)")
        count = 1 if scores.ndim == 1 else scores.shape[1]
        name = getattr(self.function, "__name__", "function")
        labels = tuple(f"{name} {t}" if count > 1 else name for t in range(count))
        return BoundTarget(
            lambda outputs, rows: self.function(outputs),
            (labels,) * len(scores),
            torch.arange(len(scores)),
            cacheable=False,
        )

    def survey(self, outputs: Any) -> tuple[Tensor, int | None]:
        try:
            return self.function(outputs).float().sum(), None
        except (IndexError, RuntimeError):
            # Written for as many pictures as will be explained; a survey has one.
            return super().survey(outputs)

    @property
    def key(self) -> tuple[Hashable, ...]:
        code = getattr(self.function, "__code__", None)
        if code is None:
            return ("Function", _known(self.function))
        cells = [_content(cell) for cell in self.function.__closure__ or ()]
        defaults = self.function.__defaults__ or ()
        owner = getattr(self.function, "__self__", None)
        return ("Function", code, *(_known(each) for each in (*cells, *defaults, owner)))


TargetLike = (
    Target
    | ClassLike
    | Sequence[Any]
    | Tensor
    | np.integer[Any]
    | np.ndarray
    | Callable[[Any], Tensor]
    | None
)


def as_target(target: TargetLike) -> Target:
    """What is accepted everywhere: None (the prediction), a class, a list of them, a Target, a callable.

    Raises:
        TargetError: anything else.
    """
    if target is None:
        return Predicted()
    if isinstance(target, np.integer | np.ndarray):
        target = torch.as_tensor(target)
    if isinstance(target, Target):
        return target
    if isinstance(target, Tensor) and target.is_floating_point():
        raise TargetError("a target tensor holds class numbers; use Direction or Similarity for vectors")
    if isinstance(target, Tensor) and target.ndim == 0:
        return Logit(int(target))
    if isinstance(target, ClassLike | Sequence | Tensor) and not isinstance(target, bool):
        return Logit(target)
    if callable(target):
        return Function(target)
    raise TargetError(
        f"cannot explain {target!r}: a class number or name, a list of them, a Target or a callable"
    )


def parse_target(text: str, network: Network) -> Target:
    """A target as written on a command line: `243`, `boxer`, `top3`, `predicted`, `tabby-boxer`.

    Raises:
        TargetError: the text means nothing to this network.
    """
    if text == "predicted":
        return Predicted()
    if text.startswith("top") and text[3:].isdecimal():
        return Top(int(text[3:]))
    if text.isdecimal():
        return Logit(int(text))
    try:
        return Logit(network.class_index(text))
    except TargetError as error:
        whole = error
    for place in (place for place, letter in enumerate(text) if letter == "-"):
        try:
            first, second = (_parse_class(part, network) for part in (text[:place], text[place + 1 :]))
        except TargetError:
            continue
        return Contrast(first, second)
    raise whole


def _parse_class(text: str, network: Network) -> int:
    return int(text) if text.isdecimal() else network.class_index(text)


def _index(label: ClassLike, network: Network, columns: int) -> int:
    index = network.class_index(label) if isinstance(label, str) else int(label)
    if columns == 1 and index == 0 and not (network.classes and len(network.classes) == 2):
        return 1  # the only column: its logit itself
    return index


def _yes_or_no(network: Network) -> list[str]:
    """What the negative and the positive side of a single logit are called."""
    names = [network.class_name(index) for index in range(len(network.classes or ()))]
    if len(names) == 2:
        return names
    return [f"not {names[0]}", names[0]] if len(names) == 1 else ["negative", "positive"]


def _content(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that has no value yet
        return None


def _known(value: object) -> Hashable:
    """Equal for the same value as long as it lives, without keeping it alive."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    try:
        reference = weakref.ref(value)
        hash(reference)  # while it lives; remembered by the reference
        return reference
    except TypeError:
        return object()  # not to be told again: equal to nothing


def _rows(tensor: Tensor, dimensions: int, rows: Sequence[int], batch: int) -> Tensor:
    """Some rows of a tensor that has one per picture; the whole of one that serves all pictures."""
    if tensor.ndim < dimensions or len(tensor) == 1:
        return tensor
    if len(tensor) != batch:
        raise TargetError(f"a target of shape {tuple(tensor.shape)} for {batch} pictures")
    return tensor[list(rows)]


def _per_picture(vector: Tensor, output: Tensor, what: str) -> Tensor:
    """A (D,) or (B, D) vector as (B, D)."""
    batch, width = output.shape
    vector = vector.detach().to(output.device, output.dtype)
    if vector.shape not in ((width,), (batch, width), (1, width)):
        raise TargetError(f"{what} of shape {tuple(vector.shape)} for embeddings {(batch, width)}")
    return vector.expand(batch, width)


def _saturated(output: Tensor, network: Network, batch: int) -> tuple[str, ...]:
    """A remark per picture where the network returns probabilities that leave no gradient."""
    if network.output_kind(output.detach()) != "probabilities":
        return ()
    flat = (output.detach() > 0.999).any(1) | (output.detach() < 0.001).all(1)
    return tuple(
        "the network returns a saturated probability; its gradient is near zero" if f else "" for f in flat
    )
