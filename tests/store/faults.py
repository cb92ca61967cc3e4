"""Make the k-th call to the operating system go wrong."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

CALLS = (
    "open", "read", "write", "fsync", "close", "link", "unlink", "mkdir", "stat", "listdir", "scandir",
)  # fmt: skip
Strike = Callable[[str, Callable[..., Any], tuple[Any, ...]], Any]


@contextmanager
def struck(at: int, strike: Strike, lasting: bool = False) -> Iterator[list[str]]:
    """Call `strike(name, function, arguments)` in place of call number `at`, counted from 0, and if it is
    lasting in place of all later ones; the list that is given fills with the names of the calls made."""
    made: list[str] = []
    real = {name: getattr(os, name) for name in CALLS}

    def stand_in(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            made.append(name)
            if at == len(made) - 1 or (lasting and at < len(made)):
                return strike(name, lambda *given: real[name](*given, **options), arguments)
            return real[name](*arguments, **options)

        return call

    for name in CALLS:
        setattr(os, name, stand_in(name))
    try:
        yield made
    finally:
        for name in CALLS:
            setattr(os, name, real[name])


def failing(code: int, after: bool = False) -> Strike:
    """An error: of a write half of the bytes are written, and a descriptor is closed nevertheless; `after` the
    call has done its work, as over a network whose answer was lost."""

    def strike(name: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if name == "write":
            descriptor, data = arguments
            function(descriptor, data[: len(data) // 2])
        elif name == "close":
            function(*arguments)
        elif after and name == "open":
            os.close(function(*arguments))
        elif after and name != "stat":
            function(*arguments)
        raise OSError(code, os.strerror(code))

    return strike


def full(name: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """A full disk: nothing new fits, all else works."""
    if name in ("write", "mkdir", "link", "fsync"):
        return failing(28)(name, function, arguments)
    return function(*arguments)
