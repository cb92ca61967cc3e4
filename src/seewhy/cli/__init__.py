"""The command line: one file per command, thin. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import sys
from io import TextIOWrapper

from cyclopts import App, CycloptsError, Parameter

from seewhy import __version__
from seewhy.errors import SeewhyError, UsageError
from seewhy.network.memory import keep_memory

# What a lone `-` becomes: cyclopts would take it for an option without a name.
STDIN = "<stdin>"

DONE, FAILED, USAGE, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 130

app = App(
    name="seewhy",
    help="See why a convolutional network decides what it decides.\n\n"
    "Exit codes: 0 done, 1 failure, 2 usage, 3 finished but some pictures failed, 4 a required bound does not "
    "hold, 130 interrupted.",
    version=__version__,
    version_flags=["--version"],
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,
)
for _name, _help in {
    "bank": "Keep channel weights of training pictures, so that serving needs no back-propagation.",
    "compare": "See several networks side by side on the same pictures, and who is right.",
    "demo": "Find a planted fault with the bundled networks, and see it in a report.",
    "evaluate": "Measure methods on a dataset: how far can their maps be trusted?",
    "explain": "Explain pictures: maps, predictions and one self-contained report.",
    "layers": "List the layers of a network, and which one a map is drawn on.",
    "methods": "List the methods: paper, needs, cost.",
    "retrieve": "Find the most similar pictures of a gallery, and see why they match.",
    "summarize": "Find the parts that a network looks for in a class, over many pictures.",
    "scenes": "Draw pictures whose truth is known to the pixel.",
}.items():
    # Given as text, so that a command is imported only when it is called.
    app.command(f"seewhy.cli.{_name}:{_name}", name=_name, help=_help)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    keep_memory()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name need not be text
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit code."""
    arguments = [STDIN if each == "-" else each for each in arguments]
    try:
        code = app(arguments, exit_on_error=False, print_error=True, result_action="return_value")
    except CycloptsError:
        return USAGE
    except UsageError as error:
        print(f"seewhy: {error}", file=sys.stderr)
        return USAGE
    except SeewhyError as error:
        print(f"seewhy: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("seewhy: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; that is how `seewhy … | head` ends.
        sys.stdout = None
        return DONE
    except OSError as error:  # no space, no permission, a file where a folder should be
        print(f"seewhy: {error}", file=sys.stderr)
        return FAILED
    return code if isinstance(code, int) else DONE
