"""The report: one HTML file that holds everything it shows and opens from disk.

Whatever a model wrote is data. It reaches the page through the template's escaping, through the charts'
escaping, or as JSON that the script writes as text; a content security policy allows the page's own script
and style alone.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from ponder.core.types import Json
from ponder.measure.costs.prices import PriceSheet, price_sheet
from ponder.report import figures, foreseen, games, release, table
from ponder.report.beside import REFERENCE, reference, titles
from ponder.report.curves import training_curves
from ponder.report.evaluations import MANIFEST, Evaluation, find_evaluations, read_object, stage_folders
from ponder.report.limits import Limits
from ponder.report.numbers import numbers_of
from ponder.report.traces import browser_data, embedded
from ponder.runs.store import SUMMARY, write_atomic

MAX_ROWS = 200
"""Rows of one table on the page; `ponder report RUN --json` has them all."""
MAX_PANELS = 60
MAX_NOTE = 20_000
"""Characters of one record in the section on how the run was made."""


def write_report(
    run_folder: Path, out: Path | None = None, sheet: PriceSheet | None = None, limits: Limits | None = None
) -> Path:
    """Write the page.

    Args:
        run_folder: A run, finished or not.
        out: The file; `report.html` in the run folder by default.
        sheet: Prices; None: the shipped ones, and those that `PONDER_PRICES` names.
        limits: For what is to be deployed; None: those that the run's own report has.

    Raises:
        ResourceError: If the folder is missing, damaged, or the file cannot be written.
    """
    path = out or run_folder / "report.html"
    write_atomic(path, render(run_folder, sheet, limits).encode("utf-8", "replace"))
    return path


def render(run_folder: Path, sheet: PriceSheet | None = None, limits: Limits | None = None) -> str:
    """The page as text."""
    prices = price_sheet() if sheet is None else sheet
    evaluations = find_evaluations(run_folder)
    answered = [(evaluation, evaluation.answers()) for evaluation in evaluations]
    numbers = numbers_of(run_folder, answered, prices, limits)
    style, script = _asset("page.css"), _asset("page.js")
    environment = Environment(autoescape=True, finalize=_printable, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "percent": table.percent,
        "score": table.score,
        "chance": table.chance,
        "interval": table.interval,
        "quantity": table.quantity,
        "significant": table.significant,
        "money": table.money,
    }
    return environment.from_string(_asset("page.html")).render(
        run=numbers["run"],
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        sections=[
            _with_budgets(_section(numbers, evaluation), found.folder) | _release(found.folder)
            for evaluation, found in zip(numbers["evaluations"], evaluations, strict=True)
        ],
        training=_training(run_folder),
        browser=Markup(embedded(browser_data(answered, prices))),
        records=_records(run_folder, evaluations),
        stages=numbers["stages"],
        foreseen=[foreseen.cells(row) for row in numbers["foreseen"][:MAX_ROWS]],
        foreseen_head=foreseen.HEAD,
        foreseen_note=foreseen.note(numbers["foreseen"]),
        reference=reference(prices) if evaluations else [],
        reference_titles=titles(),
        reference_names=REFERENCE,
        axes=figures.AXIS_NAMES,
        max_rows=MAX_ROWS,
    )


def _section(numbers: Json, evaluation: Json) -> Json:
    """What the template shows of one evaluation: its tables, and the charts it has data for."""
    stage = evaluation["stage"]
    rows, pairs, costs = (
        [row for row in numbers[name] if row["stage"] == stage] for name in ("models", "pairs", "costs")
    )
    played = [row for row in numbers["games"] if row["stage"] == stage]
    overall = [row for row in rows if row["task"] is None and row["steps"] is None]
    by_model = {row["model"]: row for row in costs}
    splits = list(dict.fromkeys(row["split"] for row in overall))
    overall.sort(key=lambda row: splits.index(row["split"]))
    colours = {label: index for index, label in enumerate(evaluation["models"])}
    return {
        "plan": evaluation,
        "sampling": table.sampling(evaluation),
        "splits": splits,
        "colours": colours,
        "lead": [row for row in overall if row["split"] == splits[0]] if splits else [],
        "rows": [{**row, "cost": by_model.get(row["model"], {})} for row in overall],
        "costs": costs,
        "games": [games.cells(row) for row in played[:MAX_ROWS]],
        "games_head": games.HEAD,
        "games_notes": games.notes(played),
        "energy_notes": list(dict.fromkeys(row["energy_note"] for row in costs if row["energy_note"])),
        "money_notes": list(dict.fromkeys(_money_note(row) for row in costs if row["money_per_answer"] is not None)),
        "findings": [row for row in pairs if row["split"] == splits[0]],
        "lengths": [row for row in numbers["lengths"] if row["stage"] == stage],
        "programs": table.program_lines(rows),
        "withheld": any(row["withheld"] for row in rows),
        "deploy": [row for row in numbers["deploy"] if row["stage"] == stage],
        "fronts": [row for row in numbers["fronts"] if row["stage"] == stage],
        "beside": [row for row in numbers["beside"] if row["stage"] == stage],
        "charts": figures.of_evaluation(rows, pairs, costs, colours, evaluation["inside_steps"], numbers["limits"])
        + games.panels(played)
        + figures.of_published([row for row in numbers["beside"] if row["stage"] == stage], colours),
    }


def _with_budgets(section: Json, stage_folder: Path) -> Json:
    """The charts of an evaluation that was measured at several thinking budgets, in front of its others."""
    curve = (read_object(stage_folder / "results.json") or {}).get("curve") or []
    alone = (read_object(stage_folder / "timing.json") or {}).get("alone") or []
    models = list(dict.fromkeys(row["model"] for row in curve))
    return section | {"charts": [*(figures.of_budgets(curve, alone, models) if curve else ()), *section["charts"]]}


def _release(stage_folder: Path) -> Json:
    """What the template shows of a release gate, where the stage is one."""
    found = release.release_of(stage_folder)
    if found is None:
        return {"release": []}
    refused = [(one.form, one.broken) for one in found.artefacts if not one.passed]
    return {"release": release.release_cells(found), "release_head": release.HEAD, "refused": refused}


def _money_note(cost: Json) -> str:
    return f"{', '.join(cost['money_covers'])} ({cost['money_origin']})"


def _training(run_folder: Path) -> list[Json]:
    return [
        {"stage": stage, "panels": figures.of_training(stage, curves)}
        for stage, curves in list(training_curves(run_folder).items())[:MAX_PANELS]
    ]


def _records(run_folder: Path, evaluations: list[Evaluation]) -> list[Json]:
    """How the run was made: recipe, manifest, each stage's summary, and the machine that answered."""
    recipe = run_folder / "recipe.yaml"
    texts = [("recipe", recipe.read_text(errors="replace"))] if recipe.is_file() else []
    found: list[tuple[str, Any]] = [("manifest", read_object(run_folder / MANIFEST))]
    found += [(f"{folder.name}: summary", read_object(folder / SUMMARY)) for folder in stage_folders(run_folder)]
    found += [(f"{evaluation.stage}: machine", evaluation.machine()) for evaluation in evaluations]
    texts += [(name, json.dumps(value, indent=2, ensure_ascii=False)) for name, value in found if value is not None]
    return [{"name": name, "text": text[:MAX_NOTE]} for name, text in texts][:MAX_PANELS]


def _asset(name: str) -> str:
    return files("ponder.report").joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Content security policy: nothing from anywhere, and inside only what was written here."""
    hashes = (b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script))
    style_hash, script_hash = (f"'sha256-{digest}'" for digest in hashes)
    sources = f"style-src {style_hash}; script-src {script_hash}"
    return f"default-src 'none'; {sources}; base-uri 'none'; form-action 'none'"


def _printable(value: Any) -> Any:
    """Control characters are not allowed in HTML; they are shown as the replacement character."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "".join(c if c.isprintable() or c in "\n\t " else "\ufffd" for c in value)
    return value
