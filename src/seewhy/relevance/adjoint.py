"""The adjoint of a convolution under other weights than it ran with, without running it again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def convolution(output: Tensor) -> Any:
    """The node of the graph that holds how a convolution ran, its strides and paddings; None of anything else."""
    node = output.grad_fn
    return node if node is not None and node.name() == "ConvolutionBackward0" else None


def adjoint(node: Any, source: Tensor, weight: Tensor, cotangent: Tensor) -> Tensor:
    """What these weights send back to the input (B, C, …) of a convolution that ran under others.

    Args:
        node: of the convolution that ran, from `convolution`.
        source: its input.
        weight: shaped as those it ran with.
        cotangent: of its output.
    """
    found: Tensor = torch.ops.aten.convolution_backward(
        cotangent,
        source,
        weight,
        None,
        node._saved_stride,
        node._saved_padding,
        node._saved_dilation,
        node._saved_transposed,
        node._saved_output_padding,
        node._saved_groups,
        [True, False, False],
    )[0]
    return found
