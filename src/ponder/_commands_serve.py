"""The command that serves a model. Heavy things are imported inside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    model: Annotated[str, typer.Argument(help="pocket-base, pocket-teacher, a folder, a hub id or a .gguf file.")],
    host: Annotated[str, typer.Option(help="Address to listen on; all but this machine's need a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 is any free one.")] = 8000,
    name: Annotated[str | None, typer.Option(help="What clients call the model. [default: its name]")] = None,
    keys: Annotated[Path | None, typer.Option(help="File with a key on each line, which only you may read.")] = None,
    audit: Annotated[Path | None, typer.Option(help="File for a line about every request.")] = None,
    log_content: Annotated[bool, typer.Option("--log-content", help="Put prompts and answers there too.")] = False,
    break_loops: Annotated[bool, typer.Option("--break-loops", help="Close thoughts that repeat themselves.")] = False,
    max_thinking_tokens: Annotated[
        int | None, typer.Option(min=0, help="Of a thought, where a request does not say.")
    ] = None,
    answer_within: Annotated[
        str | None, typer.Option(help="Think as long as lets nine of ten answers come in this time: 8s, 500ms.")
    ] = None,
    curve: Annotated[
        Path | None, typer.Option(help="Evaluation with --budgets, from which --answer-within chooses.")
    ] = None,
) -> None:
    """Serve a model over HTTP, as OpenAI's interface has it.

    Clients must show a key of $PONDER_SERVE_KEY (commas between several) or of --keys, if one is set. Ctrl-C or
    SIGTERM lets running answers end.
    """
    from ponder._cli_serve import serve_model

    serve_model(
        model, host, port, keys, name=name, audit=audit, log_content=log_content,
        break_loops=break_loops, max_thinking_tokens=max_thinking_tokens,
        answer_within=answer_within, curve=curve,
    )  # fmt: skip
