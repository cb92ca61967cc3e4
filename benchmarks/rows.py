"""Lines of the speed table."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.timing import Times


@dataclass(frozen=True)
class Row:
    """One line of the speed table.

    Attributes:
        name: what is measured.
        peer: what it is measured against.
        theirs: the peer's figure.
        ours: our figure.
        ratio: how they compare.
        bound: what is asked of it; empty where nothing is.
        holds: whether it is met; None without a bound.
    """

    name: str
    peer: str
    theirs: str
    ours: str
    ratio: str
    bound: str = ""
    holds: bool | None = None

    @property
    def cells(self) -> list[str]:
        verdict = "" if self.holds is None else "yes" if self.holds else "NO"
        return [self.name, self.peer, self.theirs, self.ours, self.ratio, self.bound, verdict]


HEAD = ["name", "peer", "theirs", "ours", "ratio", "bound", "holds"]


def at_most(name: str, peer: str, times: Times, candidate: str, bound: float | None = None) -> Row:
    """A candidate's time as a multiple of a yardstick's."""
    ratio = times.ratio(candidate, peer)
    return Row(
        name,
        peer,
        milliseconds(times.of[peer]),
        milliseconds(times.of[candidate]),
        f"{ratio:.3f}",
        "" if bound is None else f"<= {bound:.2f}",
        None if bound is None else ratio <= bound,
    )


def at_least(
    name: str, title: str, times: Times, peer: str, candidate: str, bound: float | None = None
) -> Row:
    """How many times as fast as a peer a candidate is; the peer's title is what the page shows."""
    ratio = times.ratio(peer, candidate)
    return Row(
        name,
        title,
        duration(times.of[peer]),
        duration(times.of[candidate]),
        f"{ratio:.2f}x faster",
        "" if bound is None else f">= {bound:g}x",
        None if bound is None else ratio >= bound,
    )


def duration(seconds: float) -> str:
    """Seconds, in whichever unit reads well."""
    return milliseconds(seconds) if seconds < 10 else f"{seconds:.1f} s"


def milliseconds(seconds: float) -> str:
    """Seconds, in milliseconds."""
    return f"{1000 * seconds:.1f} ms"
