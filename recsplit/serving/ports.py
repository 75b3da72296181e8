"""Ports: those the user chose, checked, and free ones for the rest."""

import contextlib
import socket

from recsplit.errors import InputError


def choose(host: str, wanted: dict[str, int | None]) -> dict[str, int]:
    """A port for every name in `wanted`; None picks a free one. Raises InputError where a chosen port can't be had."""
    ports: dict[str, int] = {}
    with contextlib.ExitStack() as held:  # all stay bound until all are chosen, so that no port is picked twice
        for name, port in sorted(wanted.items(), key=lambda item: item[1] is None):
            if port is not None and not 0 < port < 65536:
                raise InputError(f"{name} port {port} is not a port number", hint="choose one between 1 and 65535")
            if port in ports.values():
                raise InputError(f"port {port} is chosen twice", hint="HTTP, gRPC and metrics need three different ports")
            ports[name] = _bind(held, host, port, name)
    return ports


def _bind(held: contextlib.ExitStack, host: str, port: int | None, name: str) -> int:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
        listener = held.enter_context(socket.socket(family, kind))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just left is free
        listener.bind(address)
        listener.listen(1)
    except socket.gaierror as error:
        raise InputError(f"host {host!r} has no address: {error.strerror}", hint="use 127.0.0.1, or 0.0.0.0 for every interface") from error
    except OSError as error:
        wish = f"{name} port {port}" if port else "a free port"
        raise InputError(
            f"can't listen on {host}, {wish}: {error.strerror}", hint="choose another port, or leave the choice to recsplit"
        ) from error
    return int(listener.getsockname()[1])
