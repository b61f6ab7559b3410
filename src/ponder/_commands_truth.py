"""The commands that judge: verdicts, comparisons, costs and claims. Heavy things are imported inside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ponder._options import Json, Prices


def register(app: typer.Typer) -> None:
    """Add every command of this file, in the order in which help lists them."""
    for command in (verify, audit, compare, report, ledger, claim, decontaminate):
        app.command()(command)


def verify(
    cases: Annotated[Path, typer.Argument(help="JSONL of {answer, response[, id, meta]}; - reads standard input.")],
    verifier: Annotated[str, typer.Option(help="Verifier: a bare name, or a dotted module of your own.")],
    out: Annotated[Path | None, typer.Option(help="Write the verdicts there.")] = None,
    require_isolation: Annotated[
        str | None, typer.Option(help="Refuse to run code behind less: bubblewrap, lockdown or wasm.")
    ] = None,
) -> None:
    """Judge responses: one verdict per line."""
    from ponder._cli_tasks import verify_cases
    from ponder.sandbox.probe import require

    require(require_isolation)
    verify_cases(cases, verifier, out)


def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="A B ...", help="Run or stage folders; FOLDER:MODEL is one of its models.")
    ],
    noise: Annotated[
        bool, typer.Option("--noise", help="How far the seed alone moves a score: all are one model under other seeds.")
    ] = False,
    floor: Annotated[
        list[str] | None,
        typer.Option(help="One model under another seed; several of them mark the differences that are noise."),
    ] = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Compare even what was not measured alike.")] = False,
    as_json: Json = False,
) -> None:
    """Compare evaluations, problem by problem.

    Every further one is compared with the first. Refuses when prompts, answer rules or sampling differ. Says what is
    shown, what is not, and what so many problems could have shown.
    """
    from ponder._cli_compare import compare_runs, measure_noise

    if noise:
        measure_noise(runs, anyway=anyway, as_json=as_json)
    else:
        compare_runs(runs, floor or [], anyway=anyway, as_json=as_json)


def audit(
    verifier: Annotated[str, typer.Argument(help="Verifier, dotted module of your own, or task.")],
    bank: Annotated[
        Path | None, typer.Option(help="JSONL of {answer, response, expected[, id, kind, prompt, meta]}.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Of the answers: number, choice, text or none. [default: guessed]")
    ] = None,
    max_false_positive: Annotated[float, typer.Option(min=0.0, max=1.0, help="Fail above this rate.")] = 0.01,
    max_false_negative: Annotated[float, typer.Option(min=0.0, max=1.0, help="Fail above this rate.")] = 0.05,
    limit: Annotated[int, typer.Option(min=1, help="Problems to generate items from.")] = 24,
    limit_seconds: Annotated[float, typer.Option(min=0.01, help="A verdict that takes longer hangs.")] = 30.0,
    data: Annotated[Path | None, typer.Option("--data", help="File that the task reads.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Of the task.")] = None,
    as_json: Json = False,
) -> None:
    """Measure a verifier's mistakes.

    Rates of false verdicts, cheats that must be paid nothing, and whether it decides alike everywhere.
    """
    from ponder._cli_audit import run_audit
    from ponder.audits.audit import Bounds

    bounds = Bounds(false_positive=max_false_positive, false_negative=max_false_negative)
    code = run_audit(
        verifier,
        bank,
        kind=kind,
        bounds=bounds,
        limit=limit,
        limit_seconds=limit_seconds,
        data=data,
        sets=sets or [],
        as_json=as_json,
    )
    raise typer.Exit(code)


def report(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    prices: Prices = None,
    max_memory: Annotated[str | None, typer.Option(help="Limit for what is deployed, such as 2GB.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Limit for an answer.")] = None,
    max_joules: Annotated[float | None, typer.Option(help="Limit for an answer.")] = None,
    max_money: Annotated[float | None, typer.Option(help="Limit for an answer, in its currency.")] = None,
    as_json: Json = False,
) -> None:
    """Show the results of a run.

    Prints the table and writes the report page; --json prints every figure instead. With a limit, says which model to
    deploy.
    """
    from ponder._cli_run import show_report
    from ponder.report.limits import limits_from

    limits = limits_from(max_memory, max_seconds, max_joules, max_money)
    show_report(run, as_json=as_json, prices=prices, limits=limits)


def ledger(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    answers: Annotated[bool, typer.Option("--answers", help="A JSON line for every answer instead.")] = False,
    prices: Prices = None,
    as_json: Json = False,
) -> None:
    """Show what a run used up.

    Tokens, time, memory, energy and money of every stage over all its attempts.
    """
    from ponder._cli_ledger import show_ledger

    show_ledger(run, prices, answers=answers, as_json=as_json)


def claim(
    statement: Annotated[str, typer.Argument(help='Such as "deepseek-r1 is 96 % cheaper than o1".')],
    prices: Prices = None,
    day: Annotated[str | None, typer.Option("--date", help="Prices of this day. [default: the latest]")] = None,
    as_json: Json = False,
) -> None:
    """Recompute who is cheaper.

    From list prices, from the tokens that were used, and per solved problem; shows inputs, sources and dates.
    """
    from ponder._cli_claim import check_claim

    raise typer.Exit(check_claim(statement, prices, day, as_json=as_json))


def decontaminate(
    file: Annotated[Path, typer.Argument(help="JSONL, Parquet or plain text of training data, or a stage's folder.")],
    against: Annotated[
        list[str] | None, typer.Option(metavar="TASK[:SPLIT]", help="Task whose test split it is; repeatable.")
    ] = None,
    data: Annotated[list[Path] | None, typer.Option(help="File that the task reads; repeatable, in order.")] = None,
    benchmarks: Annotated[
        Path | None, typer.Option(help="Folder or file of benchmarks. [default: $PONDER_BENCHMARKS]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the rows that are kept there.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 when anything was found.")] = False,
    show_text: Annotated[bool, typer.Option("--show-text", help="Show what was found, not only where.")] = False,
    as_json: Json = False,
) -> None:
    """Find training data that stand in a benchmark.

    Names rows by line and id: equal questions, near duplicates, and runs of 13 and 8 words.
    """
    from ponder._cli_decontaminate import Choices, decontaminate_file

    choices = Choices(against or [], data or [], benchmarks)
    code = decontaminate_file(file, choices, out, check=check, as_json=as_json, show_text=show_text)
    if code:
        raise typer.Exit(code)
