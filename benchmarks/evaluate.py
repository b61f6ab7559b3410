"""Evaluation on GSM8K's questions, against lm-evaluation-harness with its hf back-end.

Same model, prompts (the bare question in the model's chat template), greedy decoding and token limit. The harness keeps
its model between turns; Ponder loads it each time and also stores every trace.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.turns import Side, compare, options, publish, table
from ponder.core.errors import ConfigurationError
from ponder.core.types import Json
from ponder.models.load import resolve_model

CASES: dict[str, Json] = {
    "pocket-teacher": {"model": "pocket-teacher", "problems": 256, "new_tokens": 256},
}
BATCHES = (32, 128, 256)
"""Of the harness; the best one counts."""


def main() -> None:
    """Measure the chosen models."""
    parser = options(__doc__, CASES)
    parser.add_argument("--data", type=Path, required=True, help="GSM8K rows as JSONL: question, answer")
    asked = parser.parse_args()
    if not asked.data.exists():
        raise ConfigurationError("there is no such file", where=str(asked.data), fix="name GSM8K's JSONL with --data")
    results: Json = {}
    for name in asked.case or CASES:
        case = CASES[name]
        plan = {**case, "model": str(resolve_model(case["model"])), "data": str(asked.data.resolve())}
        sides = [Side("ponder", "ponder_eval")]
        sides += [Side(f"lm_eval {size}", "lm_eval", "hf", {"dtype": "float32", "batch": size}) for size in BATCHES]
        results[name] = {"workload": case, **compare(sides, plan, asked.pairs)}
        print(table(name, results[name], "problems"), flush=True)
    publish("evaluate", results, asked.json)


if __name__ == "__main__":
    sys.exit(main())
