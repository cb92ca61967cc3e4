"""Number formats, memory, and work in chunks that fit."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from seewhy.cancellation import stop_if_asked

Precision = Literal["float32", "bfloat16", "auto"]
Part = TypeVar("Part")


@cache
def fast_in_bfloat16(device_type: str) -> bool:
    """Whether the processor multiplies bfloat16 matrices faster than float32 ones."""
    if device_type == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    if device_type == "cpu":
        features: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # since torch 2.10
        return bool(features.get("amx_bf16") or features.get("avx512_bf16"))
    return False


def resolved(precision: Precision, device: torch.device) -> Precision:
    """What `auto` means on a device."""
    if precision != "auto":
        return precision
    return "bfloat16" if fast_in_bfloat16(device.type) else "float32"


def exact_type(device: torch.device) -> torch.dtype:
    """Float64 where there is one: for small differences of large sums."""
    return torch.float32 if device.type == "mps" else torch.float64


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context in which forwards run; `auto` means bfloat16 where it is faster."""
    lower = resolved(precision, device) == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=lower)


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on a device; a guess of 2 GB where it does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 2 << 30
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable")), 2 << 30)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory did not suffice, on any device."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def in_chunks(run: Callable[[int, int], Part], total: int, chunk: int | None = None) -> list[Part]:
    """The parts of `chunked`, in a list."""
    return list(chunked(run, total, chunk))


def chunked(run: Callable[[int, int], Part], total: int, chunk: int | None = None) -> Iterator[Part]:
    """`run(start, stop)` over a range, halving the chunk and going on where memory runs out.

    Args:
        run: computes the part from `start` up to `stop`. It may be called again for a part that did not fit, so it
            adds to nothing; whoever takes the parts does.
        total: the length of the range.
        chunk: the size to begin with; everything at once by default.

    Yields:
        The parts in order.

    Raises:
        CancelledError: within `cancellable`, where it was asked for.
    """
    start, size = 0, max(1, min(chunk or total, total))
    while start < total:
        stop_if_asked()
        stop = min(start + size, total)
        try:
            part = run(start, stop)
        except (RuntimeError, MemoryError) as error:
            if stop - start == 1 or not out_of_memory(error):
                raise
            size = (stop - start) // 2
        else:
            yield part
            start = stop
            continue
        # Outside the handler, so that the traceback no longer holds the tensors that did not fit.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
