"""Ports: those the user chose, checked, and free ones for the rest."""

import contextlib
import errno
import random
import socket

from recsplit.errors import InputError

#: Where free ports are looked for: below the ports that Linux gives to outgoing connections, one of which could take
#: ours while the models load, for Triton listens only after that.
FREE = range(18_000, 30_000)


def address(host: str) -> str:
    """The IPv4 address of `host`, for Triton takes no names and no IPv6. Raises InputError where it has none."""
    try:
        return str(socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise _cannot_listen(host, error) from error


def choose(address: str, port_requests: dict[str, int | None]) -> dict[str, int]:
    """A port for every name in `port_requests`; None picks a free one. Raises InputError where a chosen port can't be had."""
    ports: dict[str, int] = {}
    with contextlib.ExitStack() as held:  # all stay bound until all are chosen, so that no port is picked twice
        for name, port in sorted(port_requests.items(), key=lambda item: item[1] is None):
            if port is None:
                ports[name] = next(free for free in random.sample(FREE, len(FREE)) if _bind(held, address, free) is None)
                continue
            if not 0 < port < 65536:
                raise InputError(f"{name} port {port} is not a port number", hint="choose one between 1 and 65535")
            if port in ports.values():
                raise InputError(f"port {port} is chosen twice", hint="HTTP, gRPC and metrics need three different ports")
            if (error := _bind(held, address, port)) is not None:
                raise InputError(f"{name} port {port}: {error.strerror}", hint="choose another port, or none: recsplit picks a free one")
            ports[name] = port
    return ports


def _bind(held: contextlib.ExitStack, address: str, port: int) -> OSError | None:
    """Listen there; the error if the port can't be had. Raises InputError where no port of the address can."""
    try:
        listener = held.enter_context(socket.socket(socket.AF_INET))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just left is free
        listener.bind((address, port))
        listener.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise _cannot_listen(address, error) from error
        return error
    return None


def _cannot_listen(host: str, error: OSError) -> InputError:
    return InputError(
        f"can't listen on host {host!r}: {error.strerror}", hint="use an IPv4 address of this machine: 127.0.0.1, or 0.0.0.0 for every one"
    )
