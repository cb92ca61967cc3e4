"""The adjoints of convolutions: under other weights than one ran with, or of several as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_FEW = 8
"""Channels up to which twice as many take hardly longer, as libraries pad them to blocks of 16."""


def convolution(output: Tensor, source: Tensor) -> Any:
    """The node of the graph that holds how a convolution of this input ran, its strides and paddings; else None."""
    node: Any = output.grad_fn
    if node is None or node.name() != "ConvolutionBackward0":
        return None
    # What was padded before it ran is another input.
    return node if node._saved_input.shape == source.shape else None


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


def adjoints(nodes: Sequence[Any], cotangent: Tensor) -> tuple[Tensor, ...]:
    """What convolutions of inputs with few channels send back, as one with all channels side by side; () of others.

    Args:
        nodes: of convolutions whose outputs were added up, alike but for their weights.
        cotangent: of the sum.
    """
    if len(nodes) < 2 or not all(nodes):
        return ()
    if nodes[0]._saved_groups != 1 or nodes[0]._saved_transposed:
        return ()
    batch, channels, *size = nodes[0]._saved_input.shape
    if channels > _FEW:
        return ()
    weight = torch.cat([node._saved_weight.detach() for node in nodes], 1)
    source = cotangent.new_empty((batch, channels * len(nodes), *size))  # only its shape counts
    return adjoint(nodes[0], source, weight, cotangent).chunk(len(nodes), 1)
