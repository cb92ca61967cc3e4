"""Options that several commands share: which network, and where it runs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from cyclopts import Parameter

from seewhy import __version__
from seewhy.errors import SeewhyError, UsageError

if TYPE_CHECKING:
    from seewhy.datasets import Manifest
    from seewhy.network.network import Network


T = TypeVar("T")
OWN = "own"
"""Stands for what a network has by itself, where another network is given something."""


@Parameter(name="*")
@dataclass(frozen=True)
class Model:
    """The network."""

    model: Annotated[str, Parameter(name=["--model", "-m"])]
    """Network: timm:NAME, torchvision:NAME, hf:ORG/REPO, py:package.module:factory, file:net.safetensors or demo."""
    weights: str | None = None
    """"random", or a .safetensors or .pth file; the source's own pretrained weights by default."""
    classes: Path | None = None
    """Class names: a text file with one per line, or JSON."""
    preprocess: Path | None = None
    """JSON card with mean, std, input_size, crop_pct, interpolation; a card named like the weights is found."""
    offline: bool = False
    """Never touch a network: only files and local caches."""
    device: str | None = None
    """Where to run: cpu, cuda, mps; the fastest there is by default."""

    @classmethod
    def each(cls, several: Models) -> list[Model]:
        """One per network; what was given once is for all of them.

        Raises:
            UsageError: an option is given neither once nor as often as there are networks.
        """
        count = len(several.model)

        def own(option: str, given: Sequence[T] | None) -> list[T | None]:
            if given is None:
                return [None] * count
            if len(given) not in (1, count):
                raise UsageError(
                    f"--{option} is given {len(given)} times for {count} networks; give it once for all of them, or "
                    f"once for each in their order, where {OWN} is the network's own"
                )
            repeated = given if len(given) == count else [given[0]] * count
            return [None if str(each) == OWN else each for each in repeated]

        return [
            cls(*parts, several.offline, several.device)
            for parts in zip(
                several.model,
                own("weights", several.weights),
                own("classes", several.classes),
                own("preprocess", several.preprocess),
                strict=True,
            )
        ]

    def load(self) -> Network:
        """The network on its device."""
        from seewhy.network.load import load

        network = load(
            self.model,
            weights=self.weights,
            classes=self.classes,
            preprocess=self.preprocess,
            offline=self.offline,
        )
        try:
            network.module.to(self.device or _fastest())
        except (RuntimeError, AssertionError) as error:  # torch raises either for a device that is not there
            raise UsageError(f"--device {self.device}: {str(error).splitlines()[0]}") from error
        return network

    def load_for_pictures(self) -> Network:
        """The network, which must know how pictures become its input.

        Raises:
            UsageError: it does not.
        """
        network = self.load()
        if network.preprocess is None:
            raise UsageError(
                f"it is not known how pictures become the input of {network.name}; pass --preprocess CARD"
            )
        return network


@Parameter(name="*")
@dataclass(frozen=True)
class Models:
    """Several networks."""

    model: Annotated[list[str], Parameter(name=["--model", "-m"])]
    """A network, as other commands take it; repeat for several. file:net.safetensors has its weights and its card."""
    weights: list[str] | None = None
    """"random", or a file; once for all networks, or once for each in their order, where `own` is its source's."""
    classes: list[Path] | None = None
    """Class names, likewise."""
    preprocess: list[Path] | None = None
    """Cards, likewise; a card named like the weights is found."""
    offline: bool = False
    """Never touch a network: only files and local caches."""
    device: str | None = None
    """Where to run: cpu, cuda, mps; the fastest there is by default."""


def read_dataset(data: Path, kind: str, split: str | None, pictures: Path | None = None) -> Manifest:
    """A dataset that the command line names.

    Raises:
        UsageError: it cannot be read as that.
    """
    from seewhy.datasets import read

    try:
        return read(data, kind, split, pictures)
    except SeewhyError as error:
        raise UsageError(str(error)) from error


def made_by() -> dict[str, str]:
    """What a report says of the run that makes it."""
    return {
        "Date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Version": f"seewhy {__version__}",
        "Command": shlex.join(["seewhy", *sys.argv[1:]]),
    }


def _fastest() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
