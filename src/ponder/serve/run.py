"""Loads a model and serves it until told to stop."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from ponder.models.load import load_model
from ponder.serve.app import Service, application
from ponder.serve.binding import is_loopback
from ponder.serve.guard import LOOPBACK_HOSTS
from ponder.serve.limits import Limits

MAX_HEADER_BYTES = 16 * 1024


def serve(
    model: str,
    bound: socket.socket,
    key: str | None,
    announce: Callable[[str], None],
    name: str | None = None,
    limits: Limits | None = None,
) -> None:
    """Serve a model until SIGINT or SIGTERM, then let what has begun come to its end.

    Args:
        model: As for `ponder.models.load.resolve_model`.
        bound: Listening socket, see `ponder.serve.binding.bind`; closed in the end.
        key: That clients must show.
        announce: Told the server's URL once it is ready.
        name: What clients call the model; by default the name or the folder's name.
        limits: Of requests.

    Raises:
        ConfigurationError: If the model cannot be loaded.
    """
    limits = limits or Limits()
    with bound:
        loaded = load_model(model)
        own_name = name or (Path(model).resolve().name if Path(model).is_dir() else model)
        service = Service(loaded, own_name, limits)
        address = bound.getsockname()
        hosts = LOOPBACK_HOSTS if is_loopback(address[0]) else None
        app = application(service, key=key, hosts=hosts, limits=limits)
        server = uvicorn.Server(_config(app, limits))
        for number in (signal.SIGTERM, signal.SIGINT):  # a stop that was asked for is no failure: exit code 0
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        shown = f"[{address[0]}]" if bound.family == socket.AF_INET6 else address[0]
        announce(f"http://{shown}:{address[1]}")
        server.run(sockets=[bound])


def _config(app: object, limits: Limits) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http="h11",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=limits.drain_seconds,
        limit_concurrency=limits.connections,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
