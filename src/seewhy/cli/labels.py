"""True classes from a CSV file, to tell right predictions from wrong ones."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seewhy.errors import SeewhyError, UsageError

if TYPE_CHECKING:
    from seewhy.explanation import Predicted
    from seewhy.network.network import Network


@dataclass(frozen=True)
class Labels:
    """True classes by file name.

    Attributes:
        classes: number and name of the true class, by path, the end of one, or file name.
    """

    classes: Mapping[str, tuple[int, str]]

    @classmethod
    def read(cls, path: Path, network: Network) -> Labels:
        """Read a CSV whose first two columns are file name and class (number or name).

        A first line is a header where it has no class that the network knows, and names no picture file.

        Raises:
            UsageError: no such file, or a line that cannot be understood.
        """
        from seewhy.network.images import SUFFIXES  # imports torch

        try:
            lines = [line for line in csv.reader(path.read_text(encoding="utf-8-sig").splitlines()) if line]
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--labels {path}: {error}") from error
        classes: dict[str, tuple[int, str]] = {}
        for number, line in enumerate(lines):
            if len(line) < 2:
                raise UsageError(f"--labels {path}: line {number + 1} has no class: {','.join(line)!r}")
            try:
                text = line[1].strip()
                index = int(text) if text.isdecimal() else network.class_index(text)
                if network.classes is not None and index >= max(2, len(network.classes)):
                    raise UsageError(
                        f"there are {len(network.classes)} classes, 0 to {len(network.classes) - 1}"
                    )
                classes[line[0]] = index, network.class_name(index)
            except SeewhyError as error:
                if number or Path(line[0]).suffix.lower() in SUFFIXES:
                    raise UsageError(f"--labels {path}: line {number + 1}: {error}") from error
        return cls(classes)

    def known(self, path: str) -> tuple[int, str] | None:
        """Number and name of a picture's true class, looked up by its path, then by ever shorter ends of it."""
        parts = Path(path).parts
        ends = (path, *("/".join(parts[start:]) for start in range(len(parts))))
        return next((self.classes[end] for end in ends if end in self.classes), None)

    def verdict(self, path: str, predictions: Sequence[Predicted]) -> dict[str, Any]:
        """`truth` and `correct` of one picture; empty where its class is not known."""
        known = self.known(path)
        if known is None or not predictions:
            return {}
        index, name = known
        return {"truth": name, "correct": predictions[0].index == index}
