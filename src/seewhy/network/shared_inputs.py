"""Does a tensor as long as the batch hold an entry for each picture, or serve all of them whole? It is tried out."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from seewhy.network.inputs import Arguments
from seewhy.network.network import Network, main_output
from seewhy.network.precision import out_of_memory
from seewhy.network.surveys import remember, remembered

_Keys = frozenset[int | str]
_TOLERANCE = 1e-3  # what another batch size makes of float32


def shared_inputs(network: Network, arguments: Arguments) -> _Keys:
    """Which of the ambiguous tensors of a call serve every picture: all of them, or none. Call it inside `preserved`.

    A copy of the first picture among others must get the first picture's answer. Found once per kind of input and
    weights.
    """
    key = ("shared", arguments.signature, arguments.ambiguous, network.digest)
    known: _Keys | None = remembered(network, key)
    if known is not None:
        return known
    with torch.no_grad():
        expected = _answers(network, arguments)
        if expected is None:
            return frozenset()  # what is wrong is said where the pictures themselves are run
        none, every = _Keys(), arguments.ambiguous
        alone = _fits(network, arguments, none, expected)
        found = every if not alone and _fits(network, arguments, every, expected) else none
    remember(network, key, found)
    return found


def _fits(network: Network, arguments: Arguments, shared: _Keys, expected: Tensor) -> bool:
    """Whether copies of the first picture get its answer, where these tensors serve all."""
    copies = torch.zeros(3 if arguments.batch == 2 else 2, dtype=torch.long, device=network.device)
    found = _answers(network, replace(arguments, shared=shared).select(copies))
    wanted = expected[:1].expand(len(copies), *expected.shape[1:])
    if found is None or found.shape != wanted.shape:
        return False
    return float((found - wanted).abs().max()) <= _TOLERANCE * float(wanted.abs().max()) + 1e-12


def _answers(network: Network, arguments: Arguments) -> Tensor | None:
    try:
        return main_output(arguments.call(network.module))
    except Exception as error:  # whatever the network's own code makes of another number of pictures
        if out_of_memory(error):
            raise
        return None
