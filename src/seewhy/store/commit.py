"""Files that appear whole, once, and stay: every call to the operating system that the store makes."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path

from seewhy.errors import StoreError

_ATTEMPTS = 8
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


def place(path: Path, data: bytes) -> bool:
    """Make a file, whole and on the disk, unless one of that name is there already.

    The bytes go to a temporary name beside it, which is linked to `path` once they are on the disk: of two
    processes that try, one succeeds, and a reader sees nothing or everything.

    Returns:
        Whether it was made now; an earlier one is left as it is.

    Raises:
        StoreError: the disk is full, or anything else that the operating system refuses.
    """
    try:
        for _ in range(_ATTEMPTS):
            partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
            made = True
            try:
                _write(partial, data)
                os.link(partial, path)
            except FileExistsError:
                made = False
            except FileNotFoundError:  # another process began, and took it for the leftover of a dead one
                continue
            finally:
                _discard(partial)
            _to_disk(path.parent)
            return made
    except OSError as error:
        hint = "; its file system has no hard links" if error.errno in _NO_LINKS else ""
        raise _failure(path, "written", error, hint) from error
    raise StoreError(
        f"{path} cannot be written: its temporary files or its folder are removed again and again"
    )


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, on the disk, unless they are there.

    Raises:
        StoreError: the operating system refuses.
    """
    try:
        folder.mkdir()
        _to_disk(folder.parent)
    except FileExistsError:
        pass
    except FileNotFoundError:
        make_folder(folder.parent)
        make_folder(folder)
    except OSError as error:
        raise _failure(folder, "made", error) from error


def exists(path: Path) -> bool:
    """Whether there is a file of that name.

    Raises:
        StoreError: that cannot be known.
    """
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _failure(path, "read", error) from error
    return True


def read(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        FileNotFoundError: there is none.
        StoreError: it cannot be read.
    """
    parts = []
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            while part := os.read(descriptor, 1 << 24):
                parts.append(part)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _failure(path, "read", error) from error
    return b"".join(parts)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of processes that died; one that lives writes its own again.

    Raises:
        StoreError: the operating system refuses.
    """
    try:
        for path in folder.iterdir():
            if path.name.startswith(".") and path.suffix == ".part":
                path.unlink(missing_ok=True)
        _to_disk(folder)
    except OSError as error:
        raise _failure(folder, "cleaned of temporary files", error) from error


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        left = memoryview(data)
        while left:  # a disk that fills up takes a part of it first
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _to_disk(folder: Path) -> None:
    """Make the names in a folder survive a loss of power; Windows does so by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _discard(path: Path) -> None:
    # What went wrong before is what must be told, and the next run removes what stays.
    with suppress(OSError):
        path.unlink()


def _failure(path: Path, done: str, error: OSError, hint: str = "") -> StoreError:
    return StoreError(
        f"{path} cannot be {done}: {error.strerror}{hint}; what was committed before is kept, and the same "
        "command goes on from there"
    )
