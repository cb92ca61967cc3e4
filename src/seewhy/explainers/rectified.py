"""What guided backprop and deconvolution share: another backward rule at every ReLU."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from seewhy.errors import NotApplicableError
from seewhy.explainers.base import Computed
from seewhy.explainers.pixels import PixelMethod
from seewhy.explainers.study import Saliency, Study
from seewhy.network.operations import Computation, Operation

WARNING = "much of this map stays when the weights are randomised (Adebayo et al., NeurIPS 2018): do not trust it alone"


class RectifiedGradient(PixelMethod):
    """The gradient at the pixels with another rule at every ReLU, whatever module or function it is."""

    needs: ClassVar[str] = "ReLUs"

    @abstractmethod
    def rectify(self, computation: Computation) -> Tensor:
        """The ReLU's result, with the rule for its gradient."""

    def compute(self, study: Study) -> Computed:
        found, warnings = self.differentiate(study)
        return self.computed(study, dict(found.gradients), found.cost, warnings)

    def differentiate(self, study: Study) -> tuple[Saliency, tuple[str, ...]]:
        """The gradient under the rule, and what to know of it.

        Raises:
            NotApplicableError: the network has no ReLU.
        """
        rectified, others = 0, list[str]()

        def rule(computation: Computation) -> Any:
            nonlocal rectified
            if computation.rectifies:
                rectified += 1
                return self.rectify(computation)
            others.append(getattr(computation.function, "__name__", "an activation"))
            return computation.run()

        rules = {Operation.RELU: rule, Operation.ACTIVATION: rule}
        found = study.differentiated(study.arguments, None, rules)
        if not rectified:
            named = f"; its activations are {', '.join(dict.fromkeys(others))}" if others else ""
            raise NotApplicableError(
                f"{self.title} changes the gradient of ReLUs, and {study.network.name} has none{named}. "
                "gradient, input-x-gradient and integrated-gradients need none"
            )
        plain = f"beside ReLUs the network has {', '.join(dict.fromkeys(others))}, with its own gradient here"
        return found, (WARNING, plain) if others else (WARNING,)


def rectify_gradient(tensor: Tensor) -> Tensor:
    """The same tensor, which passes only positive gradients back."""
    if tensor.requires_grad:
        tensor.register_hook(lambda gradient: gradient.clamp_min(0))  # type: ignore[no-untyped-call]
    return tensor


def passed_through(computation: Computation) -> Tensor:
    """The ReLU's result, whose gradient is that of the identity."""
    named = dict(computation.kwargs)
    first, *others = computation.args or (named.pop("input"),)
    with torch.no_grad():
        change = computation.function(first.clone(), *others, **named) - first
    result: Tensor = first.add_(change) if computation.in_place else first + change
    return result
