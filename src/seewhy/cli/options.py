"""Options that several commands share: which network, and where it runs."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from seewhy import __version__
from seewhy.errors import SeewhyError, UsageError

if TYPE_CHECKING:
    from seewhy.datasets import Manifest
    from seewhy.network.network import Network


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
        network.module.to(self.device or _fastest())
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
