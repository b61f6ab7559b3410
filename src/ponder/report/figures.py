"""Which charts a run has, and what each of them shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ponder.core.types import Json
from ponder.measure.costs.answers import pareto
from ponder.report import charts
from ponder.report.charts import Mark, Series
from ponder.report.curves import Curve
from ponder.report.table import interval, percent, plain

MAX_MODELS = 16
MAX_GROUPS = 24
MAX_STEPS = 64
AXIS_NAMES = {
    "parameters": "parameters",
    "peak_memory_bytes": "peak memory",
    "seconds_per_answer": "seconds per answer",
    "joules_per_answer": "joules per answer",
    "money_per_answer": "money per answer",
}
NAMES = {
    "loss": "loss",
    "reward": "mean reward",
    "correct": "share correct while sampling",
    "reasons": "share reasoning aloud",
    "truncated": "share truncated",
    "completion_tokens": "tokens per completion",
    "entropy": "entropy (nats per token)",
    "grad_norm": "gradient norm",
    "lr": "learning rate",
}


def of_evaluation(
    rows: Sequence[Json],
    pairs: Sequence[Json],
    costs: Sequence[Json],
    colours: Mapping[str, int],
    inside: int | None,
    limits: Mapping[str, float] | None = None,
) -> list[Json]:
    """Charts of one evaluation as {title, note, svg}; one without data is left out.

    `limits`, by the column of the cost table, are drawn where accuracy is weighed against it.
    """
    known = [row for row in rows if row["accuracy"] is not None and colours[row["model"]] < MAX_MODELS]
    overall = [row for row in known if row["task"] is None and row["steps"] is None]
    by_split = _by("split", overall)
    skill_rows = [row for row in known if row["task"] is not None and row["steps"] is None]
    skills = [_skills(split, part, colours) for split, part in _by("split", skill_rows).items() if len(part) > 1]
    step_rows = [row for row in known if row["task"] is None and row["steps"] is not None]
    steps = _steps(step_rows, colours, inside)
    found = [_accuracy(split, part, colours) for split, part in by_split.items()]
    found += steps[:1] + skills[:1]
    weighed = next(iter(by_split.values()), [])
    found += _tradeoffs(weighed, {row["model"]: row for row in costs}, colours, limits or {})
    found += [_pairs(split, part) for split, part in _by("split", pairs).items()]
    found += steps[1:] + skills[1:]
    return [chart for chart in found if chart is not None]


def of_budgets(curve: Sequence[Json], alone: Sequence[Json], models: Sequence[str]) -> list[Json]:
    """Accuracy against the thought's mean length and against the time of nine of ten answers, of the first split.

    Args:
        curve: As `measure.budgets.curve_rows` gives it.
        alone: As `measure.budgets.alone_rows` gives it.
        models: Labels, by which colours are given.
    """
    seconds = {row["label"]: row["p90_seconds"] for row in alone}
    here = [row for row in curve if row["split"] == curve[0]["split"] and row["accuracy"] is not None]
    places = {row["label"]: (row["thinking_tokens"], seconds.get(row["label"])) for row in here}
    axes = (
        ("Accuracy by length of the thought", "thinking tokens, mean"),
        ("Accuracy by time", "seconds that nine of ten answers take, one at a time"),
    )
    found: list[Json] = []
    for number, (title, axis) in enumerate(axes):
        series = []
        for model, rows in _by("model", here).items():
            marks = [
                charts.Mark(
                    model, row["accuracy"], row["low"], row["high"], x=x,
                    hint=f"budget {'none' if row['budget'] is None else row['budget']}: {percent(row['accuracy'])}",
                )
                for row in rows
                if (x := places[row["label"]][number]) is not None
            ]  # fmt: skip
            marks.sort(key=lambda mark: mark.x)
            if len(marks) > 1:
                series.append(charts.Series(model, models.index(model), marks))
        if series:
            legend = [(one.label, one.colour) for one in series]
            picture = charts.lines(title, series, axis, whole=False)
            found.append({"title": title, "note": "with 95 % intervals", "legend": legend, "svg": picture})
    return found


def of_training(stage: str, curves: Sequence[Curve]) -> list[Json]:
    """A panel for each metric of a training stage."""
    panels: list[Json] = []
    for curve in curves:
        name = NAMES.get(curve.metric, curve.metric)
        note = f"{curve.left_out:,} values that are no finite number left out" if curve.left_out else ""
        panels.append({"title": name, "note": note, "svg": charts.curve(f"{stage}: {name}", curve.points)})
    return panels


def _accuracy(split: str, rows: Sequence[Json], colours: Mapping[str, int]) -> Json:
    title = f"Accuracy on {plain(split)}"
    problems = max(row["n"] for row in rows)
    note = f"Right answers with 95 % intervals, {problems:,} problems a model."
    return {"title": title, "note": note, "svg": charts.bars(title, [_mark(row, colours) for row in rows])}


def _skills(split: str, rows: Sequence[Json], colours: Mapping[str, int]) -> Json:
    names = list(dict.fromkeys((row["task"], row["skill"]) for row in rows))[:MAX_GROUPS]
    groups = [
        (
            plain(skill or task),
            [_mark(row, colours) for row in rows if (row["task"], row["skill"]) == (task, skill)],
        )
        for task, skill in names
    ]
    title = f"By skill on {plain(split)}"
    return {
        "title": title,
        "note": _legend_note(rows),
        "legend": _legend(rows, colours),
        "svg": charts.dots(title, groups),
    }


def _steps(rows: Sequence[Json], colours: Mapping[str, int], inside: int | None) -> list[Json]:
    """Accuracy against the number of steps: the first split with `longer` behind it, then the others."""
    splits = _by("split", rows)
    if not splits:
        return []
    first = next(iter(splits))
    joined = {first: splits[first] + (splits.get("longer", []) if first != "longer" else [])}
    joined |= {split: part for split, part in splits.items() if split not in (first, "longer")}
    found: list[Json] = []
    for split, part in joined.items():
        if len({row["steps"] for row in part}) < 2:
            continue
        beyond = split == first and "longer" in splits and inside is not None
        title = f"Accuracy by number of steps, {plain(split)}" + (" and longer" if beyond else "")
        picture = charts.lines(title, _series(part, colours), "reasoning steps that the problem needs", inside)
        found.append({"title": title, "note": _legend_note(part), "legend": _legend(part, colours), "svg": picture})
    return found


def _series(rows: Sequence[Json], colours: Mapping[str, int]) -> list[Series]:
    series: list[Series] = []
    for model, part in _by("model", rows).items():
        by_steps = {row["steps"]: row for row in reversed(part)}  # a length in two splits: the first one's row stays
        ordered = [by_steps[steps] for steps in sorted(by_steps)[:MAX_STEPS]]
        series.append(Series(model, colours[model], [_mark(row, colours, row["steps"]) for row in ordered]))
    return series


def _tradeoffs(
    rows: Sequence[Json], costs: Mapping[str, Json], colours: Mapping[str, int], limits: Mapping[str, float]
) -> list[Json]:
    """Accuracy against parameters, memory, time, energy, money and tokens, with the Pareto front."""
    found: list[Json] = []
    for column, title, (x_label, unit), value in _axes(costs):
        placed = [(row, x) for row in rows if (x := value(row, costs.get(row["model"], {}))) and x > 0]
        if placed:
            marks = [_mark(row, colours, x) for row, x in placed]
            counted = [(x, row["accuracy"]) for row, x in placed if not row["withheld"]]
            front = [point for point, on in zip(counted, pareto(counted), strict=True) if on]
            note = f"Split {plain(rows[0]['split'])}. Up and to the left is better; the line is the Pareto front."
            svg = charts.scatter(title, marks, x_label, unit, front, limits.get(column))
            found.append({"title": title, "note": note, "svg": svg})
    return found


def of_published(rows: Sequence[Json], colours: Mapping[str, int]) -> list[Json]:
    """Accuracy against size on each task that is a published benchmark: measured dots, published rings."""
    found: list[Json] = []
    for benchmark, part in _by("benchmark", rows).items():
        sized = [row for row in part if row["parameters"] and row["accuracy"] is not None]
        if not {"measured", "published"} <= {row["origin"] for row in sized}:
            continue
        marks = [_published_mark(row) if row["origin"] == "published" else _beside_mark(row, colours) for row in sized]
        title = f"Accuracy against size on {plain(benchmark)}, measured and published"
        note = "Dots: measured here, with 95 % intervals. Rings: published by others, under other protocols."
        found.append({"title": title, "note": note, "svg": charts.scatter(title, marks, "parameters", "")})
    return found


def _axes(costs: Mapping[str, Json]) -> list[tuple[str, str, tuple[str, str], Callable[[Json, Json], float | None]]]:
    """Column, title, label with unit, and value of each thing that accuracy is weighed against."""
    currencies = {cost.get("currency") for cost in costs.values() if cost.get("money_per_answer") is not None}
    origins = {cost.get("energy_origin") for cost in costs.values()} - {None, "measured"}
    joules = "joules per answer" + (", estimated" if origins else "")

    named = [
        ("parameters", "Accuracy against size", ("parameters", "")),
        ("peak_memory_bytes", "Accuracy against memory", ("peak memory", "B")),
        ("seconds_per_answer", "Accuracy against time", ("seconds per answer, batched", "s")),
        ("joules_per_answer", "Accuracy against energy", (joules, "J")),
    ]
    if len(currencies) == 1:  # prices in two currencies cannot stand on one axis
        label = f"{currencies.pop()} per answer"
        named.append(("money_per_answer", "Accuracy against money", (label, "")))

    def of(name: str) -> Callable[[Json, Json], float | None]:
        return lambda row, cost: cost.get(name)

    tokens = ("tokens", "Accuracy against tokens", ("tokens per answer, thinking included", ""), _tokens)
    return [*((column, title, label, of(column)) for column, title, label in named), tokens]


def _published_mark(row: Json) -> Mark:
    hint = f"{plain(row['model'])}: {percent(row['accuracy'])}, published: {row['protocol']}; {row['source']}"
    value = min(1.0, max(0.0, row["accuracy"]))
    return Mark(plain(row["model"]), value, value, value, 0, hint, row["parameters"], hollow=True)


def _beside_mark(row: Json, colours: Mapping[str, int]) -> Mark:
    return _mark({**row, "steps": None}, colours, row["parameters"])


def _tokens(row: Json, cost: Json) -> float | None:
    return None if row["answer_tokens"] is None else row["answer_tokens"] + row["thinking_tokens"]


def _pairs(split: str, rows: Sequence[Json]) -> Json | None:
    marks = [
        Mark(
            label=f"{plain(row['b'])} minus {plain(row['a'])}",
            value=row["difference"],
            low=row["low"],
            high=row["high"],
            hint=f"{row['wording']}; n {row['n']:,}, p = {row['p_holm']:.3g}",
        )
        for row in rows[: 2 * MAX_MODELS]
        if row["difference"] is not None
    ]
    if not marks:
        return None
    title = f"Differences on {plain(split)}, in points"
    note = "Paired by problem, 95 % intervals. One that holds zero shows no difference."
    return {"title": title, "note": note, "svg": charts.forest(title, marks)}


def _mark(row: Json, colours: Mapping[str, int], x: float = 0.0) -> Mark:
    steps = "" if row["steps"] is None else f", {row['steps']} steps"
    hint = f"{plain(row['model'])}{steps}: {percent(row['accuracy'])} ({interval(row)}), n {row['n']:,}"
    return Mark(plain(row["model"]), row["accuracy"], row["low"], row["high"], colours[row["model"]], hint, x)


def _legend(rows: Sequence[Json], colours: Mapping[str, int]) -> list[tuple[str, int]]:
    return [(model, colours[model] % charts.COLOURS) for model in _by("model", rows)]


def _legend_note(rows: Sequence[Json]) -> str:
    low, high = min(row["n"] for row in rows), max(row["n"] for row in rows)
    return (
        f"95 % intervals; {low:,} problems each."
        if low == high
        else f"95 % intervals; {low:,} to {high:,} problems each."
    )


def _by(name: str, rows: Sequence[Json]) -> dict[str, list[Json]]:
    parts: dict[str, list[Json]] = {}
    for row in rows:
        parts.setdefault(row[name], []).append(row)
    return parts
