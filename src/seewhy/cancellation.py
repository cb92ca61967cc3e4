"""Stopping a long explanation from outside: between two forwards, with everything put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from seewhy.errors import CancelledError

_asked: ContextVar[Callable[[], bool] | None] = ContextVar("asked", default=None)


@contextmanager
def cancellable(asked: Callable[[], bool]) -> Iterator[None]:
    """Within this context explanations end with `CancelledError` soon after `asked()` turns true.

    It is asked before every chunk of forwards, in the thread that entered the context; what it reads may be set by
    another, as a `threading.Event` is. Contexts within one another all count.

    Args:
        asked: whether to stop, cheap to call: `event.is_set`.

    Example:
        >>> import torch, seewhy
        >>> network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
        >>> with cancellable(lambda: True):
        ...     seewhy.RISE()(network, torch.rand(1, 3, 8, 8), lambda maps: maps.sum((1, 2, 3)))
        Traceback (most recent call last):
            ...
        seewhy.errors.CancelledError: cancelled
    """
    outer = _asked.get()
    token = _asked.set(asked if outer is None else lambda: asked() or outer())
    try:
        yield
    finally:
        _asked.reset(token)


def stop_if_asked() -> None:
    """Raise `CancelledError` where this was asked for."""
    asked = _asked.get()
    if asked is not None and asked():
        raise CancelledError("cancelled")
