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


def milliseconds(seconds: float) -> str:
    """Seconds, in milliseconds."""
    return f"{1000 * seconds:.1f} ms"
