"""Loads a model and serves it until told to stop."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from ponder.core.errors import ConfigurationError
from ponder.core.plugins import load_plugin
from ponder.core.types import Record, Sampling
from ponder.measure.costs.energy import machine_meter
from ponder.measure.costs.prices import price_sheet
from ponder.models.artefacts import artefact_engine
from ponder.models.load import load_model
from ponder.serve.app import Service, application
from ponder.serve.audit import Audit
from ponder.serve.binding import is_loopback
from ponder.serve.budgets import Thinking
from ponder.serve.connection import connection_of
from ponder.serve.engine import Engine
from ponder.serve.gguf_worker import GgufWorker
from ponder.serve.guard import LOOPBACK_HOSTS
from ponder.serve.keys import Keys
from ponder.serve.limits import Limits
from ponder.serve.spending import Purse
from ponder.serve.watch import Watch
from ponder.serve.worker import Worker

MAX_HEADER_BYTES = 16 * 1024


class Options(Record):
    """How a model is served."""

    name: str | None = None
    """What clients call it; None: its own name, or the folder's."""
    limits: Limits = Limits()
    thinking: Thinking = Thinking()
    audit: Path | None = None
    """File for a line about every request."""
    log_content: bool = False
    """Whether these lines hold prompts and answers."""


def serve(
    model: str, bound: socket.socket, keys: Keys, announce: Callable[[str], None], options: Options | None = None
) -> None:
    """Serve a model until SIGINT or SIGTERM, then let what has begun come to its end.

    Args:
        model: A `.gguf` file, or as for `ponder.models.load.resolve_model`.
        bound: Listening socket, see `ponder.serve.binding.bind`; closed in the end.
        keys: That clients must show.
        announce: Told the server's URL once it is ready.
        options: How.

    Raises:
        ConfigurationError: If the model cannot be loaded or cannot think as asked, or a price sheet cannot be read.
        ResourceError: If the audit log cannot be written.
    """
    options = options or Options()
    limits = options.limits
    with bound:
        path = Path(model).expanduser()
        name = options.name or (path.resolve().name if path.exists() else model)
        worker, files = _engine(model, path, name, limits.requests)
        asked = options.thinking
        worker.check(Sampling(max_thinking_tokens=asked.max_tokens, break_loops=asked.break_loops))
        service = Service(
            worker,
            name,
            limits,
            thinking=asked,
            purse=Purse(name, machine_meter(), price_sheet()),
            audit=None if options.audit is None else Audit(options.audit, options.log_content),
            watch=Watch(files),
        )
        address = bound.getsockname()
        hosts = LOOPBACK_HOSTS if is_loopback(address[0]) else None
        app = application(service, keys=keys, hosts=hosts, limits=limits)
        server = uvicorn.Server(_config(app, limits))
        for number in (signal.SIGTERM, signal.SIGINT):  # a stop that was asked for is no failure: exit code 0
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        shown = f"[{address[0]}]" if bound.family == socket.AF_INET6 else address[0]
        announce(f"http://{shown}:{address[1]}")
        server.run(sockets=[bound])


def _engine(model: str, path: Path, name: str, requests: int) -> tuple[Engine, Path]:
    """What answers, and the files that it was loaded from.

    Raises:
        ConfigurationError: If no engine here serves this.
    """
    kind = artefact_engine(path)
    if kind is None:
        loaded = load_model(model)
        return Worker(loaded, name, requests), loaded.path
    if kind != "gguf":
        raise ConfigurationError(f"an artefact for {kind} is not served", where=model, fix="serve a .gguf file")
    return GgufWorker(load_plugin("engines", kind)(path), requests), path


def _config(app: object, limits: Limits) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=connection_of(limits.head_seconds, limits.read_seconds),
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
