"""Fine-tuning on worked solutions, against TRL's SFTTrainer in its faster mode.

Same weights, rows (64 an optimiser step, loss on the response alone) and optimiser. TRL gets `TRL_SETTINGS`, chosen at
`3m` by `--tune`, which tries padded and packed rows, dtypes and batches.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from benchmarks import shapes
from benchmarks.turns import Side, choices, compare_choices, options, run_cases
from ponder.core.types import Json

CASES: dict[str, Json] = {
    "3m": {"model": "3m", "rows": 64},
    "25m": {"model": "25m", "rows": 64},
    "smollm2-135m": {"model": "smollm2-135m", "rows": 32},
}
LR = 1e-5
TRL_SETTINGS: dict[str, list[Json]] = {
    name: [
        {"dtype": dtype, "attention": "sdpa", "batch": case["rows"], "packing": False}
        for dtype in ("autocast", "bfloat16")
    ]
    for name, case in CASES.items()
}
"""The two that were equally fast at `3m`; the better one counts."""


def trl_settings(case: Json) -> list[Json]:
    """What `--tune` tries."""
    padded = [
        {"dtype": dtype, "attention": "sdpa", "batch": batch, "packing": False}
        for dtype in ("float32", "autocast", "bfloat16")
        for batch in (case["rows"], case["rows"] // 4)
    ]
    packed = [{"dtype": "autocast", "attention": "sdpa", "batch": 16, "packing": True}]
    return padded + packed


def measure(name: str, asked: Namespace, folder: Path) -> Json:
    """One shape."""
    case = CASES[name]
    settings = trl_settings(case) if asked.tune else TRL_SETTINGS[name]
    plan = {**case, "model": str(shapes.make(case["model"], folder)), "steps": asked.pairs + 2, "lr": LR}
    own = Side("ponder", "ponder_sft", settings={"autocast": True})
    peers = choices("trl", "trl_sft", "hf", settings)
    return {"workload": case, **compare_choices(own, peers, plan, asked.pairs)}


def main() -> int:
    """Measure the chosen shapes."""
    parser = options(__doc__, CASES)
    parser.add_argument("--tune", action="store_true", help="try all settings of TRL instead of the chosen one")
    return run_cases("finetune", parser, CASES, measure, "tokens")


if __name__ == "__main__":
    sys.exit(main())
