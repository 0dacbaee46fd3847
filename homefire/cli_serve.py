"""`homefire serve`: a model behind an OpenAI-compatible address, until Ctrl-C.

Knows no vLLM: `Server` starts and watches it.
"""

from __future__ import annotations

import json
import signal
from typing import Annotated, NoReturn

import typer

from homefire.configs.address import KEY_VARIABLE
from homefire.configs.console import note
from homefire.configs.load import load, model_name
from homefire.engine.server import Server
from homefire.engine.settings import EngineSettings


class _Terminated(BaseException):
    """Somebody asked this process to end."""


def serve(
    model: Annotated[str | None, typer.Argument(help="Model to serve; without it the default one.", show_default=False)] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; any but this machine's own needs an API key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any that is free.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar=KEY_VARIABLE,
            show_envvar=True,
            help="What clients must send. Other users of this machine see options: prefer the variable.",
        ),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[@V]", help="LoRA adapter to serve; default: all that were promoted and fit. Repeatable."),
    ] = None,
    config: Annotated[str | None, typer.Option(help="Preset (laptop, gpu-server) or YAML file.")] = None,
) -> None:
    """Serve a model to OpenAI clients with vLLM; promoted adapters are swapped in while it runs. Ctrl-C ends it."""
    settings = load(config, EngineSettings, "engine") if config else EngineSettings()
    named = model or (model_name(config) if config else None)
    server = Server(named, host=host, port=port, api_key=api_key, settings=settings, adapters=adapter)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        with server:
            _tell(server, api_key is not None)
            try:
                server.wait()
            except KeyboardInterrupt:
                note("Ending the server.")
    except _Terminated:
        note("The server was asked to end.")


def _terminate(*_: object) -> NoReturn:
    raise _Terminated


def _tell(server: Server, with_key: bool) -> None:
    message = json.dumps({"model": server.name, "messages": [{"role": "user", "content": "Hello!"}]})
    key = f" -H 'Authorization: Bearer '${KEY_VARIABLE}" if with_key else ""
    typer.echo(f"{server.name} answers at {server.url}")
    typer.echo(f"  curl {server.url}/chat/completions -H 'Content-Type: application/json'{key} -d '{message}'")
    secret = f', api_key=os.environ["{KEY_VARIABLE}"]' if with_key else ""
    typer.echo(f'  homefire.LM("hosted_vllm/{server.name}", api_base="{server.url}"{secret})')
