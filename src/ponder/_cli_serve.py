"""`ponder serve`: what was asked on the command line, made into a running server."""

from __future__ import annotations

from pathlib import Path

import typer

from ponder.core.errors import ConfigurationError
from ponder.serve.binding import bind
from ponder.serve.budgets import Thinking
from ponder.serve.keys import Keys, read_keys
from ponder.serve.run import Options, serve


def serve_model(
    model: str,
    host: str,
    port: int,
    key_file: Path | None,
    *,
    name: str | None,
    audit: Path | None,
    log_content: bool,
    break_loops: bool,
    max_thinking_tokens: int | None,
) -> None:
    """Serve until told to stop; see `ponder.serve.run.serve`.

    Raises:
        ConfigurationError: If the options do not go together.
    """
    if log_content and audit is None:
        raise ConfigurationError("--log-content needs --audit", fix="name a file with --audit")
    keys = Keys(read_keys(key_file))
    bound = bind(host, port, bool(keys))
    if log_content:
        typer.echo(f"LOGGING CONTENT: every prompt and answer is written to {audit}", err=True)
    options = Options(
        name=name,
        thinking=Thinking(max_tokens=max_thinking_tokens, break_loops=break_loops),
        audit=audit,
        log_content=log_content,
    )
    serve(model, bound, keys, lambda url: typer.echo(f"serving {model} at {url}/v1"), options)
