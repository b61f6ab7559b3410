"""What the commands that run stages do: build a recipe, run it, show what came out."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ponder._cli_plan import plan_code, plan_json, plan_text, refusals_of
from ponder._cli_tasks import printable
from ponder.core.errors import Alarm, ConfigurationError, Interrupted, PonderError, ResourceError
from ponder.measure.costs.prices import price_sheet
from ponder.recipe import Recipe, build_recipe, load_recipe
from ponder.report.limits import Limits
from ponder.report.numbers import numbers
from ponder.report.page import write_report
from ponder.report.table import table
from ponder.runner import Planned, fresh_folder, plan_entry, plan_recipe, run_recipe
from ponder.runs.log import Log, may_show_texts
from ponder.runs.plan import remember

RUNS = Path("runs")


def run_file(
    path: Path, out: Path | None, sets: Sequence[str], *, new: bool, as_json: bool, plan: bool = False
) -> None:
    """`ponder run`; with `plan`, every stage is tried out first, and nothing is begun that would be refused."""
    recipe = _load(path, sets)
    folder = _folder(out or RUNS / recipe.name, new=new)
    planned: Sequence[Planned] = ()
    if plan:
        planned = plan_recipe(recipe, folder, Log.for_terminal(as_json=as_json), probe=True)
        if not as_json:
            print(plan_text(planned, folder), file=sys.stderr)
        _raise_refusals(planned)
    again = ["ponder", "run", str(path), *(part for item in sets for part in ("--set", item))]
    _run(recipe, folder, Log.for_terminal(as_json=as_json), again, planned)
    if not as_json:
        show_results(folder)


def run_single(
    kind: str,
    fields: dict[str, Any],
    out: Path | None,
    sets: Sequence[str],
    *,
    new: bool,
    seed: int | None,
    as_json: bool,
    data: Path | None = None,
) -> None:
    """A command that is one stage: the recipe is made of its flags. Without --out every call is a new run."""
    given = {key: value for key, value in fields.items() if value not in (None, [])}
    if data is not None:
        given["tasks"] = [{"use": task, "path": str(data)} for task in given["tasks"]]
    content: dict[str, Any] = {"name": kind, "stage": {kind: given}}
    if seed is not None:
        content["seed"] = seed
    recipe = build_recipe(content, [f"stage.{kind}.{item}" for item in sets])
    folder = _folder(out or RUNS / kind, new=new or out is None)
    # An evaluation's JSON is its result, so its progress must not be on the same stream.
    log = Log.for_terminal(as_json=as_json and kind != "evaluate")
    _run(recipe, folder, log, _command_without_folder())
    if kind == "evaluate" and as_json:
        print(json.dumps(numbers(folder), allow_nan=False))
    elif not as_json:
        show_results(folder)


def plan_file(
    path: Path, out: Path | None, sets: Sequence[str], *, as_json: bool, probe: bool, prices: Path | None
) -> int:
    """`ponder plan`; the exit code tells whether something would be refused."""
    recipe = _load(path, sets)
    folder = out or RUNS / recipe.name
    log = Log.silent() if as_json or not probe else Log.for_terminal(as_json=False)
    planned = plan_recipe(recipe, folder, log, probe=probe, sheet=price_sheet(prices))
    remember(plan_entry(item) for item in planned if item.estimate is not None and not item.estimate.refusals)
    print(json.dumps(plan_json(planned, folder), allow_nan=False) if as_json else plan_text(planned, folder))
    return plan_code(planned)


def show_report(folder: Path, *, as_json: bool, prices: Path | None = None, limits: Limits | None = None) -> None:
    """`ponder report`."""
    sheet = price_sheet(prices)
    found = numbers(folder, sheet, limits)
    if as_json:
        print(json.dumps(found, allow_nan=False))
        return
    print(table(found))
    print(f"\nreport: {write_report(folder, folder / 'report' / 'report.html', sheet, limits)}")


def show_results(folder: Path) -> None:
    """What a run found, where it lies, and what to do next."""
    found = numbers(folder)
    if found["evaluations"]:
        print(table(found))
    print(f"\nrun:    {folder}")
    for page in sorted(folder.glob("*/*.html")):
        print(f"report: {page}")
    served: list[Path] = []
    for release in sorted(folder.glob("*/release/release.json")):
        print(f"ship:   {release.parent}")
        served += sorted(release.parent.glob("*.gguf"))
    models = sorted(folder.glob("*/model"), key=lambda path: path.stat().st_mtime)
    print("next:   " + f"ponder report {shlex.quote(str(folder))} --json")
    if served:
        print(f"        ponder serve {shlex.quote(str(served[-1]))}")
    if models:
        print(f"        ponder chat {shlex.quote(str(models[-1]))}")


def labelled(models: Sequence[str]) -> list[str] | dict[str, str]:
    """Models as given, or a mapping when some are written LABEL=MODEL.

    Raises:
        ConfigurationError: If two have one label.
    """
    pairs = [re.match(r"([\w.-]+)=(.+)", model) for model in models]
    if not any(pairs):
        return list(models)
    named = [(pair[1], pair[2]) if pair else (model, model) for model, pair in zip(models, pairs, strict=True)]
    if len(dict(named)) < len(named):
        raise ConfigurationError("two models have the same label", where="--model")
    return dict(named)


def teachers(models: Sequence[str]) -> str | list[str] | dict[str, str]:
    """One teacher as it is, several as `labelled` has them."""
    named = labelled(models)
    return models[0] if isinstance(named, list) and len(named) == 1 else named


def _load(path: Path, sets: Sequence[str]) -> Recipe:
    """A recipe file; plug-ins that lie beside it can be named in it."""
    sys.path.append(str(path.resolve().parent))
    return load_recipe(path, sets)


def _raise_refusals(planned: Sequence[Planned]) -> None:
    for stage, refusal in refusals_of(planned):
        kind = ResourceError if refusal.exit_code == ResourceError.exit_code else ConfigurationError
        raise kind(f"{stage}: {refusal.what}", where=refusal.where, fix=refusal.fix)


def _run(recipe: Recipe, folder: Path, log: Log, again: Sequence[str], planned: Sequence[Planned] = ()) -> None:
    command = shlex.join([*again, "--out", str(folder)])
    try:
        run_recipe(recipe, folder, log, planned)
    except (Interrupted, KeyboardInterrupt) as error:
        what, how = "stopped; ", ""
        if isinstance(error, Interrupted) and error.where:  # a limit stopped it, not the user
            what, how = f"{error.what}; ", f"{error.fix}\n         "
        raise Interrupted(
            f"{what}what is done is stored", where=str(folder), fix=f"{how}resume with: {command}"
        ) from error
    except Alarm as alarm:
        if may_show_texts(sys.stderr):
            print(printable(alarm.shown), file=sys.stderr)
        key = f"stage.{alarm.stage}.tripwires" if again[1] == "run" else "tripwires"
        cut = " ".join(f"--set {key}.{wire}=off" for wire in alarm.wires)
        raise PonderError(
            alarm.what,
            where=alarm.where,
            fix="look at the samples there; to go on as if nothing had been seen up to here:\n"
            f"    {command} --set {key}.acknowledged={alarm.next_step}\n"
            f"  to go on without the wire:\n    {command} {cut}",
        ) from alarm


def _folder(path: Path, *, new: bool) -> Path:
    return fresh_folder(path) if new else path


def _command_without_folder() -> list[str]:
    """The command line as it was given, without what chose the folder."""
    words = ["ponder"]
    given = iter(sys.argv[1:])
    for word in given:
        if word == "--out":
            next(given, None)
        elif word != "--new" and not word.startswith("--out="):
            words.append(word)
    return words
