"""The contract that every method passes, built in or brought by others, checked by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from seewhy.check import leaving, repeating, settings, values
from seewhy.check.case import BrokenError, Case, DiffersError, UnclearError
from seewhy.check.toys import blobs, toys
from seewhy.errors import InputError, NotApplicableError
from seewhy.explainers.base import Explainer
from seewhy.network.network import Network
from seewhy.network.precision import exact_type
from seewhy.targets import TargetLike

CHECKS: dict[str, Callable[[Case], None]] = {
    **repeating.CHECKS,
    **leaving.CHECKS,
    **values.CHECKS,
    **settings.CHECKS,
}

Status = Literal["passed", "failed", "inconclusive"]


@dataclass(frozen=True)
class Check:
    """One promise and whether it was kept.

    Attributes:
        name: the promise.
        network: on which network.
        status: `inconclusive` where the network or the method leaves nothing to check.
        detail: what was seen.
    """

    name: str
    network: str
    status: Status
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.status:12} {self.network}: {self.name}" + (f" ({self.detail})" if self.detail else "")


@dataclass(frozen=True)
class Contract:
    """The outcome of `check_explainer`.

    Attributes:
        checks: all of them, in order.
    """

    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The promises that were broken."""
        return tuple(check for check in self.checks if check.status == "failed")

    @property
    def passed(self) -> bool:
        """Whether none failed and at least one passed."""
        return not self.failed and any(check.status == "passed" for check in self.checks)

    def __str__(self) -> str:
        counts = [
            f"{sum(c.status == s for c in self.checks)} {s}" for s in ("passed", "failed", "inconclusive")
        ]
        return "\n".join([*(str(check) for check in self.checks), ", ".join(counts)])


def check_explainer(
    explainer: Explainer,
    network: Network | nn.Module | None = None,
    images: Any = None,
    target: TargetLike = None,
) -> Contract:
    """Check what every method promises: nothing left behind, a batch equals its pictures, honest cost …

    Args:
        explainer: the method, with its settings.
        network: on which network; small ones with known traps by default.
        images: at least three pictures for it (B, C, H, W), or several inputs; noise by default.
        target: what is explained; the predicted class by default.

    Returns:
        The checks by name, each passed, failed or inconclusive. `print` shows a table.

    Example:
        >>> from seewhy import GradCAM
        >>> check_explainer(GradCAM()).passed
        True
    """
    if network is None:
        each = [check_explainer(explainer, toy, inputs, target) for toy, inputs in toys()]
        return Contract(tuple(check for contract in each for check in contract.checks))
    network = Network.of(network)
    if images is None:
        images = blobs(3, *network.example_input().shape[1:])
    if getattr(explainer, "precision", "float32") == "auto":
        # Exact promises are kept in float32; what bfloat16 changes is a check of its own.
        explainer = explainer.model_copy(update={"precision": "float32"})
    case = Case(explainer, network, images, target)
    try:
        case.result  # noqa: B018 - computed here so that a refusal is told from a broken promise
    except (NotApplicableError, InputError) as error:
        return Contract((Check("the method applies", network.name, "inconclusive", str(error)),))
    return Contract(tuple(_checked(name, check, case) for name, check in CHECKS.items()))


def _checked(name: str, check: Callable[[Case], None], case: Case) -> Check:
    try:
        check(case)
    except DiffersError as error:
        return _by_rounding(name, check, case, error)
    except BrokenError as error:
        return Check(name, case.network.name, "failed", str(error))
    except UnclearError as error:
        return Check(name, case.network.name, "inconclusive", str(error))
    except Exception as error:
        return Check(name, case.network.name, "failed", f"{type(error).__name__}: {error}")
    return Check(name, case.network.name, "passed")


def _by_rounding(name: str, check: Callable[[Case], None], case: Case, error: DiffersError) -> Check:
    """What float32 does not quite keep, once more in float64: where it is kept there, no method broke it."""
    broken = Check(name, case.network.name, "failed", str(error))
    if case.network.dtype == torch.float64 or exact_type(case.network.device) != torch.float64:
        return broken
    repeated = _checked(name, check, case.in_float64)
    if repeated.status == "failed":
        return broken
    why = f"in float64 {repeated.detail}" if repeated.detail else "but not in float64: rounding decides it"
    return Check(name, case.network.name, "inconclusive", f"{error}, {why}")
