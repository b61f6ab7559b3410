"""The study of distillation: from a run of recipes/distillation-study.yaml to one small file, and to its tables.

`python docs/_study.py collect runs/NAME` writes docs/results/NAME.json: for every model which of
the shared problems it solved (one bit each), what its training computed, and what the teacher read and wrote. The
tables in docs/distillation.md are made from that file alone.

Operations are counted, not timed: 2 a parameter and token for reading and sampling, 6 for learning, embeddings left
out nowhere. They do not depend on the machine.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]

from ponder.core.types import Outcome, Trace  # noqa: E402
from ponder.measure.stats import clustered_rate, holm, paired_difference  # noqa: E402
from ponder.report.evaluations import find_evaluations  # noqa: E402
from ponder.runs.store import read_rows  # noqa: E402

STORED = ROOT / "docs" / "results"
READ, LEARN = 2, 6
"""Operations a parameter and token."""


# From a run to the file.


def collect(run: Path) -> dict[str, Any]:
    """Everything the tables need, from a finished run."""
    recipe = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))["stage"]
    (evaluation,) = find_evaluations(run)
    problems: list[str] = []
    models = []
    for label in evaluation.labels:
        rows = evaluation.rows_of(label)
        found = {row["problem"]["id"]: row["verdict"]["outcome"] == Outcome.CORRECT for row in rows}
        problems = problems or sorted(found)
        bits = "".join("1" if found[problem] else "0" for problem in problems)
        models.append({"label": label, "bits": bits, **_costs(run, recipe, evaluation.model_name(label))})
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    return {"problems": len(problems), "recipe_seed": manifest["seed"], "models": models}


def _costs(run: Path, recipe: dict[str, Any], model: str) -> dict[str, Any]:
    """Operations and teacher tokens behind a model; of all the stages that it went through."""
    stage, _, step = model.partition("@")
    if stage not in recipe or recipe[stage]["use"] == "prune":
        return dict.fromkeys(("learnt", "sampled", "asked", "written"), 0)
    total = _costs(run, recipe, recipe[stage]["model"])
    rows = [json.loads(line) for line in (run / stage / "metrics.jsonl").read_text().splitlines()]
    rows = rows[: int(step)] if step else rows
    counts = {name: sum(int(row.get(name, 0)) for row in rows) for name in ("tokens", "read", "sampled", "scored")}
    written, packed = _teacher_text(run, recipe, stage, len(rows))
    return {
        "learnt": total["learnt"] + counts["tokens"],
        "sampled": total["sampled"] + counts["read"] + counts["sampled"],
        "asked": total["asked"] + counts["scored"] + packed,
        "written": total["written"] + written,
    }


def _teacher_text(run: Path, recipe: dict[str, Any], stage: str, steps: int) -> tuple[int, int]:
    """Tokens of the distinct traces that were learnt from: written by the teacher, and read by it for a pack."""
    source = recipe[stage].get("traces")
    if source is None:
        return 0, 0
    pack = recipe[source]["use"] == "pack"
    traces = run / (recipe[source]["traces"] if pack else source) / "traces.parquet"
    right = [t for t in map(Trace.model_validate, read_rows(traces)) if t.verdict.outcome is Outcome.CORRECT]
    if recipe[stage]["use"] == "reinforce":
        share = 1 - recipe[stage]["on_policy"]
        used = steps * recipe[stage]["problems_per_step"] * recipe[stage]["group_size"] * share
    else:
        used = steps * recipe[stage]["examples_per_step"]
    seen = min(1.0, used / len(right))
    wrote = sum(t.completion.usage.completion_tokens for t in right)
    read = sum(t.completion.usage.prompt_tokens + t.completion.usage.completion_tokens for t in right)
    return round(seen * wrote), round(seen * read) if pack else 0


# From the file to tables.


def load(name: str) -> dict[str, Any]:
    """A stored study."""
    return json.loads((STORED / f"{name}.json").read_text(encoding="utf-8"))


def operations(model: dict[str, Any], sizes: dict[str, int]) -> float:
    """Operations of training: learning, sampling, and asking the teacher; not the teacher's writing."""
    student = LEARN * model["learnt"] + READ * model["sampled"]
    return student * sizes["student"] + READ * model["asked"] * sizes["teacher"]


def arms(study: dict[str, Any]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Models by arm and budget; the seeds of one cell are neighbours. Labels are ARM-SEED or ARM-SEED-BUDGET."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for model in study["models"]:
        match = re.fullmatch(r"(.+?)-(\d)(?:-(\w+))?", model["label"])
        arm, budget = (match[1], match[3] or "full") if match else (model["label"], "full")
        found[arm][budget].append(model)
    return found


def matrix(models: list[dict[str, Any]]) -> np.ndarray:
    """(seeds, problems) of right answers."""
    return np.array([[int(bit) for bit in model["bits"]] for model in models])


def study_table(name: str) -> str:
    """Accuracy of every arm at every budget, with what it cost."""
    study = load(name)
    lines = [
        "| arm | budget | training, 10^12 operations | teacher wrote, tokens | teacher read, tokens "
        "| accuracy (interval) | seeds |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for arm, budgets in arms(study).items():
        for budget, models in sorted(budgets.items(), key=lambda item: _mean(item[1], study)):
            right = matrix(models)
            rate = clustered_rate(right.sum(0), np.full(right.shape[1], len(models)))
            seeds = ", ".join(f"{100 * row.mean():.1f}" for row in right)
            written, asked = (round(np.mean([m[key] for m in models])) for key in ("written", "asked"))
            lines.append(
                f"| `{arm}` | {budget} | {_mean(models, study) / 1e12:.2f} | {written:,} | {asked:,} | "
                f"**{100 * rate.estimate:.1f} %** ({100 * rate.low:.1f} to {100 * rate.high:.1f}) | {seeds} |"
            )
    return "\n".join(lines)


def differences(argument: str) -> str:
    """Paired differences `STUDY/A:B/C:D` (B minus A), corrected for their number (Holm); `ARM.half` is a budget."""
    found = []
    name, *pairs = argument.split("/")
    cells = arms(load(name))
    for pair in pairs:
        first, second = pair.split(":")
        a, b = (_scores(cells, name) for name in (first, second))
        found.append((first, second, paired_difference(a, b)))
    corrected = holm([difference.p for *_, difference in found])
    lines = ["| difference | points (interval) | p (Holm) | |", "|---|--:|--:|---|"]
    for (first, second, difference), p in zip(found, corrected, strict=True):
        low, high = (100 * bound for bound in (difference.interval.low, difference.interval.high))
        points = 100 * difference.interval.estimate
        said = "no difference shown" if p >= 0.05 else f"`{second if points > 0 else first}` is higher"
        shown = "< 0.001" if p < 0.001 else f"{p:.3f}"
        lines.append(f"| `{second}` - `{first}` | {points:+.1f} ({low:+.1f} to {high:+.1f}) | {shown} | {said} |")
    return "\n".join(lines)


def _scores(cells: dict[str, dict[str, list[dict[str, Any]]]], name: str) -> np.ndarray:
    """(problems,) share of the seeds that were right."""
    arm, _, budget = name.partition(".")
    return matrix(cells[arm][budget or "full"]).mean(0)


def _mean(models: list[dict[str, Any]], study: dict[str, Any]) -> float:
    return float(np.mean([operations(model, study["sizes"]) for model in models]))


if __name__ == "__main__":
    content = collect(Path(sys.argv[2]))
    content["sizes"] = {"student": 353_344, "teacher": 2_918_080}
    name = yaml.safe_load((Path(sys.argv[2]) / "recipe.yaml").read_text(encoding="utf-8"))["name"]
    (STORED / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
