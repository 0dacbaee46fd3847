"""Where a server listens: whether only this machine reaches it, what key it needs then, whether the port is free, and who holds it.

Knows no server.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from contextlib import suppress

import psutil

from homefire.errors import EngineError, InputError

KEY_VARIABLE = "HOMEFIRE_API_KEY"
"""Environment variable with the API key of a server."""
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
"""Addresses that a server listens on but nobody calls."""


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach a server that listens there; names other than `localhost` count as reachable."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def checked_key(host: str, api_key: str | None) -> str | None:
    """The API key of a server that listens there; None where only this machine reaches it and none is asked for.

    Raises:
        InputError: the key cannot stand in an HTTP header, or there is none and other machines can reach the server.
    """
    if api_key is not None and (not api_key.isascii() or not api_key.isprintable() or not api_key.strip() or " " in api_key):
        raise InputError("The API key is empty or has characters that no HTTP header carries; use letters, digits, '-' and '_'.")
    if api_key is None and not is_loopback(host):
        raise InputError(
            f"The host {host!r} can be reached from other machines, so the server needs an API key: set {KEY_VARIABLE} or --api-key to a "
            "long random text, or listen on 127.0.0.1 only."
        )
    return api_key


def called_host(host: str) -> str:
    """The host by which programs on this machine call a server that listens there."""
    return _EVERYWHERE.get(host, host)


def http_address(host: str, port: int) -> str:
    """Where such a server is called: `http://HOST:PORT`."""
    called = called_host(host)
    return f"http://[{called}]:{port}" if ":" in called else f"http://{called}:{port}"


def listening_port(host: str, port: int) -> int:
    """The port itself when it is free; for 0, one that is.

    Raises:
        InputError: no such port or address.
        EngineError: somebody listens there already; the message says who, and names a port that is free.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"The port is {port}; expected a number from 1 to 65535, or 0 for any that is free.")
    try:
        return _try(host, port)
    except (socket.gaierror, UnicodeError) as error:
        raise InputError(f"The host {host!r} cannot be found: {error}. Use 127.0.0.1, or an address of this machine.") from error
    except PermissionError as error:
        raise EngineError(f"This user may not listen on port {port}. Ports above 1023 are free for all: --port 8000.") from error
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise InputError(
                f"Nothing can listen on {host}: {error.strerror or error}. Use 127.0.0.1, or an address of this machine."
            ) from error
        free = _try(host, 0)
        raise EngineError(f"Port {port} on {host} is taken by {_holder(port)}. Stop that, or use another port: --port {free}") from error


def _try(host: str, port: int) -> int:
    with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        probe.listen(1)  # a socket that is bound and does not listen yet would not be noticed otherwise
        return int(probe.getsockname()[1])


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _holder(port: int) -> str:
    """The process that listens on a port, in words; the system may not tell whose process it is."""
    with suppress(psutil.Error):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid is not None:
                process = psutil.Process(connection.pid)
                command = " ".join(process.cmdline()[:4])
                return f"{process.name()} (process {connection.pid}: {command})" if command else f"{process.name()} ({connection.pid})"
    return "another program"
