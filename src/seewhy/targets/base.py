"""What every target is: a frozen description, and what it becomes when it is bound to given pictures."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

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
        probability: asks for the probability of the same classes, where it is classes that are asked about.
        log_probability: asks for its logarithm.
    """

    ask: Ask
    labels: tuple[tuple[str, ...], ...]
    rows: Tensor
    notes: tuple[str, ...] = ()
    cacheable: bool = True
    probability: Ask | None = None
    log_probability: Ask | None = None

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
        return replace(self, rows=self.rows[rows.to(self.rows.device)])

    def as_probability(self) -> BoundTarget:
        """The probability of the same classes; the question itself where it is not about classes."""
        return replace(self, ask=self.probability) if self.probability else self

    def as_log_probability(self) -> BoundTarget:
        """The logarithm of the same classes' probability; the question itself where it is not about classes."""
        return replace(self, ask=self.log_probability) if self.log_probability else self


@dataclass(frozen=True)
class Target:
    """Base of all targets.

    Attributes:
        output: which of the network's outputs: a key, an attribute, a position among its tensors;
            `logits`, or the first float tensor, by default.
        names_classes: whether the outputs it reads are class scores, rather than an embedding or measured quantities.
    """

    names_classes: ClassVar[bool] = True

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
        """What a survey of the network for this target, and the shape of its score, depend on."""
        return (type(self).__name__, self.output)
