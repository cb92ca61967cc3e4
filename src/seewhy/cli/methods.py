"""`seewhy methods`: what can be asked for, from the registry alone."""

from __future__ import annotations

import json as to_json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table


def methods(*, json: bool = False) -> None:
    """List the methods: paper, what a network must have, and cost per picture and target.

    Args:
        json: Print JSON.
    """
    from seewhy import registry

    entries = list(registry.explainers())
    if json:
        print(to_json.dumps([asdict(entry) for entry in entries], indent=1))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("method", "name in the paper", "paper", "needs", "cost"):
        table.add_column(column, overflow="fold", no_wrap=column == "method")
    for entry in entries:
        table.add_row(entry.name, entry.title, entry.paper, entry.needs, entry.cost)
    Console().print(table)
