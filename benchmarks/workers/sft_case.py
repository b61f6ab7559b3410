"""The same documents for every trainer that is measured: worked solutions of the six skills."""

from __future__ import annotations

from typing import Any

from ponder.stages._tasks import draw_problems, open_tasks


def documents_of(case: dict[str, Any]) -> list[tuple[str, str]]:
    """Prompt and worked response of every row of all steps."""
    tasks = open_tasks([{"use": "skills", "max_steps": 4}])
    problems = draw_problems(tasks, "train", case["steps"] * case["rows"], seed=0)
    return [(problem.prompt, problem.meta["solution"]) for problem in problems]
