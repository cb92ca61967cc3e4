"""Every command and every snippet that the README and the docs show is executed here."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What installs the project and runs these very tests cannot run inside them; the Makefile must have its targets.
OUTSIDE = re.compile(r"make (\S+)$|python -m benchmarks")


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


def commands(page: Path) -> list[str]:
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if line.strip()]


SHAPES, EXPLAIN = (
    next(each for each in commands(ROOT / "README.md") if each.startswith(start))
    for start in ("python examples/shapes.py", "seewhy explain")
)
WITH_COMMANDS = [page for page in PAGES if commands(page)]
WITH_SNIPPETS = [page for page in PAGES if blocks(page, "python")]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run a shell command in a copy of what a reader has, with the drawn shapes of the README's first command."""
    folder = tmp_path_factory.mktemp("reader")
    for name in ("examples", "README.md"):
        (folder / name).symlink_to(ROOT / name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def run(command: str) -> str:
        done = subprocess.run(
            command, shell=True, cwd=folder, capture_output=True, text=True,
            env={**os.environ, "PATH": path, "PYTHONWARNINGS": "default"}, timeout=500, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done.stdout

    run.folder = folder
    # Workers of one test run share what the first of them trained.
    shared = (
        tmp_path_factory.getbasetemp().parent / f"shapes-{os.environ.get('PYTEST_XDIST_TESTRUNUID', 'alone')}"
    )
    with shared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.exists():
            run(SHAPES)
            shutil.copytree(folder / "out", shared)
    shutil.copytree(shared, folder / "out", dirs_exist_ok=True)
    return run


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
def test_every_command_of_the_page_runs(page: Path, run) -> None:
    targets = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in commands(page):
        outside = OUTSIDE.match(command)
        if outside is None and command != SHAPES:
            run(command)
        elif outside and outside[1]:
            assert f"\n{outside[1]}:" in targets


def test_the_readme_begins_with_the_two_commands_that_do_everything() -> None:
    assert commands(ROOT / "README.md")[:2] == ["make demo", "make test"]


def test_the_readme_commands_write_a_report_and_the_pictures_that_it_shows(run) -> None:
    run(EXPLAIN)

    report = (run.folder / "out/why/report.html").read_text(encoding="utf-8")
    assert "3</strong> asked = 3 explained + 0 failed" in report
    made = sorted(path.name for path in (run.folder / "out/why/png").iterdir())
    for shape in ("star", "disc"):
        assert (ROOT / f"docs/images/{shape}.png").is_file()
        assert any(name.startswith("00000--disc-and-star--grad-cam--" + shape) for name in made)


@pytest.mark.parametrize("page", WITH_SNIPPETS, ids=lambda page: page.name)
def test_every_snippet_of_the_page_runs_in_order(page: Path, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for snippet in blocks(page, "python"):
        exec(compile(snippet, str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


def test_every_method_has_a_page_and_a_row_in_the_overview() -> None:
    from seewhy import registry

    overview = (ROOT / "docs/methods/index.md").read_text(encoding="utf-8")
    for entry in registry.explainers():
        page = entry.name.replace("+", "-plus").replace("--", "-")
        assert (ROOT / f"docs/methods/{page}.md").is_file(), page
        assert f"[`{entry.name}`]({page}.md)" in overview
