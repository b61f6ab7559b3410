"""The result table in plain text, for a terminal, a log or a README."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ponder.core.types import Json
from ponder.report import games

HEAD = (
    "model",
    "accuracy",
    "95 % interval",
    "n",
    "truncated",
    "unknown",
    "reasons",
    "tokens",
    "s/answer",
    "size",
)
COST_HEAD = (
    "cost",
    "s/answer",
    "s/correct",
    "J/answer",
    "J/correct",
    "money/answer",
    "money/correct",
    "memory",
    "energy",
)
PER = ("answer", "correct")
MAX_LABEL = 40
MAX_WORDS = 200
MAX_SKILLS = 24


def table(numbers: Json) -> str:
    """Aligned tables: every model per split, its differences, and the split's skills side by side."""
    blocks = [_block(numbers, evaluation) for evaluation in numbers["evaluations"]]
    return "\n\n".join(blocks) if blocks else "no evaluation in this run yet"


def _block(numbers: Json, evaluation: Json) -> str:
    stage = evaluation["stage"]
    rows = [row for row in numbers["models"] if row["stage"] == stage]
    costs = {row["model"]: row for row in numbers["costs"] if row["stage"] == stage}
    parts: list[str] = []
    for split in dict.fromkeys(row["split"] for row in rows):
        here = [row for row in rows if row["split"] == split]
        overall = [row for row in here if row["task"] is None and row["steps"] is None]
        lines = [_cells(row, costs.get(row["model"], {})) for row in overall]
        title = f"{stage}, split {plain(split)}: {sampling(evaluation)}"
        parts.append("\n".join([title, *align([HEAD, *lines])]))
        pairs = [row for row in numbers["pairs"] if row["stage"] == stage and row["split"] == split]
        parts += ["\n".join(align([_pair_cells(row) for row in pairs], left=(0, 4)) + legend(pairs))] if pairs else []
        parts += _skills(here)
        parts += ["\n".join(lines)] if (lines := program_lines(here)) else []
        parts += _fronts([row for row in numbers.get("fronts", ()) if (row["stage"], row["split"]) == (stage, split)])
    parts += _costs(list(costs.values()))
    parts += _deploy([row for row in numbers.get("deploy", ()) if row["stage"] == stage])
    parts += _lengths([row for row in numbers.get("lengths", ()) if row["stage"] == stage])
    parts += _games([row for row in numbers.get("games", []) if row["stage"] == stage])
    notes = [] if evaluation["complete"] else ["(not finished: what is stored so far)"]
    if any(row["withheld"] for row in rows):
        notes.append("withheld: more than 1 % of the answers could not be judged")
    return "\n\n".join(parts + notes)


def sampling(evaluation: Json) -> str:
    """How the answers were drawn, in a few words."""
    drawn = evaluation["sampling"]
    how = "greedy" if drawn["temperature"] == 0 else f"temperature {drawn['temperature']:g}"
    how += f", top-p {drawn['top_p']:g}" if drawn.get("top_p", 1) < 1 else ""
    how += f", top-k {drawn['top_k']}" if drawn.get("top_k") else ""
    many = f", {evaluation['samples']} samples" if evaluation["samples"] > 1 else ""
    figures = f"{how}{many}, at most {drawn['max_new_tokens']} tokens, seed {evaluation['seed']}"
    protocol = evaluation.get("protocol")
    return f"protocol {protocol['name']}{_changed(protocol)}: {figures}" if protocol else figures


def _changed(protocol: Json) -> str:
    """Where a protocol was not followed."""
    changed = {
        f"{plain(task)} {key} {figure['used']} instead of {figure['published']}"
        for task, asked in protocol["tasks"].items()
        for key, figure in asked["differs"].items()
    }
    return f" ({'; '.join(sorted(changed))})" if changed else ""


def percent(value: float | None) -> str:
    """A share for people.

    Example:
        >>> percent(0.1234), percent(None)
        ('12.3 %', '-')
    """
    return "-" if value is None else f"{100 * value:.1f} %"


def score(row: Json) -> str:
    """An accuracy for people, unless too many answers could not be judged.

    Example:
        >>> score({"accuracy": None, "withheld": True}), score({"accuracy": 0.5, "withheld": False})
        ('withheld', '50.0 %')
    """
    return "withheld" if row["withheld"] else percent(row["accuracy"])


def chance(p: float | None) -> str:
    """A p-value for people.

    Example:
        >>> chance(0.0001), chance(0.25), chance(None)
        ('p < 0.001', 'p = 0.250', '')
    """
    if p is None:
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def interval(row: Json, scale: str = "{:.1f}") -> str:
    """The bounds of a row in points."""
    if row["low"] is None:
        return "-"
    return f"{scale.format(100 * row['low'])} to {scale.format(100 * row['high'])}"


def quantity(count: float | None, unit: str = "") -> str:
    """A count with a prefix.

    Example:
        >>> quantity(4_210_000), quantity(950, "B"), quantity(None)
        ('4.2 M', '950 B', '-')
    """
    if count is None:
        return "-"
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f} {prefix}{unit}"
    return f"{count:g} {unit}".strip()


def significant(value: float | None) -> str:
    """Three significant digits, never in powers of ten.

    Example:
        >>> significant(0.01234), significant(1234.5), significant(None)
        ('0.0123', '1,234', '-')
    """
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def money(amount: float | None, currency: str | None) -> str:
    """An amount with its currency.

    Example:
        >>> money(0.00123, "USD"), money(None, "USD")
        ('USD 0.00123', '-')
    """
    return "-" if amount is None else f"{currency} {significant(amount)}"


def printable(text: object) -> str:
    """Text that cannot move the cursor; lines stay lines.

    Example:
        >>> printable(f"a{chr(27)}[2Jb")
        'a?[2Jb'
    """
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in str(text))


def plain(text: object, most: int = MAX_LABEL) -> str:
    """A name that cannot move the cursor or break a line, of bounded length."""
    shown = printable(text).replace("\n", "?")
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def _cells(row: Json, cost: Json) -> tuple[str, ...]:
    tokens = None if row["answer_tokens"] is None else row["answer_tokens"] + row["thinking_tokens"]
    return (
        plain(row["model"]),
        score(row),
        interval(row),
        f"{row['n']:,}",
        percent(row["truncated"]),
        percent(row["unknown"]),
        percent(row["reasons"]),
        significant(tokens),
        significant(cost.get("seconds_per_answer")),
        quantity(cost.get("parameters")),
    )


def _pair_cells(row: Json) -> tuple[str, ...]:
    name = f"{plain(row['b'])} - {plain(row['a'])}"
    if row["difference"] is None:
        return (name, "-", "", "", plain(row["wording"], MAX_WORDS))
    higher = plain(row["b"] if row["difference"] > 0 else row["a"])
    verdict = f"{higher} is higher" if row["shown"] else f"{plain(row['wording'], MAX_WORDS)} {able(row)}"
    points = f"{100 * row['difference']:+.1f} points"
    return (name, points, interval(row, "{:+.1f}"), chance(row["p_holm"]), verdict)


def able(row: Json) -> str:
    """What a comparison that showed nothing could have shown."""
    if row["detectable"] is None:
        return "(none could be)"
    return f"({math.ceil(1000 * row['detectable'] - 1e-9) / 10:.1f} would be)"


def legend(pairs: Sequence[Json]) -> list[str]:
    """How to read the differences, in a line."""
    notes: list[str] = []
    if any(row["power"] for row in pairs):
        notes.append("would be: the smallest difference that these problems show in 4 of 5 tries")
    count = max((row["comparisons"] for row in pairs), default=0)
    if count > 1:
        notes.append(f"p is corrected for {count} comparisons (Holm)")
    return ["; ".join(notes)] if notes else []


def program_lines(rows: Sequence[Json]) -> list[str]:
    """Of tasks judged by programs: the rating of whoever solves as much, and the tests that verdicts rest on."""
    rated = [row for row in rows if row.get("rating")]
    lines = [f"{plain(row['task'])}, {plain(row['model'])}: {_rating(row['rating'])}" for row in rated]
    found = {(row["task"], text): None for row in rows for text in row.get("tests", ())}
    return lines + [f"{plain(task)}: {plain(text, MAX_WORDS)}" for task, text in found]


def _rating(row: Json) -> str:
    """A rating in words, with its interval, its percentile and what it was estimated from."""
    if row["kind"] == "withheld":
        return "rating withheld: more than 1 % of the answers could not be judged"
    left_out = f", {row['without_difficulty']:,} without a difficulty left out" if row["without_difficulty"] else ""
    basis = f"{row['solved']:g} of {row['problems']:,} problems solved{left_out}"
    if row["kind"] == "none":
        return f"no rating: no graded problem has a difficulty ({basis})"
    key = {"estimate": "estimate", "at least": "low", "at most": "high"}[row["kind"]]
    value = f"{row[key]:,.0f}" if row["kind"] == "estimate" else f"{row['kind']} {row[key]:,.0f} (95 %)"
    suffix = "" if key == "estimate" else f"_{key}"
    share = row[f"percentile{suffix}"]
    bounds = f" (95 % {row['low']:,.0f} to {row['high']:,.0f})" if row["kind"] == "estimate" else ""
    above = "" if share is None else f", above {share:.1f} % of the contestants"
    return f"rating {value}{bounds}{above}; {basis}"


def _games(rows: Sequence[Json]) -> list[str]:
    """Games by model and opponent, with what has to be known to read them."""
    lines = [tuple(map(plain, games.cells(row))) for row in rows]
    return ["\n".join([*align([games.HEAD, *lines], left=(0, 1)), *games.notes(rows)])] if rows else []


def _costs(costs: Sequence[Json]) -> list[str]:
    """What an answer and a right answer cost, where energy or money is known."""
    if not any(cost.get("joules_per_answer") is not None or cost.get("money_per_answer") is not None for cost in costs):
        return []
    lines: list[tuple[str, ...]] = [COST_HEAD]
    for cost in costs:
        star = " *" if cost["per_correct_withheld"] else ""
        cells = [significant(cost[f"{name}_per_{per}"]) for name in ("seconds", "joules") for per in PER]
        cells += [money(cost[f"money_per_{per}"], cost["currency"]) for per in PER]
        cells = [cell + star * (index % 2) for index, cell in enumerate(cells)]
        memory = quantity(cost["peak_memory_bytes"], "B")
        lines.append((plain(cost["model"]), *cells, memory, cost["energy_origin"] or "unknown"))
    notes = dict.fromkeys(cost["energy_note"] for cost in costs if cost["energy_note"])
    return ["\n".join([*align(lines), *(f"energy: {printable(note)}" for note in notes)])]


def _fronts(fronts: Sequence[Json]) -> list[str]:
    """Which models are on the Pareto front of accuracy against each cost, where there are several."""
    lines = [
        (
            f"Pareto front, {row['axis'].replace('_', ' ')}",
            ", ".join(map(plain, row["front"]))
            + (f"; beaten, but close: {', '.join(map(plain, row['close']))}" if row["close"] else ""),
        )
        for row in fronts
        if row["front"] and len(row["front"]) + len(row["beaten"]) > 1
    ]
    width = max((len(name) for name, _ in lines), default=0)
    return ["\n".join(f"{name.ljust(width)}  {models}" for name, models in lines)] if lines else []


def _deploy(rows: Sequence[Json]) -> list[str]:
    """Which model to deploy, per split, in words."""
    return ["\n".join(f"deploy, split {plain(row['split'])}: {printable(row['why'])}" for row in rows)] if rows else []


def _skills(rows: Sequence[Json]) -> list[str]:
    """Accuracy by skill, a column per model."""
    rows = [row for row in rows if row["task"] is not None and row["steps"] is None]
    models = list(dict.fromkeys(row["model"] for row in rows))
    names = list(dict.fromkeys((row["task"], row["skill"]) for row in rows))[:MAX_SKILLS]
    if len(names) < 2:
        return []
    cells = {(row["task"], row["skill"], row["model"]): score(row) for row in rows}
    lines = [
        (plain(skill or task), *(cells.get((task, skill, model), "-") for model in models)) for task, skill in names
    ]
    return ["\n".join(align([("by skill", *map(plain, models)), *lines, *_macros(rows, models)]))]


def _macros(rows: Sequence[Json], models: Sequence[str]) -> list[tuple[str, ...]]:
    """The mean over the skills of every task that has several."""
    found = {(row["task"], row["model"]): row for row in rows if "macro" in row}
    return [
        (f"{plain(task)}, mean over skills", *(_macro(found.get((task, model))) for model in models))
        for task in dict.fromkeys(task for task, _ in found)
    ]


def _macro(row: Json | None) -> str:
    if row is None or row["macro"] is None:
        return "-"
    return f"{percent(row['macro'])} ({100 * row['macro_low']:.1f} to {100 * row['macro_high']:.1f})"


def _lengths(rows: Sequence[Json]) -> list[str]:
    """The share of steps that go right, by skill, a column per model."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    blocks: list[str] = []
    for split in dict.fromkeys(row["split"] for row in rows):
        here = [row for row in rows if row["split"] == split]
        names = list(dict.fromkeys((row["task"], row["skill"]) for row in here))[:MAX_SKILLS]
        cells = {(row["task"], row["skill"], row["model"]): _step(row, len(models) <= 4) for row in here}
        lines = [
            (plain(skill or task), *(cells.get((task, skill, model), "-") for model in models)) for task, skill in names
        ]
        title = f"steps that go right, split {plain(split)}:"
        blocks.append("\n".join([title, *align([("by skill", *map(plain, models)), *lines])]))
    return blocks


def _step(row: Json, bounds: bool) -> str:
    if row["step"] is None:
        return "withheld"
    if row["geometric"] is False:
        return "no one rate"
    if row["step_high"] >= 1:
        return f"at least {percent(row['step_low'])}"
    around = f" ({100 * row['step_low']:.1f} to {100 * row['step_high']:.1f})" if bounds else ""
    return percent(row["step"]) + around


def align(lines: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """Columns of equal width, the first to the left and the others to the right unless `left` names them."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
