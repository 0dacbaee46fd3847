"""`homefire index serve`: an index behind an address, until Ctrl-C.

Knows no HTTP: `IndexServer` answers.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from homefire.cli_index_search import IndexPath, Method
from homefire.configs.address import KEY_VARIABLE
from homefire.configs.console import note

if TYPE_CHECKING:
    from homefire.retrieval.index_server import IndexServer


class _Terminated(BaseException):
    """Somebody asked this process to end."""


def serve(
    index: IndexPath,
    host: Annotated[str, typer.Option(help="Address to listen on; any but this machine's own needs an API key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any that is free.")] = 8893,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar=KEY_VARIABLE,
            show_envvar=True,
            help="What clients must send. Other users of this machine see options: prefer the variable.",
        ),
    ] = None,
    method: Method = None,
) -> None:
    """Answer searches over HTTP as ColBERTv2's server does; what is added to the index meanwhile is found too. Ctrl-C ends it."""
    from homefire.retrieval.index import Index
    from homefire.retrieval.index_server import IndexServer

    server = IndexServer(Index.open(index), host=host, port=port, api_key=api_key, method=method)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        with server:
            _tell(server, index, api_key is not None)
            try:
                server.wait()
            except KeyboardInterrupt:
                note("Ending the server.")
    except _Terminated:
        note("The server was asked to end.")


def _terminate(*_: object) -> NoReturn:
    raise _Terminated


def _tell(server: IndexServer, index: Path, with_key: bool) -> None:
    key = f" -H 'Authorization: Bearer '${KEY_VARIABLE}" if with_key else ""
    secret = f', api_key=os.environ["{KEY_VARIABLE}"]' if with_key else ""
    typer.echo(f"{index} ({len(server.index):,} passages) answers at {server.url}/api/search")
    typer.echo(f"  curl '{server.url}/api/search?query=hello&k=3'{key}")
    typer.echo(f'  homefire.ColBERTv2(url="{server.url}/api/search"{secret})')
