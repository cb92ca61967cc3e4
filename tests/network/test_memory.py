"""Whether memory is kept: by the page faults of tensors that come and go, each time in a process of its own."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import torch
from seewhy.network.memory import keep_memory
if sys.argv[1] == "kept":
    keep_memory()
def used():
    for _ in range(4):
        torch.ones(24 << 20, dtype=torch.uint8), torch.ones(40 << 20, dtype=torch.uint8)
for _ in range(5):  # until the pieces have found their places
    used()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
used()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the C library's memory is only told on Linux")
def test_memory_that_is_kept_costs_no_page_faults() -> None:
    faults = {
        how: int(
            subprocess.run(
                [sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True
            ).stdout
        )
        for how in ("kept", "as it is")
    }
    if faults["as it is"] < 1000:
        pytest.skip("this C library keeps large pieces of memory by itself")
    assert faults["kept"] < faults["as it is"] / 10


def test_elsewhere_nothing_happens(monkeypatch) -> None:
    from seewhy.network import memory

    monkeypatch.setattr(memory.sys, "platform", "win32")
    monkeypatch.setattr(memory.ctypes, "CDLL", None)
    monkeypatch.setattr(memory, "_kept", False)
    monkeypatch.delenv("MALLOC_MMAP_MAX_", raising=False)
    memory.keep_memory()
    assert not memory.is_kept()


def test_memory_kept_by_the_environment_is_known(monkeypatch) -> None:
    from seewhy.network import memory

    monkeypatch.setattr(memory, "_kept", False)
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "0")
    assert memory.is_kept()
