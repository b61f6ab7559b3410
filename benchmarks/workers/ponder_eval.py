"""Evaluation by Ponder's `evaluate` stage: all problems, once a turn."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.workers.turns import case, take_turns
from ponder.runs.log import Log
from ponder.runs.store import StageFolder
from ponder.stages._stage import Context
from ponder.stages.evaluate import Evaluate


def main() -> None:
    """Evaluate the model on the file, loading it each time as the command does."""
    plan = case()
    stage = Evaluate(
        models={"model": plan["model"]},
        tasks=({"use": "gsm8k", "path": plan["data"], "test_share": 1.0},),
        limit=plan["problems"],
        temperature=0.0,
        max_new_tokens=plan["new_tokens"],
    )

    def work() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            context = Context(StageFolder(Path(folder) / "evaluate"), 0, Log("silent"), lambda name: None)
            stage(context)
        return {"count": plan["problems"]}

    take_turns(work, "ponder", "torch", "transformers")


main()
