"""`ponder serve`: what was asked on the command line, made into a running server."""

from __future__ import annotations

from pathlib import Path

import typer

from ponder.core.errors import ConfigurationError
from ponder.serve.binding import bind
from ponder.serve.budgets import Thinking, budget_of_curve, seconds_of
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
    answer_within: str | None = None,
    curve: Path | None = None,
) -> None:
    """Serve until told to stop; see `ponder.serve.run.serve`.

    Raises:
        ConfigurationError: If the options do not go together.
    """
    if log_content and audit is None:
        raise ConfigurationError("--log-content needs --audit", fix="name a file with --audit")
    if (answer_within is None) != (curve is None) or (curve is not None and max_thinking_tokens is not None):
        raise ConfigurationError(
            "--answer-within goes with --curve, and without --max-thinking-tokens",
            fix="measure a curve: ponder evaluate --model MODEL --task TASK --budgets 0,32,64,128",
        )
    if answer_within is not None and curve is not None:
        choice = budget_of_curve(curve, seconds_of(answer_within))
        max_thinking_tokens = choice.budget
        limit = "no limit" if choice.budget is None else f"{choice.budget} tokens"
        typer.echo(
            f"thinking: {limit}, {100 * choice.accuracy:.1f} % right there, nine of ten answers within "
            f"{choice.seconds:.2g} s (n = {choice.n})",
            err=True,
        )
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
