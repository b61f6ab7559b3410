"""The commands about traces and the card of what learnt from them. Heavy things are imported inside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ponder._options import Json, New, Out, Seed, Sets


def register(app: typer.Typer) -> None:
    """Add every command of this file, in the order in which help lists them."""
    for command in (select, grade, card, purge):
        app.command()(command)
    group = typer.Typer(help="Export and import traces.", no_args_is_help=True, rich_markup_mode=None)
    group.command("export")(export_traces)
    group.command("import")(import_traces)
    app.add_typer(group, name="traces")


def select(
    traces: Annotated[list[str], typer.Option("--traces", help="File of traces or folder of a stage; repeatable.")],
    policy: Annotated[str | None, typer.Option(help="all, shortest or diverse.")] = None,
    keep: Annotated[int | None, typer.Option(min=1, help="Traces of each problem at most.")] = None,
    out: Out = None,
    new: New = False,
    seed: Seed = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Choose which traces a student learns from."""
    from ponder._cli_run import run_single

    fields = {"traces": traces, "policy": policy, "keep": keep}
    run_single("select", fields, out, sets or [], new=new, seed=seed, as_json=as_json)


def grade(
    model: Annotated[str, typer.Option("--model", help="The student.")],
    traces: Annotated[str, typer.Option(help="File of traces, or folder of a stage.")],
    task: Annotated[list[str] | None, typer.Option("--task", help="Task of the traces; repeatable.")] = None,
    samples: Annotated[int | None, typer.Option(min=0, help="Of the student, per problem.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="File that the task reads.")] = None,
    out: Out = None,
    new: New = False,
    seed: Seed = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Measure a student on traces.

    Its pass rate on every problem, and how unlikely it finds every response.
    """
    from ponder._cli_run import run_single

    fields = {"model": model, "traces": traces, "tasks": task, "samples": samples}
    run_single("grade", fields, out, sets or [], new=new, seed=seed, as_json=as_json, data=data if task else None)


def card(stage: Annotated[Path, typer.Argument(help="Folder of a training stage.")]) -> None:
    """Write the card of a trained model.

    Its base, teachers and their terms, data, contamination and evaluations, as `model/README.md`.
    """
    from ponder.report.provenance import write_card

    typer.echo(write_card(stage))


def purge(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    older_than: Annotated[str | None, typer.Option(help="Only what was last written so long ago: 12h, 30d.")] = None,
    subject: Annotated[
        list[str] | None, typer.Option(help="Only rows of this problem id, or with this value in meta; repeatable.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, what would go is listed.")] = False,
    as_json: Json = False,
) -> None:
    """Remove stored texts of a run.

    Journals, Parquet files, packs, purchases and pages. Figures, settings and weights stay.
    """
    from ponder._cli_purge import purge as purge_run

    purge_run(run, older_than, subject or [], yes=yes, as_json=as_json)


def export_traces(
    source: Annotated[Path, typer.Argument(help="File of traces, or folder of a stage.")],
    to: Annotated[str, typer.Option("--to", help="messages, sharegpt or prompt-completion.")],
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
    kind: Annotated[str | None, typer.Option("--format", help="jsonl or parquet. [default: by the suffix]")] = None,
    reasoning: Annotated[str, typer.Option(help="Thinking inline in its tags, or in a field of its own.")] = "inline",
    everything: Annotated[bool, typer.Option("--all", help="Wrong, unknown and truncated ones too.")] = False,
    as_json: Json = False,
) -> None:
    """Write traces for another tool.

    Right and finished ones, in the columns that `datasets` loads.
    """
    from ponder._cli_traces import export_traces

    export_traces(source, to, kind, out, reasoning, everything=everything, as_json=as_json)


def import_traces(
    file: Annotated[Path, typer.Argument(help="Local JSONL, JSON, CSV or Parquet file.")],
    task: Annotated[str, typer.Option("--task", help="Task whose verifier judges the responses.")],
    out: Annotated[Path, typer.Option("--out", help="File of traces to write, .jsonl or .parquet.")],
    form: Annotated[str, typer.Option("--from", help="Form of the rows.")] = "auto",
    answer: Annotated[str | None, typer.Option(help="Column of the gold answer, or none.")] = None,
    sampler: Annotated[str, typer.Option(help="Who wrote the responses.")] = "",
    licence: Annotated[str | None, typer.Option(help="Licence of the data, such as apache-2.0.")] = None,
    on_bad: Annotated[str, typer.Option("--on-bad", help="At a bad row: stop, or skip and count.")] = "stop",
    trust: Annotated[bool, typer.Option("--trust", help="What cannot be judged counts as right; rows say so.")] = False,
    sets: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Of the task.")] = None,
    as_json: Json = False,
) -> None:
    """Read the traces of another tool.

    Chats, instructions and published sets; every response is judged again.
    """
    from ponder._cli_traces import Import, import_traces

    given = Import(task, form, answer, sampler, licence, on_bad, trust, sets or [])
    import_traces(file, out, given, as_json=as_json)
