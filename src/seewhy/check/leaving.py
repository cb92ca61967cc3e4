"""Nothing is left behind: not after a call, an error or an interruption."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor

from seewhy.cancellation import cancellable
from seewhy.check.case import BrokenError, Case, UnclearError, mapped
from seewhy.check.leftovers import changed, disturbed, snapshot
from seewhy.errors import CancelledError
from seewhy.network.preserve import replaced_forwards

_AFTER_CANCELLING = 3  # forwards: the one that ran, and what a method does before its first chunk


def _leaves(what: str) -> Callable[[Case], None]:
    def check(case: Case) -> None:
        _none_of(case.left & {what, "modes of torch"})

    return check


def _cancelled(case: Case) -> None:
    module, begun = case.network.module, 0

    def run(original: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal begun
        begun += 1
        return original(*args, **kwargs)

    with disturbed(module):
        before = snapshot(module)
        with replaced_forwards({module: run}), cancellable(lambda: begun > 0):
            try:
                case.of(range(case.batch), chunk=1)
            except CancelledError:
                pass
            else:
                raise BrokenError("it went on to the end")
        if begun > _AFTER_CANCELLING:
            raise BrokenError(f"it ran the network {begun} times after it was cancelled")
        _none_of(changed(before, snapshot(module)))


def _put_back_after(error: type[BaseException], last: bool) -> Callable[[Case], None]:
    """Fail in the middle of the network, when it is first run or when it is last run."""

    def check(case: Case) -> None:
        module = case.network.module
        names = [layer.name for layer in case.network.layers(case.images)]
        modules = dict(module.named_modules())
        leaves = [name for name in names if name in modules and not list(modules[name].children())]
        if not leaves:
            raise UnclearError("no module to fail in")
        where, runs, failing = modules[leaves[len(leaves) // 2]], 0, 0

        def run(original: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal runs
            runs += 1
            if runs == failing:
                raise error("half-way")
            return original(*args, **kwargs)

        with disturbed(module):
            before = snapshot(module)
            with replaced_forwards({where: run}):
                case.again()
                runs, failing = 0, runs if last else 1
                try:
                    case.again()
                except error:
                    pass
                else:
                    raise BrokenError(f"the network's own {error.__name__} did not come through")
            _none_of(changed(before, snapshot(module)))

    return check


def _pictures(case: Case) -> None:
    kept: list[tuple[Tensor, Tensor]] = []

    def keep(each: Tensor) -> Tensor:
        kept.append((each, each.clone()))
        return each

    case.again(mapped(case.images, keep))
    if not all(torch.equal(now, before) for now, before in kept):
        raise BrokenError("the pictures were written to")


def _none_of(changes: Collection[str]) -> None:
    if changes:
        raise BrokenError(f"changed: {', '.join(sorted(changes))}")


CHECKS = {
    "parameters and buffers are as they were": _leaves("state"),
    "gradients and their flags are as they were": _leaves("gradients"),
    "training modes are as they were": _leaves("modes"),
    "hooks and attributes are as they were": _leaves("attributes"),
    "memory layouts are as they were": _leaves("strides"),
    "random states are as they were": _leaves("random states"),
    "the pictures are as they were": _pictures,
    "everything is put back when the network raises": _put_back_after(RuntimeError, last=True),
    "everything is put back when it is interrupted": _put_back_after(KeyboardInterrupt, last=False),
    "a cancelled call stops, and everything is put back": _cancelled,
}
