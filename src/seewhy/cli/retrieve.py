"""`seewhy retrieve`: the most similar pictures of a gallery, and why each of them matched."""

from __future__ import annotations

import json as to_json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from seewhy.cli.explain import listed
from seewhy.cli.options import Model, made_by
from seewhy.cli.progress import progress
from seewhy.errors import SeewhyError, UsageError

if TYPE_CHECKING:
    from seewhy.embedding.retrieve import Embedded, Found
    from seewhy.explainers.base import Explainer
    from seewhy.network.embedding import Embedding
    from seewhy.network.network import Network
    from seewhy.render import MethodInfo, Report, Row


def retrieve(
    queries: Annotated[list[str], Parameter(help="Pictures, folders, globs; - reads paths from stdin.")],
    *,
    gallery: list[str],
    model: Model,
    method: str | None = None,
    bank: Path | None = None,
    top: int = 5,
    out: Path = Path("seewhy-retrieve"),
    output: str | None = None,
    metric: Literal["cosine", "inner-product"] = "cosine",
    rows: int = 50,
    batch_size: int = 16,
    json: bool = False,
) -> int:
    """Find the most similar pictures of a gallery, and show in both pictures of each match what makes it one.

    DIR/report.html shows the first queries with their matches; DIR/results.json holds all ranks, similarities and
    notes; DIR/maps/ the values, a numpy file per query: its own maps, one per match, then those of the matches.

    Args:
        gallery: Where to look: pictures, folders, globs; repeat for several. A query that lies there is left out.
        method: A method, with settings after a colon. `seewhy methods` lists them. Grad-CAM by default, transfer-cam
            with a bank.
        bank: Folder of a bank, for a method that looks weights up in one; see `seewhy bank`.
        top: Matches per query.
        out: Folder for the report, the results and the maps; made if need be.
        output: Which of the network's outputs is the embedding, by name or position; found by default.
        metric: What similarity is.
        rows: How many queries the report shows; results.json always holds all.
        batch_size: Pictures per pass.
        json: Print the results as JSON.
    """
    from seewhy.embedding.retrieve import BANKED, METHOD, embed
    from seewhy.embedding.retrieve import retrieve as found_in
    from seewhy.explainers.base import make
    from seewhy.network.images import find

    if top < 1 or rows < 0 or batch_size < 1:
        raise UsageError("--top and --batch-size must be at least 1, and --rows at least 0")
    try:
        explainer = make(method or METHOD) if bank is None else make(method or BANKED, bank=bank)
    except SeewhyError as error:
        raise UsageError(str(error)) from error
    asked, searched = list(find(listed(queries))), list(find(gallery))
    if not asked or not searched:
        raise UsageError("no queries were given" if not asked else "no gallery was given")
    network = model.load_for_pictures()
    try:
        embedding = network.embedding(output=_leaf(output))
    except SeewhyError as error:
        raise UsageError(f"--output: {error}") from error
    with progress("embedding", len(asked) + len(searched)) as advance:
        theirs = embed(network, searched, embedding, batch_size=batch_size, step=advance)
        mine = embed(network, asked, embedding, batch_size=batch_size, step=advance)
    if not mine.paths:
        raise SeewhyError(f"none of the {len(asked)} queries could be read: {_reasons(mine)}")
    if not theirs.paths:
        raise SeewhyError(f"none of the gallery's {len(searched)} pictures could be read: {_reasons(theirs)}")
    run = _Run(network, explainer, embedding, metric, mine, theirs, out, rows)
    with progress("explaining", len(mine.paths)) as advance:
        for found in found_in(network, mine, theirs, explainer, embedding=embedding, top=top, metric=metric):
            run.add(found)
            advance(1)
    results = run.finish()
    print(to_json.dumps(results, indent=1) if json else run.summary(results))
    return 3 if mine.failed or theirs.failed else 0


@dataclass
class _Run:
    """What accumulates while queries go by; pictures and maps are written out, not kept."""

    network: Network
    explainer: Explainer
    embedding: Embedding
    metric: str
    queries: Embedded
    gallery: Embedded
    out: Path
    rows: int
    items: list[dict[str, Any]] = field(default_factory=list)
    report: Report | None = None

    def __post_init__(self) -> None:
        (self.out / "maps").mkdir(parents=True, exist_ok=True)

    def add(self, found: Found) -> None:
        """Write one query's maps, and show its matches."""
        number = len(self.items)
        maps = f"maps/{number:06d}.npz"
        found.explanation.to_npz(self.out / maps)
        self.items.append(_item(found, maps))
        if self.report is None:
            self.report = self._new_report(found)
        if number < self.rows:
            for row in _rows(found):
                self.report.add(row)

    def _new_report(self, found: Found) -> Report:
        from seewhy.render import Report

        first, width = found.explanation, self.embedding.width
        normalised = "of unit length" if self.embedding.normalised else "of any length"
        facts = {
            "Network": f"{self.network.name}, sha256 {first.digest[:12]}",
            "Embedding": f"{width} numbers, {normalised}, compared by {self.metric.replace('-', ' ')}",
            "Method": f"{first.method}, {', '.join(str(site) for site in first.maps)} ({first.reason})",
            **made_by(),
        }
        report = Report(
            f"Why {self.network.name} finds them alike", facts, _columns(found), lead=self._counts()
        )
        for note in self.network.notes:
            report.note(note)
        if len(self.queries.paths) > self.rows:
            report.note(f"The first {self.rows} of {len(self.queries.paths)} queries are shown.")
        return report

    def _counts(self) -> str:
        """Asked, answered and failed, of both sides."""
        mine, theirs = self.queries, self.gallery
        return (
            f"{mine.asked} queries asked = {len(mine.paths)} answered + {len(mine.failed)} failed; "
            f"a gallery of {theirs.asked} = {len(theirs.paths)} searched + {len(theirs.failed)} failed"
        )

    def finish(self) -> dict[str, Any]:
        """Write the report and the results, and return them."""
        assert self.report is not None
        failed = [
            {"role": role, "path": each.path, "reason": each.reason}
            for role, own in (("query", self.queries), ("gallery", self.gallery))
            for each in own.failed
        ]
        for each in failed:
            self.report.fail(each["path"], each["reason"])
        self.report.save(self.out / "report.html")
        results = {
            "network": self.network.name,
            "digest": self.network.digest,
            "embedding": asdict(self.embedding),
            "metric": self.metric,
            "method": self.explainer.model_dump(mode="json"),
            "queries": {"asked": self.queries.asked, "answered": len(self.items)},
            "gallery": {"asked": self.gallery.asked, "searched": len(self.gallery.paths)},
            "failed": failed,
            "report": str(self.out / "report.html"),
            "items": self.items,
        }
        (self.out / "results.json").write_text(to_json.dumps(results, indent=1) + "\n", encoding="utf-8")
        return results

    def summary(self, results: dict[str, Any]) -> str:
        """A few lines for a terminal."""
        lines = [self._counts()]
        for item in self.items[:10]:
            best = item["matches"][0]
            lines.append(f"{item['query']}: {best['path']} ({best['similarity']:.3f})")
        lines += [f"failed: {each['path']}: {each['reason']}" for each in results["failed"][:10]]
        return "\n".join([*lines, f"report: {results['report']}"])


def _leaf(output: str | None) -> str | int | None:
    """An output's name, or its position."""
    return int(output) if output is not None and output.removeprefix("-").isdigit() else output


def _reasons(embedded: Embedded) -> str:
    return "; ".join(f"{each.path}: {each.reason}" for each in embedded.failed[:3])


def _item(found: Found, maps: str) -> dict[str, Any]:
    """One query in results.json."""
    return {
        "query": found.query,
        "maps": maps,
        "layers": [str(site) for site in found.explanation.maps],
        "matches": [
            {
                "rank": rank,
                "path": match.path,
                "similarity": match.similarity,
                "notes": {"query": found.of_query(rank).notes[0], "match": found.of_match(rank).notes[0]},
            }
            for rank, match in enumerate(found.matches, 1)
        ],
    }


def _columns(found: Found) -> list[MethodInfo]:
    """What speaks for the match in the match itself, and in the query."""
    from seewhy.render import panels

    (info,) = panels.methods([found.explanation])
    return [replace(info, name=name, title=f"{info.title} of the {name}") for name in ("match", "query")]


def _rows(found: Found) -> Iterable[Row]:
    """A row per match, with both its maps."""
    from seewhy.render import Row, panels

    shown = panels.picture(found.explanation, 0)
    for rank, match in enumerate(found.matches, 1):
        theirs, mine = found.of_match(rank), found.of_query(rank)
        own = [replace(panel, picture=shown) for panel in panels.panels(mine, 0, method="query")]
        yield Row(
            f"{rank}. of {Path(found.query).name}: {Path(match.path).name}",
            panels.picture(theirs, 0),
            (),
            (*panels.panels(theirs, 0, method="match"), *own),
        )
