"""The command line: `homefire COMMAND`. Says in one paragraph what went wrong, and leaves with the right code.

Knows no command's insides.
"""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer
from rich.text import Text

import homefire
from homefire.cli_adapters import app as adapters
from homefire.cli_ask import ask
from homefire.cli_cache import app as cache
from homefire.cli_demo import demo
from homefire.cli_doctor import doctor
from homefire.cli_index import app as index
from homefire.cli_models import app as models
from homefire.cli_run import evaluate_command, finetune
from homefire.cli_serve import serve
from homefire.cli_traces import app as traces
from homefire.configs.console import console, note
from homefire.errors import HomefireError

_INTERRUPTED = 130
_BROKEN = 70

app = typer.Typer(
    name="homefire",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Typed language-model programs on models in your own machine: run them, measure them, finetune them.",
)
app.command("doctor")(doctor)
app.add_typer(models, name="models")
app.command("demo")(demo)
app.command("serve")(serve)
app.add_typer(index, name="index")
app.command("ask")(ask)
app.command("eval")(evaluate_command)
app.command("finetune")(finetune)
app.add_typer(adapters, name="adapters")
app.add_typer(cache, name="cache")
app.add_typer(traces, name="traces")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"homefire {homefire.__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Options of every command; `main` reads `--debug` by itself, because errors end there."""


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and leaves the process.

    Raises:
        SystemExit: always. 0 well, 1 an error, 2 wrong input, 3 a missing package, 70 a defect of homefire, 130 interrupted.
    """
    given = sys.argv[1:] if arguments is None else arguments
    debug = given[:1] == ["--debug"]
    try:
        app(given, prog_name="homefire")
    except HomefireError as error:
        sys.exit(_failed(str(error), error, error.exit_code, debug))
    except KeyboardInterrupt:
        sys.exit(_interrupted())
    except SystemExit as leaving:
        sys.exit(_interrupted() if leaving.code == _INTERRUPTED else leaving.code)
    except Exception as error:
        text = f"homefire broke: {type(error).__name__}: {error}".rstrip(". ")
        sys.exit(_failed(f"{text}. This is a defect; see where with: homefire --debug {' '.join(given)}", error, _BROKEN, debug))


def _failed(text: str, error: Exception, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    console.print(Text.assemble(("error: ", "bold red"), text), soft_wrap=not console.is_terminal)
    return code


def _interrupted() -> int:
    note("Interrupted. Run again, a finetune goes on from its last checkpoint, and an index from what was committed.")
    return _INTERRUPTED


if __name__ == "__main__":
    main()
