"""The command line. Heavy things are imported inside the commands, so that `ponder --help` answers at once.

Exit codes: 0 done, 1 a check failed, 2 usage or configuration, 3 something missing or blocked, 4 interrupted
and resumable.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ponder import __version__, _commands_serve, _commands_traces, _commands_truth
from ponder._options import Data, Json, Limit, Model, New, Out, Prices, Problems, Samples, Seed, Sets, Split, Tasks
from ponder.core.errors import Interrupted, PonderError
from ponder.core.offline import go_offline

UNSAID = "\n  fix:   run again with --verbose; what a library says is left out here, because it may quote your data"


class _Guarded(TyperGroup):
    """Turns exceptions into one readable message and the right exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; usage errors stay with typer."""
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
            return result
        except (typer.Exit, typer.Abort):
            raise
        except BrokenPipeError:  # whoever read our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise typer.Exit(0) from None
        except KeyboardInterrupt:
            _complain("stopped at once; what was stored stays valid, and the same command resumes")
            raise typer.Exit(Interrupted.exit_code) from None
        except Exception as error:
            if hasattr(error, "format_message"):  # a usage error
                raise
            raise typer.Exit(_report(error, verbose=bool(ctx.params.get("verbose")))) from None


app = typer.Typer(
    cls=_Guarded,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Entry point of the `ponder` command."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a console that lacks a letter
    sys.path.append(os.getcwd())  # a user's own plug-ins lie where they work, and shadow nothing
    arguments = sys.argv[1:]
    for everywhere in ("--verbose", "--offline"):  # accepted anywhere
        if everywhere in arguments:
            arguments = [everywhere, *(argument for argument in arguments if argument != everywhere)]
    if sys.stderr is not None:
        logging.basicConfig(level=logging.INFO if sys.stderr.isatty() else logging.WARNING, format="%(message)s")
    app(arguments, prog_name="ponder")


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the traceback of an error.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Refuse every connection to another machine.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False,
) -> None:
    """Turn a small language model into a reasoning model, and prove what it is worth."""
    if offline:
        go_offline()
    if version:
        typer.echo(f"ponder {__version__}")
        raise typer.Exit


@app.command()
def run(
    recipe: Path,
    out: Out = None,
    new: New = False,
    sets: Sets = None,
    as_json: Json = False,
    plan: Annotated[bool, typer.Option("--plan", help="Plan first, and begin nothing that would be refused.")] = False,
) -> None:
    """Run a recipe, or resume it.

    The same command again resumes a run that was stopped, and does nothing when the run is done.
    """
    from ponder._cli_run import run_file

    run_file(recipe, out, sets or [], new=new, as_json=as_json, plan=plan)


@app.command()
def plan(
    recipe: Path,
    out: Out = None,
    sets: Sets = None,
    no_probe: Annotated[bool, typer.Option("--no-probe", help="Compute from shapes; try nothing out.")] = False,
    prices: Prices = None,
    as_json: Json = False,
) -> None:
    """Show what a recipe would do and cost.

    Rows, tokens, memory, disk, time and money of every stage that is not done, and what would stop the run. Each stage
    is tried out for up to 20 seconds on copies; nothing is written into the run.
    """
    from ponder._cli_run import plan_file

    if code := plan_file(recipe, out, sets or [], as_json=as_json, probe=not no_probe, prices=prices):
        raise typer.Exit(code)


@app.command()
def tasks(
    name: Annotated[str | None, typer.Argument(help="Show problems of this task.")] = None,
    split: Annotated[str, typer.Option(help="Split to show.")] = "train",
    limit: Annotated[int, typer.Option(min=1, help="Problems to show.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of the problems.")] = 0,
    data: Data = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """List the tasks, or show problems of one.

    Problems come with their answers and worked solutions.
    """
    from ponder._cli_tasks import list_tasks, show_problems

    if name is None:
        list_tasks(as_json=as_json)
    else:
        show_problems(name, split, limit, seed, data, sets or [], as_json=as_json)


@app.command()
def pretrain(
    task: Tasks,
    out: Out = None,
    new: New = False,
    seed: Seed = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Train a new model on the texts of tasks."""
    _single("pretrain", {"tasks": task}, out, sets, new=new, seed=seed, as_json=as_json)


@app.command()
def generate(
    model: Annotated[list[str], typer.Option("--model", help="Teacher, or LABEL=TEACHER; repeatable.")],
    task: Tasks,
    problems: Problems = None,
    samples: Samples = None,
    split: Split = None,
    data: Data = None,
    cost_limit: Annotated[float | None, typer.Option(min=0.0, help="Pause at this cost of served teachers.")] = None,
    token_limit: Annotated[int | None, typer.Option(min=0, help="Pause after so many tokens.")] = None,
    time_limit: Annotated[float | None, typer.Option(min=0.0, help="Pause after so many seconds of sampling.")] = None,
    out: Out = None,
    new: New = False,
    seed: Seed = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Sample teachers and keep their judged traces.

    A limit pauses the work; the same command with a higher limit goes on.
    """
    from ponder._cli_run import teachers

    fields = {"model": teachers(model), "tasks": task, "problems": problems, "samples": samples, "split": split}
    fields |= {"cost_limit": cost_limit, "token_limit": token_limit, "time_limit": time_limit}
    _single("generate", fields, out, sets, data=data, new=new, seed=seed, as_json=as_json)


@app.command()
def distill(
    model: Model,
    traces: Annotated[str, typer.Option(help="Traces (.jsonl, .parquet) or the folder of a stage.")],
    out: Out = None,
    new: New = False,
    seed: Seed = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Teach a student the verified traces of a teacher."""
    fields = {"model": model, "traces": traces}
    _single("distill", fields, out, sets, new=new, seed=seed, as_json=as_json)


@app.command()
def reinforce(
    model: Model,
    task: Tasks,
    problems: Problems = None,
    split: Split = None,
    data: Data = None,
    out: Out = None,
    new: New = False,
    seed: Seed = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Improve a model with verifiable rewards."""
    fields = {"model": model, "tasks": task, "problems": problems, "split": split}
    _single("reinforce", fields, out, sets, data=data, new=new, seed=seed, as_json=as_json)


@app.command()
def evaluate(
    model: Annotated[list[str], typer.Option("--model", help="Model, or LABEL=MODEL; repeatable.")],
    task: Tasks,
    data: Data = None,
    split: Annotated[list[str] | None, typer.Option("--split", help="Split; repeatable.")] = None,
    limit: Limit = None,
    samples: Samples = None,
    protocol: Annotated[str | None, typer.Option(help="Sampling by name: published or greedy.")] = None,
    budgets: Annotated[str | None, typer.Option(help="Thinking budgets in tokens to measure too: 0,32,64.")] = None,
    out: Out = None,
    new: New = False,
    seed: Seed = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Measure and compare models on tasks.

    Accuracy with its interval, lengths, times, and the paired differences between models.
    """
    from ponder._cli_run import labelled

    fields = {"models": labelled(model), "tasks": task, "splits": split, "limit": limit, "samples": samples}
    fields |= {"protocol": protocol, "budgets": budgets}
    if seed is not None:
        fields["seed"] = seed  # the evaluation has a seed of its own
    _single("evaluate", fields, out, sets, data=data, new=new, seed=None, as_json=as_json)


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="pocket-base, pocket-teacher, a folder, a hub id or a .gguf file.")],
    prompt: Annotated[str | None, typer.Option(help="Ask this once instead of a conversation.")] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Thinking and answer together.")] = 1024,
    max_thinking_tokens: Annotated[int | None, typer.Option(min=0, help="Then it must answer.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Talk to a model; its thinking is shown dimmed."""
    from ponder._cli_chat import converse

    converse(model, prompt, temperature, max_new_tokens, seed, max_thinking_tokens)


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="pocket-base, pocket-teacher, a folder or a hub id.")],
    to: Annotated[
        list[str] | None, typer.Option("--to", help="Forms, such as gguf:q8_0,q4_k_m; repeatable. [default: gguf:q8_0]")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option("--task", help="On whose problems it must hold; repeatable. [default: skills]")
    ] = None,
    data: Data = None,
    split: Annotated[str | None, typer.Option(help="Split of the task. [default: test]")] = None,
    limit: Limit = None,
    confirm_terms: Annotated[
        bool, typer.Option("--confirm-terms", help="You may ship it, though a licence is unknown or forbids it.")
    ] = False,
    out: Out = None,
    new: New = False,
    seed: Seed = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Write a model for other runtimes.

    Tokens, prompts, expectations and answers are compared with the model's; what breaks a bound is not let go (exit 1).
    """
    from ponder.core.errors import ConfigurationError

    fields = {"model": model, "to": to, "tasks": task, "split": split, "limit": limit}
    fields |= {"confirm_terms": confirm_terms or None}
    if data is not None and not task:
        raise ConfigurationError("--data needs a task that reads it", where="--data", fix="add --task jsonl")
    _single("export", fields, out, sets, data=data, new=new, seed=seed, as_json=as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check this machine and this installation.

    Each thing that is amiss comes with a way to mend it.
    """
    from ponder.doctor import show_checks

    raise typer.Exit(show_checks(as_json=as_json))


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to create.")],
    name: Annotated[str, typer.Option(help="Name of the run and of the verifier's package.")] = "sums",
    force: Annotated[bool, typer.Option("--force", help="Write beside what is there; nothing is overwritten.")] = False,
) -> None:
    """Start a task of your own.

    Writes data, a recipe and a verifier that run as they are.
    """
    from ponder.scaffold import scaffold

    for path in scaffold(folder, name, force=force):
        typer.echo(path)
    typer.echo(f"\nnext: ponder run {folder / 'recipe.yaml'} --out {folder / 'run'}")


_commands_serve.register(app)
_commands_traces.register(app)
_commands_truth.register(app)


def _single(
    kind: str,
    fields: dict[str, Any],
    out: Path | None,
    sets: list[str] | None,
    *,
    new: bool,
    seed: int | None,
    as_json: bool,
    data: Path | None = None,
) -> None:
    from ponder._cli_run import run_single

    run_single(kind, fields, out, sets or [], new=new, seed=seed, as_json=as_json, data=data)


def _report(error: Exception, *, verbose: bool) -> int:
    """Tell the user, and choose the exit code."""
    if verbose:
        traceback.print_exception(error)
    if isinstance(error, PonderError):
        _complain(str(error))
        return error.exit_code
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("ponder"):
        _complain(f"the package {error.name!r} is not installed\n  fix:   pip install {error.name}")
        return 3
    if isinstance(error, MemoryError):
        _complain("memory ran out\n  fix:   smaller batches or a smaller model; `ponder plan` estimates the need")
        return 3
    _complain(f"unexpected {type(error).__name__}\n  where: {_place(error)}{'' if verbose else UNSAID}")
    return 1


def _place(error: Exception) -> str:
    """File and line of Ponder's in which an error came up; of a library, when none of Ponder's is on the way."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "ponder" in Path(frame.filename).parts] or frames
    return "unknown" if not own else f"{'/'.join(Path(own[-1].filename).parts[-2:])}:{own[-1].lineno}"


def _complain(text: str) -> None:
    with suppress(OSError):  # nobody may be there to read it; the exit code still tells
        print(f"error: {text}", file=sys.stderr)


if __name__ == "__main__":
    main()
