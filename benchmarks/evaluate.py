"""Evaluation on GSM8K's questions, against lm-evaluation-harness with its hf back-end.

Same model, prompts (the bare question in the model's chat template), greedy decoding and token limit. The harness keeps
its model between turns; Ponder loads it each time and also stores every trace.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from benchmarks.turns import Side, compare_choices, options, run_cases
from ponder.core.errors import ConfigurationError
from ponder.core.types import Json
from ponder.models.load import resolve_model

CASES: dict[str, Json] = {
    "pocket-teacher": {"model": "pocket-teacher", "problems": 256, "new_tokens": 256},
}
BATCHES = (8, 32)
"""Of the harness; the best one counts. 128 and 256 were slower still (13 and 4 problems/s where 32 did 22)."""


def measure(name: str, asked: Namespace, _: Path) -> Json:
    """One model."""
    if not asked.data.exists():
        raise ConfigurationError("there is no such file", where=str(asked.data), fix="name GSM8K's JSONL with --data")
    case = CASES[name]
    plan = {**case, "model": str(resolve_model(case["model"])), "data": str(asked.data.resolve())}
    peers = [Side(f"lm_eval {size}", "lm_eval", "hf", {"dtype": "float32", "batch": size}) for size in BATCHES]
    return {"workload": case, **compare_choices(Side("ponder", "ponder_eval"), peers, plan, asked.pairs)}


def main() -> int:
    """Measure the chosen models."""
    parser = options(__doc__, CASES)
    parser.add_argument("--data", type=Path, required=True, help="GSM8K rows as JSONL: question, answer")
    return run_cases("evaluate", parser, CASES, measure, "problems")


if __name__ == "__main__":
    sys.exit(main())
