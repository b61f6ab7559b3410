"""Keeps this process and its children on this machine: no connection elsewhere, no look-up of another name.

Everything that Python opens is refused by the interpreter itself (an audit hook, PEP 578), whichever library asks.
Native code that opens sockets past Python is not seen; Ponder uses none that does.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from ponder.core.errors import ResourceError

VARIABLE = "PONDER_OFFLINE"
"""Set to 1, every process that imports Ponder stays offline; `ponder --offline` sets it for itself and its children."""
SWITCHES = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "WANDB_MODE": "offline",
}
"""What other libraries read for themselves, so that they say so instead of trying."""
_LOOK_UPS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
_SENDS = ("socket.connect", "socket.sendto", "socket.sendmsg")

attempts: list[str] = []
"""Every refusal of this process, in order: what was tried and where it led."""
_guarding = False


def go_offline() -> None:
    """Refuse connections from here on, in children that import Ponder as well, and tell other libraries."""
    os.environ.update({VARIABLE: "1", **SWITCHES})
    refuse_connections()


def go_offline_if_told() -> None:
    """Do so when the environment says it."""
    if os.environ.get(VARIABLE, "") == "1":
        go_offline()


def refuse_connections() -> None:
    """Refuse connections of this process until it ends; a hook of the interpreter cannot be taken away."""
    global _guarding
    if not _guarding:
        _guarding = True
        sys.addaudithook(_refuse)
        for method in ("connect", "connect_ex", "sendto"):
            setattr(socket.socket, method, _checked(method, getattr(socket.socket, method)))


def require_here(host: str) -> None:
    """Call this before a library is asked to connect; a proxy of this machine would lead away unseen.

    Raises:
        ResourceError: If the process is offline and the host is another machine.
    """
    if _guarding and not stays_here(host):
        _say("connect", host)


def stays_here(host: str | bytes | None) -> bool:
    """Whether a host is this machine: a loopback address, `localhost`, or none.

    Example:
        >>> stays_here("127.0.0.1"), stays_here("::1"), stays_here("localhost."), stays_here("example.org")
        (True, True, True, False)
    """
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if not name or name.rstrip(".").lower() == "localhost":
        return True
    number = _number(name)
    return number is not None and (number.is_loopback or number.is_unspecified)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _SENDS:
        _check(event, arguments[1])
    elif event in _LOOK_UPS:
        host = arguments[0]
        if not stays_here(host) and _number(_shown(host)) is None:  # a number is not looked up
            _say(event, _shown(host))


def _checked(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, refused before it looks a name up: the interpreter tells its hooks only after that."""

    @wraps(method)
    def call(self: socket.socket, *arguments: Any) -> Any:
        _check(f"socket.{name}", arguments[-1] if arguments else None)
        return method(self, *arguments)

    return call


def _check(event: str, address: Any) -> None:
    """An address that is no tuple is of this machine (a path), or of a socket that was connected before."""
    host = address[0] if isinstance(address, tuple) and address else None
    if isinstance(host, str | bytes) and not stays_here(host):
        _say(event, _shown(host))


def _say(event: str, host: str) -> None:
    attempts.append(f"{event} {host}")
    raise ResourceError(
        f"offline: a connection to {host!r} was refused",
        where=event,
        fix=f"leave out --offline (or unset {VARIABLE}), or use a model, data and servers of this machine",
    )


def _number(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _shown(host: str | bytes) -> str:
    return host.decode("ascii", "replace") if isinstance(host, bytes) else host
