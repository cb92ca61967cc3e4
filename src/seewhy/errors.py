"""What can go wrong, in a few kinds. Every message names what the user gave and says what would work."""

from __future__ import annotations


class SeewhyError(Exception):
    """Base of every error that seewhy raises on purpose."""


class InputError(SeewhyError, ValueError):
    """Pictures, tensors or settings that cannot be used as given."""


class LoadError(SeewhyError):
    """A network, a weights file or a card that cannot be loaded."""


class LayerError(SeewhyError, ValueError):
    """A layer that does not exist, or has no feature map that could be explained."""


class TargetError(SeewhyError, ValueError):
    """A question that the network's outputs cannot answer.

    Attributes:
        place: of which of the pictures they cannot, where it is one.
    """

    place: int | None = None


class NotApplicableError(SeewhyError):
    """A method that is not defined for this network; the message says why and what is.

    Attributes:
        place: which of the methods asked for together it was, where several were.
    """

    place: int | None = None


class NotFiniteError(InputError):
    """A map that holds NaN or infinity: of a broken network, or of a broken method."""


class CancelledError(SeewhyError):
    """An explanation that was stopped from outside."""


class StoreError(SeewhyError):
    """Kept results that cannot be read or written as they are; the message names the file."""


class UsageError(SeewhyError):
    """A command line that asks for something that does not exist."""


class MissingExtraError(SeewhyError, ImportError):
    """An optional package that is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; `pip install 'seewhy[{extra}]'` brings it")
