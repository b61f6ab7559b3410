"""Where the server listens, and whether it may: others than this machine only get in with a key."""

from __future__ import annotations

import ipaddress
import socket

from ponder.core.errors import ConfigurationError, ResourceError
from ponder.serve.keys import KEY_VARIABLE


def bind(host: str, port: int, locked: bool) -> socket.socket:
    """A listening socket, whose connections send each piece at once.

    asyncio would see to that where the socket names its protocol, and `create_server` names none: a reply of two pieces
    then waits 40 ms for the client to acknowledge the first (Nagle's algorithm and delayed acknowledgements).

    Args:
        host: Name or address.
        port: 0 is any free one.
        locked: Whether clients must show a key.

    Raises:
        ConfigurationError: If others than this machine could reach it and there is no key.
        ResourceError: If the address is taken, privileged or not of this machine.
    """
    where = f"{host}:{port}"
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
    except (OSError, UnicodeError) as error:
        raise ResourceError("there is no such address", where=where, fix="use 127.0.0.1") from error
    if not locked and not is_loopback(str(address[0])):
        raise ConfigurationError(
            "anybody who reaches this machine could use the model: this address needs a key",
            where=where,
            fix=f"set {KEY_VARIABLE}, or use --host 127.0.0.1",
        )
    try:
        listening = socket.create_server(address[:2], family=family, backlog=128)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        raise ResourceError(
            f"cannot listen: {error.strerror}", where=where, fix="choose another --port; 0 is any free one"
        ) from error


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an IP address."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
