"""Files that settings refer to, with what they held then: a result says by which file it was made."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from seewhy.errors import InputError


class Artifact(BaseModel):
    """A file by path and SHA-256; a setting that takes one also takes its path alone.

    Example:
        >>> from tempfile import NamedTemporaryFile
        >>> with NamedTemporaryFile() as file:
        ...     Artifact(path=file.name).sha256[:8]
        'e3b0c442'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Field(description="Where the file is.")
    sha256: str = Field(
        pattern="^[0-9a-f]{64}$", description="Of its bytes; worked out from the file where it is not given."
    )

    @model_validator(mode="before")
    @classmethod
    def _of_path(cls, value: Any) -> Any:
        given = {"path": value} if isinstance(value, str | Path) else value
        if (
            not isinstance(given, dict)
            or not isinstance(given.get("path"), str | Path)
            or given.get("sha256")
        ):
            return given
        try:
            return {**given, "sha256": sha256(Path(given["path"]).read_bytes()).hexdigest()}
        except OSError as error:
            raise ValueError(f"{given['path']} cannot be read: {error.strerror}") from None

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            InputError: it cannot be read, or it is no longer what it was.
        """
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror}") from None
        if sha256(data).hexdigest() != self.sha256:
            raise InputError(
                f"{self.path} has changed since it was chosen: its SHA-256 is no longer {self.sha256[:12]}…; "
                "make the method anew to use it as it is now"
            )
        return data
