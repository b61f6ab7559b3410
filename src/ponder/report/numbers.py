"""The numbers of a run, counted again from the traces that it stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ponder.core.types import Json
from ponder.measure.costs.answers import cost_rows, front_rows
from ponder.measure.costs.prices import PriceSheet, price_sheet
from ponder.measure.games import game_rows
from ponder.measure.lengths import length_rows
from ponder.measure.rating import add_percentiles
from ponder.measure.scores import Answer, default_pairs, model_rows, pair_rows
from ponder.report.beside import beside_rows
from ponder.report.deploy import FIGURES, ToldApart, deploy_rows
from ponder.report.evaluations import Evaluation, find_evaluations
from ponder.report.foreseen import foreseen_rows
from ponder.report.ledgers import stage_rows
from ponder.report.limits import Limits, limits_of_run


def numbers(run_folder: Path, sheet: PriceSheet | None = None, limits: Limits | None = None) -> Json:
    """Every figure of a run's evaluations, for machines.

    Args:
        run_folder: A run, finished or not.
        sheet: Prices; None: the shipped ones, and those that `PONDER_PRICES` names.
        limits: For what is to be deployed; None: those that the run's own report has.

    Returns:
        `models` (a null task, skill or steps means all of them), `pairs`, `lengths` (success per step), `costs`,
        `games`, `fronts` (Pareto), `beside` (published figures beside the measured), `stages` (what each used up),
        `foreseen` (what each was expected to, and the error), `deploy` (which model, under `limits`) and
        `evaluations` (what was measured and how); each row names its `stage`. An unfinished evaluation counts what it
        has and is not `complete`.

    Raises:
        ResourceError: If the folder is missing or a file in it is damaged.
    """
    found = find_evaluations(run_folder)
    return numbers_of(run_folder, [(evaluation, evaluation.answers()) for evaluation in found], sheet, limits)


def numbers_of(
    run_folder: Path,
    evaluations: Sequence[tuple[Evaluation, Sequence[Answer]]],
    sheet: PriceSheet | None = None,
    limits: Limits | None = None,
) -> Json:
    """`numbers`, of evaluations whose answers were read before."""
    prices = price_sheet() if sheet is None else sheet
    result: Json = {
        "run": run_folder.resolve().name,
        "evaluations": [],
        "models": [],
        "pairs": [],
        "lengths": [],
        "costs": [],
        "games": [],
        "fronts": [],
        "beside": [],
        "stages": stage_rows(run_folder, prices),
        "foreseen": [],
        "deploy": [],
    }
    bounds = limits_of_run(run_folder) if limits is None else limits
    result["limits"] = {FIGURES[name]: value for name, value in bounds.bounds.items()}
    result["foreseen"] = foreseen_rows(run_folder, result["stages"])
    for evaluation, answers in evaluations:
        place = {"stage": evaluation.stage}
        result["evaluations"].append({**place, **_described(evaluation, len(answers))})
        rows = add_percentiles(model_rows(answers), evaluation.histogram())
        names = {str(model["label"]): str(model["name"]) for model in evaluation.plan["models"]}
        costs = cost_rows(evaluation.chunks(), answers, prices, names)
        result["models"] += [{**place, **row} for row in rows]
        result["pairs"] += [{**place, **row} for row in pair_rows(answers, default_pairs(evaluation.labels))]
        result["lengths"] += [{**place, **row} for row in length_rows(answers)]
        result["games"] += [{**place, **row} for row in game_rows(evaluation.games())]
        result["costs"] += [{**place, **row} for row in costs]
        result["fronts"] += [{**place, **row} for row in front_rows(rows, costs)]
        chosen = deploy_rows(rows, costs, bounds, _told_apart(answers))
        result["deploy"] += [{**place, **row} for row in chosen]
        result["beside"] += [{**place, **row} for row in beside_rows(evaluation.plan, rows, costs)]
    return result


def _told_apart(answers: Sequence[Answer]) -> Callable[[str], ToldApart]:
    """Compares models of a split, paired by problem; p-values are corrected for all of one call's comparisons."""

    def of_split(split: str) -> ToldApart:
        here = [answer for answer in answers if answer.split == split]

        def compare(one: str, others: Sequence[str]) -> dict[str, Json]:
            return {row["b"]: row for row in pair_rows(here, [(one, other) for other in others])}

        return compare

    return of_split


def _described(evaluation: Evaluation, answers: int) -> Json:
    plan = evaluation.plan
    expected = plan["problems"] * plan["samples"] * len(plan["models"])
    return {**plan, "models": evaluation.labels, "answers": answers, "complete": answers == expected}
