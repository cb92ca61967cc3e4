"""Changed weights, kept across batches as long as the network lives and its weights stay the same."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

_Entries = dict[Hashable, tuple[tuple[Tensor, ...], Tensor]]
_kept: WeakKeyDictionary[nn.Module, tuple[str, _Entries]] = WeakKeyDictionary()


class KeptWeights:
    """The changed weights of one network.

    Args:
        module: the network.
        digest: of its weights; with another digest everything is made anew.
    """

    def __init__(self, module: nn.Module, digest: str) -> None:
        found = _kept.get(module)
        if found is None or found[0] != digest:
            found = _kept[module] = (digest, {})
        self._entries = found[1]
        self._owned = {id(each) for each in (*module.parameters(), *module.buffers())}

    def get(self, sources: tuple[Tensor, ...], change: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """What `make` gives from these tensors; kept where all belong to the network, which keeps their ids."""
        if not sources or not all(id(each) in self._owned for each in sources):
            return make()
        key = (*(id(each) for each in sources), change)
        entry = self._entries.get(key)
        if entry is None:
            with torch.no_grad():
                entry = self._entries[key] = (sources, make())
        return entry[1]
