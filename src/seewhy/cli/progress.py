"""A progress bar on stderr where that is a terminal; silent elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(doing: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far something is; call what this gives with the number of steps done since."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda count: bar.advance(task, count)


@contextmanager
def resumable(doing: str, total: int) -> Iterator[Callable[[int], None]]:
    """`progress` of work that is kept; whoever interrupts it is told how it goes on."""
    try:
        with progress(doing, total) as advance:
            yield advance
    except KeyboardInterrupt:
        print("seewhy: what is done is kept; the same command goes on from there", file=sys.stderr)
        raise
