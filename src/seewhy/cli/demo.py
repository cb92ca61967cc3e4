"""`seewhy demo`: a planted fault, found in a minute with what the package brings."""

from __future__ import annotations

import json as to_json
import os
import sys
from pathlib import Path

from seewhy.cli.progress import progress


def demo(*, out: Path = Path("seewhy-demo"), json: bool = False, no_open: bool = False) -> int:
    """Find a planted fault: two bundled networks, the same scenes, several methods.

    One network learnt its class from the drawings, the other from a watermark that went with it. Their accuracies say
    little; their maps say which is which. Nothing is downloaded.

    Args:
        out: Folder for report.html and the scenes that it shows.
        json: Print the findings as JSON.
        no_open: Do not open the report in a browser, which is done where there is a desktop and a terminal.
    """
    from seewhy.zoo.demonstration import STEPS, demonstrate

    with progress("explaining", STEPS) as advance:
        found = demonstrate(out, step=lambda: advance(1))
    if json:
        print(to_json.dumps(found.to_json(), indent=1))
        return 0
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for title, head, rows in found.tables():
        table = Table(*head, title=title, title_justify="left", box=None, pad_edge=False)
        for row in rows:
            table.add_row(*row)
        console.print(table, "")
    console.print(found.verdict(), highlight=False)
    print(f"report: {found.report}")
    if not no_open and _on_a_desktop():
        import webbrowser

        webbrowser.open(found.report.resolve().as_uri())
    return 0


def _on_a_desktop() -> bool:
    """Whether somebody sits before a screen: never so in a pipe, a container or over a plain remote shell."""
    shown = sys.platform in ("darwin", "win32") or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    return shown and sys.stdout.isatty() and "SSH_CONNECTION" not in os.environ
