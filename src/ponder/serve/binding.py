"""Where the server listens, and whether it may: others than this machine only get in with a key."""

from __future__ import annotations

import ipaddress
import os
import socket

from ponder.core.errors import ConfigurationError, ResourceError

KEY_VARIABLE = "PONDER_SERVE_KEY"


def read_key() -> str | None:
    """The key that clients must show, from the environment only: arguments and files are seen by others.

    Raises:
        ConfigurationError: If it is set to something that no header can carry.
    """
    key = os.environ.get(KEY_VARIABLE)
    if key is not None and not (key and key.isascii() and key.isprintable() and key == key.strip()):
        raise ConfigurationError(
            "the key is empty, or has characters that a header cannot carry",
            where=KEY_VARIABLE,
            fix="unset it, or use letters and digits",
        )
    return key


def bind(host: str, port: int, key: str | None) -> socket.socket:
    """A listening socket.

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
    if key is None and not is_loopback(str(address[0])):
        raise ConfigurationError(
            "anybody who reaches this machine could use the model: this address needs a key",
            where=where,
            fix=f"set {KEY_VARIABLE}, or use --host 127.0.0.1",
        )
    try:
        return socket.create_server(address[:2], family=family, backlog=128)
    except OSError as error:
        raise ResourceError(
            f"cannot listen: {error.strerror}", where=where, fix="choose another --port; 0 is any free one"
        ) from error


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an IP address."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
