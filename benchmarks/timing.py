"""Times of several candidates that can be compared: taken in turns, on a quiet machine where there is one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

THREADS = 2
_QUIET = 0.05  # share of the processor that others may take during a round
_STATISTICS = Path("/proc/stat")
_TICKS = 100  # per second, in /proc/stat


@dataclass(frozen=True)
class Times:
    """Seconds per call.

    Attributes:
        of: per candidate the median over the rounds.
        spread: the slowest round of the first candidate over its fastest.
        quiet: rounds during which others left the processor alone.
        rounds: rounds that the medians are taken over.
    """

    of: Mapping[str, float]
    spread: float
    quiet: int
    rounds: int

    def ratio(self, candidate: str, yardstick: str) -> float:
        """How many times as long as the yardstick."""
        return self.of[candidate] / self.of[yardstick]

    def __str__(self) -> str:
        return f"{self.rounds} rounds, {self.quiet} of them quiet, yardstick's spread {self.spread:.2f}"


def interleaved(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int = 7,
    warm_up: int = 2,
    patience: float = 60.0,
    least: int = 3,
) -> Times:
    """Median seconds of each candidate, run round-robin so that all meet the same machine.

    Rounds during which other processes used the processor are repeated until enough were quiet or patience
    is at its end. Where fewer than half were quiet, all count.

    Args:
        candidates: functions by name; the first is the yardstick.
        rounds: quiet rounds wanted.
        warm_up: rounds before the clock runs.
        patience: seconds after which no further round begins, once there are enough.
        least: how many are enough then, quiet or not.
    """
    torch.set_num_threads(THREADS)
    for _ in range(warm_up):
        for run in candidates.values():
            run()
    kept: list[tuple[bool, dict[str, float]]] = []
    end = time.perf_counter() + patience
    while sum(quiet for quiet, _ in kept) < rounds and (len(kept) < least or time.perf_counter() < end):
        used, began = _busy_elsewhere(), time.perf_counter()
        seconds = {}
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            seconds[name] = time.perf_counter() - start
        elapsed = time.perf_counter() - began
        kept.append((_busy_elsewhere() - used <= _QUIET * elapsed * THREADS, seconds))
    quiet = [seconds for is_quiet, seconds in kept if is_quiet]
    counted = quiet if len(quiet) >= (rounds + 1) // 2 else [seconds for _, seconds in kept]
    first = [seconds[next(iter(candidates))] for seconds in counted]
    return Times(
        {name: median(seconds[name] for seconds in counted) for name in candidates},
        max(first) / min(first),
        len(quiet),
        len(counted),
    )


def _busy_elsewhere() -> float:
    """Processor seconds that everybody else has used so far; 0 where the system does not tell."""
    if not _STATISTICS.exists():
        return 0.0
    user, nice, system, _, _, *interrupts = _STATISTICS.read_text().splitlines()[0].split()[1:]
    ticks = sum(int(each) for each in (user, nice, system, *interrupts[:3]))
    return ticks / _TICKS - time.process_time()
